"""The pipelines of examples/ci: their own scripts, as GitHub, GitLab and a cluster would run them,
with tokens of each platform's shape."""

import pathlib
import subprocess
import time

import pytest
import yaml

from harness.ci import GitHubActions
from harness.gateway import COMMAND_DEADLINE_S, Gateway, binary
from harness.issuer import Issuer

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "ci"
ISSUERS = ("https://token.actions.githubusercontent.com", "https://gitlab.example.com",
           "https://kubernetes.default.svc.cluster.local")
KEYS_OF_CLUSTER = "https://10.0.0.1:6443/openid/v1/jwks"
REST = """
kind: Target
name: orders-db
protocol: postgres
address: 127.0.0.1:1
database: orders
credential: {username: nobody, password: {value: unused}}
---
kind: Policy
name: agents
cedar: |
  permit (principal in Corral::Group::"agents", action, resource);
"""
# What the jobs call their planner: it says that it was started, and starts an executor.
PLANNER = """
import os, subprocess
assert os.environ["CORRAL_TOKEN"].startswith("crl_")
subprocess.run(["corral", "run", "--name", "executor", "--", "true"], check=True)
print("planned")
"""


class Pipelines:
    """A gateway that trusts issuers on loopback in the place of the three platforms."""

    def __init__(self):
        self.ci, self.gitlab, self.cluster = GitHubActions(), Issuer(), Issuer()
        self.gateway = Gateway()
        text = (EXAMPLES / "trust.yaml").read_text()
        for address, issuer in zip(ISSUERS, (self.ci, self.gitlab, self.cluster)):
            assert address in text
            text = text.replace(address, issuer.url)
        text = text.replace(KEYS_OF_CLUSTER, f"{self.cluster.url}/keys")
        self.gateway.apply(text + "---" + REST)
        self.folder = self.gateway.folder / "checkout"
        self.folder.mkdir()
        (self.folder / "planner.py").write_text(PLANNER)

    def example(self, name):
        return list(yaml.safe_load_all((EXAMPLES / name).read_text()))[-1]

    def run(self, words, env):
        """In a checkout, with what the runner's image has and what the job is given."""
        given = self.gateway.client_env() | env
        if "CORRAL_TOKEN" not in env:
            del given["CORRAL_TOKEN"]
        given["PATH"] = f"{binary().parent}:{given['PATH']}"
        return subprocess.run(words, env=given, cwd=self.folder, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=COMMAND_DEADLINE_S)

    def root(self, principal):
        """The only root run of a workload, its planner's process, and that one's child."""
        (root,) = [run for run in self.gateway.json("runs", "tree")
                   if run["principal"] == principal]
        (planner,) = root["children"]
        assert planner["name"].startswith("planner.py-")
        return (root["name"], root["sponsor"], root["state"],
                [child["name"] for child in planner["children"]])

    def close(self):
        self.gateway.close()
        for issuer in (self.ci, self.gitlab, self.cluster):
            issuer.close()


@pytest.fixture
def pipelines():
    opened = Pipelines()
    yield opened
    opened.close()


ENDED_ROOT = ("planner", "ada@example.com", "ended", ["executor"])


def github_step(pipelines):
    workflow = pipelines.example("github-actions.yml")
    assert workflow["permissions"]["id-token"] == "write"
    (step,) = [step for step in workflow["jobs"]["report"]["steps"] if "run" in step]
    return step["run"]


def test_a_github_job_is_a_root_run_of_whoever_started_it(pipelines):
    # As a runner calls it: bash -e.
    step = ["bash", "-e", "-c", github_step(pipelines)]
    job = pipelines.ci.start_job(actor="ada", actor_id="583231")
    done = pipelines.run(step, job)
    assert done.returncode == 0 and "planned" in done.stdout, done
    assert pipelines.root("reports-on-github") == ENDED_ROOT
    again = pipelines.run(step, job)
    assert again.returncode == 3 and "planned" not in again.stdout, again
    assert pipelines.root("reports-on-github") == ENDED_ROOT


@pytest.mark.parametrize("job", [
    {"actor": "stranger", "actor_id": "1"},
    {"actor": "ada", "actor_id": "583231", "repository": "fork/reports"},
    {"actor": "ada", "actor_id": "583231", "ref": "refs/heads/mine"},
    {"actor": "ada", "actor_id": "583231", "event": "schedule"},
], ids=["stranger", "fork", "branch", "schedule"])
def test_another_github_job_is_refused(pipelines, job):
    done = pipelines.run(["bash", "-e", "-c", github_step(pipelines)],
                         pipelines.ci.start_job(**job))
    assert done.returncode == 3 and "planned" not in done.stdout, done
    assert pipelines.gateway.json("runs", "list") == []


def test_a_gitlab_job_is_a_root_run_of_whoever_started_its_pipeline(pipelines):
    job = pipelines.example("gitlab-ci.yml")["report"]
    token = pipelines.gitlab.token(
        aud=job["id_tokens"]["CORRAL_TOKEN"]["aud"], sub="project_path:shop/reports:ref_type:branch",
        project_path="shop/reports", ref="main", ref_type="branch", job_id="71",
        pipeline_id="7", pipeline_source="push", user_login="ada", user_email="ada@example.com")
    (script,) = job["script"]
    done = pipelines.run(["bash", "-e", "-c", script], {"CORRAL_TOKEN": token})
    assert done.returncode == 0 and "planned" in done.stdout, done
    assert pipelines.root("reports-on-gitlab") == ENDED_ROOT


def test_a_pod_is_a_root_run_of_its_workloads_sponsor(pipelines):
    pod = pipelines.example("kubernetes-job.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (projected,) = [volume["projected"]["sources"][0]["serviceAccountToken"]
                    for volume in pod["volumes"] if "projected" in volume]
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "corral-token"]
    file = pipelines.folder / "token"
    account = f"system:serviceaccount:reports:{pod['serviceAccountName']}"
    file.write_text(pipelines.cluster.token(
        aud=[projected["audience"]], sub=account, exp=int(time.time()) + 600,
        **{"kubernetes.io": {"namespace": "reports", "pod": {"name": "report-x", "uid": "u-1"},
                             "serviceaccount": {"name": "nightly", "uid": "u-2"}}}))
    inside = f"{mount['mountPath']}/{projected['path']}"
    words = [word.replace(inside, str(file)) for word in container["command"]]
    assert str(file) in " ".join(words)
    done = pipelines.run(words, {})
    assert done.returncode == 0 and "planned" in done.stdout, done
    assert pipelines.root("reports-in-cluster") == ENDED_ROOT
