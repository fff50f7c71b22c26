"""The cluster itself, without Corral: that its parts do what the other tests rely on."""

import os

import kubernetes
import pytest

from cases import start_box
from harness import cluster_parts as parts
from harness.cluster import Cluster, container_processes
from objects import SERVE, SLEEP, deployment, manifest, pod
from sides import Terminal, Tunnel, exchange

WITHOUT_WEBSOCKETS = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false",
                      "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
# The size arrives after the command has started.
TELL_SIZE = "until stty size 2>/dev/null | grep 111; do sleep 0.1; done; exit 5"


@pytest.fixture
def side(direct):
    direct.enter_namespace()
    return direct


def test_a_deployment_runs_and_goes(side):
    side.kubectl("apply", "-f", "-", stdin=manifest(deployment(command=SLEEP, replicas=2)),
                 expect=0)
    side.kubectl("rollout", "status", "deployment/web", "--timeout=30s", expect=0)
    assert len([pid for pid in container_processes(side.cluster.folder)
                if f"/{side.namespace}/" in os.readlink(f"/proc/{pid}/root")]) == 2
    side.kubectl("delete", "deployment", "web", "--cascade=foreground", expect=0)
    assert side.kubectl("get", "pods", "-o", "name", expect=0).stdout == ""


@pytest.mark.parametrize("env", [{}, WITHOUT_WEBSOCKETS], ids=["websocket", "spdy"])
@pytest.mark.parametrize("version", parts.KUBECTLS)
def test_every_kubectl_streams(side, version, env):
    start_box(side, deployment(), pod(), selector="app=web")
    side.wait_for_pods("app=box")
    ran = side.kubectl("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7",
                       version=version, env=env)
    assert (ran.returncode, ran.stdout) == (7, "out\n")
    assert ran.stderr.startswith("err\n")
    sent = side.kubectl("exec", "-i", "box", "--", "cat", stdin="word\n", version=version, env=env,
                        expect=0)
    assert sent.stdout == "word\n"
    terminal = Terminal(side, "exec", "-it", "box", "--", "sh", "-c", TELL_SIZE,
                        version=version, env=env)
    output, code = terminal.finish()
    assert "33 111" in output and code == 5
    with Tunnel(side, "deployment/web", 8080, version=version, env=env) as address:
        assert exchange(address, b"hello") == b"hello"


def test_attach_logs_and_cp_work(side):
    start_box(side, pod("box", ["sh", "-c", "echo one; echo two; exec sleep 9999"]))
    assert side.kubectl("logs", "box", "--tail=1", expect=0).stdout == "two\n"
    data = os.urandom(1 << 20)
    (side.folder / "data").write_bytes(data)
    side.kubectl("cp", side.folder / "data", "box:/tmp/data", expect=0)
    side.kubectl("cp", "box:/tmp/data", side.folder / "again", expect=0)
    assert (side.folder / "again").read_bytes() == data


def test_rights_are_enforced_and_can_be_lent(cluster):
    assert cluster.kubectl("get", "pods", user="alice", expect=1).stderr.startswith(
        "Error from server (Forbidden)")
    assert cluster.kubectl("get", "pods", user="gateway", expect=1)
    lent = cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}",
                           "--as", "ada@example.com", "--as-group", "devs", user="gateway")
    assert lent.stdout == "ada@example.com"
    event = cluster.audit()[-1]
    assert event["user"]["username"] == "gateway"
    assert event["impersonatedUser"]["username"] == "ada@example.com"
    assert "devs" in event["impersonatedUser"]["groups"]


def test_certificates_and_issued_tokens_are_accepted(cluster):
    certificate, key = cluster.client_certificate("robot", "system:masters")
    client = kubernetes.client.Configuration(host=cluster.server)
    client.ssl_ca_cert, client.cert_file, client.key_file = map(str, (
        cluster.ca_file, certificate, key))
    core = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(client))
    assert [node.metadata.name for node in core.list_node().items] == ["fake-1"]
    token = cluster.kubectl("create", "token", "default").stdout.strip()
    who = cluster.kubectl("--token", token, "auth", "whoami", user="alice", expect=None)
    assert who.returncode == 0


@pytest.mark.deadline(180)
def test_a_second_cluster_leaves_nothing():
    with Cluster() as second:
        second.apply(manifest(pod(command=SERVE)))
        second.kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=30s")
        folder, pids = second.folder, [process.pid for process in second.processes.values()]
        pids += container_processes(folder)
        assert len(pids) == 6
    assert not folder.exists()
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]
