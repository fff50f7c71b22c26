"""A real Kubernetes cluster of its own: etcd, apiserver, controllers, scheduler and one node.

Everything listens on free loopback ports, writes into one temporary folder and is ended by
process id. The node is tests/k8s/fakekubelet: containers are local processes in a file system of
their own.
"""

import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid

from . import cluster_parts as parts
from .certificates import Authority
from .postgres import free_port
from .waiting import wait_until

START_ATTEMPTS = 3
START_DEADLINE_S = 180
STOP_DEADLINE_S = 15
COMMAND_DEADLINE_S = 120
LOG_LINES = 12

# Who the apiserver knows by a token of its own: (name, groups).
USERS = {
    "admin": ["system:masters"],
    "alice": ["devs", "auditors"],
    "gateway": [],
}

AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""

# What a gateway needs to speak for others, and nothing else.
MAY_IMPERSONATE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: may-impersonate}
rules:
- {apiGroups: [""], resources: [users, groups, serviceaccounts], verbs: [impersonate]}
- {apiGroups: [authentication.k8s.io], resources: ["*"], verbs: [impersonate]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: gateway-may-impersonate}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: may-impersonate}
subjects:
- {kind: User, name: gateway, apiGroup: rbac.authorization.k8s.io}
"""


class CommandFailed(AssertionError):
    """A command ended with another exit code than expected."""

    def __init__(self, words, result):
        super().__init__(f"{' '.join(map(str, words))} exited {result.returncode}\n"
                         f"stdout: {result.stdout}\nstderr: {result.stderr}")
        self.result = result


class Cluster:
    """A running cluster. `with Cluster() as cluster:` stops it and removes its files."""

    def __init__(self):
        missing = parts.missing()
        if missing:
            raise RuntimeError(f"not there: {', '.join(map(str, missing))}; run .ci/setup cluster")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-k8s-", dir="/tmp"))
        self.processes = {}
        self.port = None
        self.authority = Authority(self.folder, "cluster-ca")
        self.ca_file = self.authority.file
        self.tokens = {name: f"{name}-{uuid.uuid4().hex}" for name in USERS}
        self._trust = ssl.create_default_context(cafile=self.ca_file)
        try:
            self._write_keys()
            self._start_etcd_and_apiserver()
            self._start_the_rest()
        except BaseException:
            self.close()
            raise

    # -- starting

    def _write_keys(self):
        names = "IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"
        self.serving = self.authority.issue("apiserver", names)
        self.node_serving = self.authority.issue("node", names)
        self.node_client = self.client_certificate("node-client", "system:masters")
        self._openssl("genrsa", "-out", self.folder / "accounts.key", "2048")
        # An empty group would be one: a user without groups has no fourth column.
        lines = [f"{self.tokens[name]},{name},{name}"
                 + (f',"{",".join(groups)}"' if groups else "") + "\n"
                 for name, groups in USERS.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))
        (self.folder / "audit-policy.yaml").write_text(AUDIT_POLICY)

    @staticmethod
    def _openssl(*words):
        subprocess.run(["openssl", *map(str, words)], stdin=subprocess.DEVNULL,
                       capture_output=True, check=True)

    def client_certificate(self, name, group):
        """`(certificate file, key file)` by which the apiserver knows `name` in `group`."""
        request = self.folder / f"{name}.csr"
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-keyout", key, "-out", request, "-subj", f"/O={group}/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca_file,
                      "-CAkey", self.authority.key_file, "-CAcreateserial", "-out", certificate,
                      "-days", "2", "-extfile", extensions)
        return certificate, key

    def _run(self, name, program, *arguments):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [program, *map(str, arguments)], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)

    def _start_etcd_and_apiserver(self):
        """A free port may be taken before its server binds it: then others are tried."""
        for attempt in range(1, START_ATTEMPTS + 1):
            etcd_port, peer_port, self.port = free_port(), free_port(), free_port()
            self._run_etcd(etcd_port, peer_port)
            self._run_apiserver(etcd_port)
            try:
                wait_until(self._is_ready, "the apiserver is ready", START_DEADLINE_S)
                return
            except ProcessEnded:
                if attempt == START_ATTEMPTS:
                    raise
                self._stop_processes()
                shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def _run_etcd(self, port, peer_port):
        here, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        self._run("etcd", parts.program("etcd"), "--data-dir", self.folder / "etcd",
                  "--unsafe-no-fsync", "--log-level", "warn",
                  "--listen-client-urls", here, "--advertise-client-urls", here,
                  "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
                  "--initial-cluster", f"default={peers}")

    def _run_apiserver(self, etcd_port):
        certificate, key = self.serving
        client_certificate, client_key = self.node_client
        accounts = self.folder / "accounts.key"
        self._run(
            "apiserver", parts.server("kube-apiserver"),
            "--etcd-servers", f"http://127.0.0.1:{etcd_port}",
            "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
            "--secure-port", self.port, "--endpoint-reconciler-type", "none",
            "--tls-cert-file", certificate, "--tls-private-key-file", key,
            "--client-ca-file", self.ca_file, "--token-auth-file", self.folder / "tokens.csv",
            "--authorization-mode", "RBAC", "--allow-privileged",
            "--service-cluster-ip-range", "10.96.0.0/16",
            # The first one signs, and is one that can be asked for its keys from here.
            "--service-account-issuer", self.server,
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", accounts, "--service-account-signing-key-file", accounts,
            "--kubelet-client-certificate", client_certificate,
            "--kubelet-client-key", client_key, "--kubelet-certificate-authority", self.ca_file,
            "--kubelet-preferred-address-types", "InternalIP",
            "--audit-policy-file", self.folder / "audit-policy.yaml",
            "--audit-log-path", self.folder / "audit.log")

    def _is_ready(self):
        self._check_processes()
        try:
            return self.raw("/readyz") == b"ok"
        except (urllib.error.URLError, OSError):
            return False

    def _check_processes(self):
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise ProcessEnded(f"{name} exited {process.returncode}:\n{self.log(name)}")

    def _start_the_rest(self):
        admin = self.kubeconfig("admin")
        # Port 0: they serve nothing; nobody here asks them for their health.
        self._run("controller-manager", parts.server("kube-controller-manager"),
                  "--kubeconfig", admin, "--controllers", "*,-node-lifecycle-controller",
                  "--service-account-private-key-file", self.folder / "accounts.key",
                  "--root-ca-file", self.ca_file, "--use-service-account-credentials",
                  "--leader-elect=false", "--secure-port", "0")
        self._run("scheduler", parts.server("kube-scheduler"), "--kubeconfig", admin,
                  "--leader-elect=false", "--secure-port", "0")
        certificate, key = self.node_serving
        self._run("node", parts.fakekubelet(), "--kubeconfig", admin, "--cert", certificate,
                  "--key", key, "--client-ca", self.ca_file, "--pods", self.folder / "pods",
                  "--rootfs", parts.rootfs())
        self.apply(MAY_IMPERSONATE)
        wait_until(self._has_controllers, "a node and an account to run pods", START_DEADLINE_S)

    def _has_controllers(self):
        self._check_processes()
        try:
            self.raw("/api/v1/namespaces/default/serviceaccounts/default")
            node = json.loads(self.raw("/api/v1/nodes/fake-1"))
        except urllib.error.HTTPError:
            return False
        return bool(node["status"].get("conditions")) and not node["spec"].get("taints")

    # -- what it is

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def server(self):
        return f"https://{self.address}"

    def log(self, name):
        file = self.folder / f"{name}.log"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return "\n".join(lines[-LOG_LINES:])

    def audit(self):
        """What the cluster itself recorded: one event a request."""
        lines = (self.folder / "audit.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    # -- reaching it

    def raw(self, path, user="admin"):
        request = urllib.request.Request(
            self.server + path, headers={"Authorization": f"Bearer {self.tokens[user]}"})
        with urllib.request.urlopen(request, timeout=10, context=self._trust) as answer:
            return answer.read()

    def kubeconfig(self, user):
        """A file that lets kubectl in as one of USERS."""
        file = self.folder / f"{user}.kubeconfig"
        if not file.exists():
            file.write_text(kubeconfig(self.server, self.ca_file, {"token": self.tokens[user]}))
            file.chmod(0o600)
        return file

    def kubectl(self, *arguments, user="admin", version="kubectl", stdin="", expect=0, env=None):
        words = [parts.program(version), "--kubeconfig", self.kubeconfig(user),
                 *map(str, arguments)]
        return run_command(words, self.folder, stdin, expect, env)

    def apply(self, manifest, *arguments, **options):
        return self.kubectl("apply", "-f", "-", *arguments, stdin=manifest, **options)

    def namespace(self, prefix="test"):
        """A new one. It goes with the cluster."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        wait_until(lambda: self._has_account(name), f"{name} has its account", 30)
        return name

    def _has_account(self, namespace):
        try:
            return self.raw(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except urllib.error.HTTPError:
            return False

    # -- ending

    def close(self):
        try:
            # The node, while it lives, takes leave of its ended children.
            self._end_containers()
            self._stop_processes()
            self._end_containers()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_processes(self):
        # Clients before servers: the last started is the first ended.
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                # The apiserver's own goodbye takes a minute, and nothing here is to be kept.
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_DEADLINE_S)
        self.processes = {}

    def _end_containers(self):
        """Containers are sessions of their own: those that live in our folder are found by it."""
        def all_ended():
            living = container_processes(self.folder)
            for pid in living:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not living
        wait_until(all_ended, "all containers have ended", STOP_DEADLINE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class ProcessEnded(AssertionError):
    """A part of the cluster exited by itself."""


def container_processes(folder):
    """The processes whose file system is below `folder`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "root").startswith(f"{folder}/"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kubeconfig(server, ca_file, user):
    """JSON is YAML: kubectl and all client libraries read it."""
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {
            "server": server, "certificate-authority": str(ca_file)}}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    })


def run_command(words, folder, stdin="", expect=0, env=None):
    """Runs a client in an environment without kubectl's own variables (expect None: any code)."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("KUBE", "HELM_", "CORRAL_"))}
    environment |= {"HOME": str(folder), "KUBECACHEDIR": str(folder / "kube-cache")}
    result = subprocess.run([*map(str, words)], text=True, capture_output=True, input=stdin,
                            env=environment | (env or {}), cwd=folder,
                            timeout=COMMAND_DEADLINE_S, errors="surrogateescape")
    if expect is not None and result.returncode != expect:
        raise CommandFailed(words, result)
    return result
