"""A gateway before a stand-in for a Kubernetes API server, and kubectl below `corral run`."""

import json
import pathlib
import shutil
import subprocess
import sys

from .gateway import COMMAND_DEADLINE_S, Gateway
from .kube_standin import TOKEN, KubeStandin

PODS = "/api/v1/namespaces/dev/pods"
PASSWORD = "horse-battery"
SECRET_VALUE = "aHVudGVyMi1vZi10aGUtc2hvcA=="

MANIFEST = """
kind: User
name: ada@example.com
groups: [agents]
password: {{value: {password}}}
---
kind: User
name: grace@example.com
groups: [ops]
password: {{value: {password}}}
---
kind: Policy
name: kube
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write"],
          resource in Corral::Target::"prod");
  @id("calm") @reason("Nothing is written in prod.")
  forbid (principal, action in Corral::Action::"write", resource in Corral::Namespace::"prod/prod");
  @id("deletes") @approval("ops") @reason("Deletions need approval.")
  forbid (principal, action == Corral::Action::"kube_delete", resource in Corral::Target::"prod");
  @id("images") @reason("Only images of the shop.")
  forbid (principal, action in Corral::Action::"write", resource in Corral::Target::"prod")
  when {{ context has images && context.images.contains("evil") }};
---
kind: Target
name: prod
protocol: kubernetes
address: 127.0.0.1:{port}
tls: {{mode: verify-full, ca_file: {ca_file}}}
credential: {{token: {{value: {token}}}}}
options: {{impersonate: principal}}
"""


def kubectl_program():
    """kubectl of the tests' Python, else the machine's own."""
    beside = pathlib.Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else shutil.which("kubectl")


class Kube:
    """A gateway in front of a stand-in."""

    def __init__(self):
        self.api = KubeStandin()
        self.gateway = None
        try:
            self.gateway = Gateway()
            self.apply()
        except BaseException:
            self.close()
            raise
        self.api.put("secrets", "dev", {
            "kind": "Secret", "apiVersion": "v1", "metadata": {"name": "db"},
            "data": {"password": SECRET_VALUE}})

    def apply(self, more=""):
        """The whole configuration, with more keys of the target."""
        manifest = MANIFEST.format(password=PASSWORD, port=self.api.port,
                                   ca_file=self.api.ca_file, token=TOKEN)
        self.gateway.apply(manifest + more)

    def close(self):
        if self.gateway:
            self.gateway.close()
        self.api.close()
        shutil.rmtree(self.api.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, name="executor"):
        login = self.gateway.login("ada@example.com", PASSWORD)
        return self.gateway.start_run(name, login)

    def words(self, *arguments):
        return [str(self.gateway.program), "run", "--name", "executor", "--target", "prod", "--",
                kubectl_program(), *arguments]

    def kubectl(self, *arguments, stdin=None, expect=0):
        """Plain kubectl below `corral run`, which gives it its kubeconfig."""
        token = self.gateway.login("ada@example.com", PASSWORD)
        result = subprocess.run(
            self.words(*arguments), text=True, capture_output=True, input=stdin or "",
            env=self.gateway.client_env(token), timeout=COMMAND_DEADLINE_S,
            cwd=self.gateway.folder)
        assert expect is None or result.returncode == expect, result
        return result

    def start_kubectl(self, *arguments):
        token = self.gateway.login("ada@example.com", PASSWORD)
        return subprocess.Popen(
            self.words(*arguments), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self.gateway.client_env(token), cwd=self.gateway.folder,
            start_new_session=True)

    def connection(self):
        return self.gateway.https()

    def ask(self, method, path, token, body=None, connection=None, **headers):
        """Status and parsed body of one request."""
        connection = connection or self.connection()
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/k8s/prod{path}", body=body, headers=sent)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None


def pending(kube):
    found = kube.gateway.json("approvals", "list")
    return [approval for approval in found if approval["state"] == "pending"]


def approve(kube, approval):
    grace = kube.gateway.login("grace@example.com", PASSWORD)
    kube.gateway.run("approvals", "approve", approval, "--reason", "gone", token=grace)
