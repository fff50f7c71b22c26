"""Rules, approvals and ends, as stock clients of a real cluster meet them."""

import base64
import gzip
import http.client
import json
import time

import pytest

from harness import cluster_parts as parts
from harness.waiting import wait_until
from objects import SERVE, TALK, config_map, manifest, pod, secret
from sides import Terminal, Tunnel, end, exchange, read_lines

ENDS_WITHIN_S = 5

RULES = """
kind: User
name: {user}
groups: [{user_group}]
password: {{env: PASSWORD}}
---
kind: User
name: boss-{user}
groups: [bosses-{user_group}]
password: {{env: PASSWORD}}
---
kind: Policy
name: {user_group}
cedar: |
  permit (principal in Corral::Group::"{user_group}",
          action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write"],
          resource in Corral::Target::"cluster");
  @id("no-deletes-{user_group}") @reason("Nothing is deleted here.")
  forbid (principal in Corral::Group::"{user_group}",
          action == Corral::Action::"kube_delete", resource);
  @id("ask-{user_group}") @approval("bosses-{user_group}") @reason("Changes are looked at.")
  forbid (principal in Corral::Group::"{user_group}",
          action == Corral::Action::"kube_patch", resource);
"""


STREAMERS = """
kind: User
name: {group}@example.com
groups: [{group}]
password: {{env: PASSWORD}}
---
kind: Policy
name: {group}
cedar: |
  permit (principal in Corral::Group::"{group}", action, resource in Corral::Target::"cluster");
"""


@pytest.fixture
def guarded(corral, request):
    """Somebody who may read and create, but not delete; changes are held. With a namespace."""
    group = f"g{abs(hash(request.node.name)) % 10**8}"
    user = f"{group}@example.com"
    password = {"PASSWORD": corral.password}
    corral.apply(RULES.format(user=user, user_group=group), env=password)
    token = corral.login(user, corral.password)
    run = corral.start_run("guarded", token, "--ttl", "30m")
    side = corral.side(f"guarded-{group}", "cluster", run)
    side.enter_namespace()
    side.user = user
    side.boss = corral.login(f"boss-{user}", corral.password)
    return side


def test_a_denied_request_is_refused_in_the_clients_own_words(cluster, guarded):
    cluster.apply(manifest(config_map()), "-n", guarded.namespace)
    assert guarded.kubectl("get", "configmap", "settings").returncode == 0
    refused = guarded.kubectl("delete", "configmap", "settings", expect=1)
    assert "corral:" in refused.stderr and "Nothing is deleted here." in refused.stderr
    assert "no-deletes-" in refused.stderr and "Error from server (Forbidden)" in refused.stderr
    cluster.kubectl("get", "configmap", "settings", "-n", guarded.namespace)


@pytest.mark.parametrize("words", [
    ["exec", "box", "--", "true"], ["exec", "-i", "box", "--", "sh"], ["attach", "box"],
    ["port-forward", "box", ":8080"], ["cp", "/etc/hostname", "box:/tmp/x"],
    ["debug", "box", "--image=x", "--attach=false"],
], ids=lambda words: "-".join(words[:2]))
def test_the_right_to_write_opens_no_shell(cluster, guarded, words):
    cluster.apply(manifest(pod(command=SERVE)), "-n", guarded.namespace)
    guarded.wait_for_pods("app=box")
    refused = guarded.kubectl(*words)
    assert refused.returncode != 0
    assert "corral:" in refused.stderr + refused.stdout


def test_a_held_change_waits_in_kubectl_and_runs_once(cluster, corral, guarded):
    cluster.apply(manifest(config_map()), "-n", guarded.namespace)
    words = ("patch", "configmap", "settings", "-p", json.dumps({"data": {"colour": "red"}}))
    patch = guarded.start(*words)
    try:
        approval = pending(corral, guarded)
        assert patch.poll() is None
        assert colour(cluster, guarded) == "blue"
        corral.run("approvals", "approve", approval["id"], "--reason", "fine",
                   token=guarded.boss)
        out, errors = patch.communicate(timeout=30)
        assert patch.returncode == 0, errors
        assert out == b"configmap/settings patched\n"
    finally:
        end(patch)
    assert colour(cluster, guarded) == "red"
    # It was one approval for one request.
    second = guarded.start(*words)
    try:
        again = pending(corral, guarded)
        assert again["id"] != approval["id"]
        corral.run("approvals", "deny", again["id"], "--reason", "twice is too much",
                   token=guarded.boss)
        _, errors = second.communicate(timeout=30)
        assert second.returncode == 1
        assert b"corral:" in errors and b"twice is too much" in errors
    finally:
        end(second)


def test_who_gives_up_withdraws(cluster, corral, guarded):
    cluster.apply(manifest(config_map()), "-n", guarded.namespace)
    patch = guarded.start("patch", "configmap", "settings", "-p", '{"data":{"colour":"red"}}')
    approval = pending(corral, guarded)
    end(patch)
    wait_until(lambda: state(corral, approval) == "withdrawn", "it is withdrawn", 10)
    with pytest.raises(AssertionError):
        corral.run("approvals", "approve", approval["id"], "--reason", "late",
                   token=guarded.boss)
    assert colour(cluster, guarded) == "blue"


def pending(corral, side):
    def found():
        return [one for one in corral.json("approvals", "list")
                if one["state"] == "pending" and one["run_id"] == side.run["run_id"]]
    return wait_until(found, "an approval is asked for", 15)[0]


def state(corral, approval):
    return next(one["state"] for one in corral.json("approvals", "list")
                if one["id"] == approval["id"])


def colour(cluster, side):
    return cluster.kubectl("get", "configmap", "settings", "-n", side.namespace, "-o",
                           "jsonpath={.data.colour}").stdout


WAYS_TO_END = {
    "killed": lambda corral, side: corral.run("runs", "kill", side.run["run_id"]),
    "offboarded": lambda corral, side: corral.run("users", "disable", side.user),
}


@pytest.mark.parametrize("way", WAYS_TO_END)
def test_watches_and_logs_end_with_the_run(cluster, corral, guarded, way):
    cluster.apply(manifest(config_map(), pod("talker", TALK)), "-n", guarded.namespace)
    guarded.wait_for_pods("app=talker")
    watch = guarded.start("get", "configmaps", "--watch", "-o", "name", "--field-selector",
                          "metadata.name=settings")
    logs = guarded.start("logs", "-f", "talker")
    try:
        read_lines(watch, 1)
        read_lines(logs, 2)
        started = time.monotonic()
        WAYS_TO_END[way](corral, guarded)
        for process in (watch, logs):
            process.communicate(timeout=30)
        assert time.monotonic() - started < ENDS_WITHIN_S
    finally:
        end(watch)
        end(logs)
    refused = guarded.kubectl("get", "configmaps", expect=1)
    assert "You must be logged in to the server" in refused.stderr


MASKED_READS = [
    ("/api/v1/namespaces/{}/secrets", {}),
    ("/api/v1/namespaces/{}/secrets/door", {}),
    ("/api/v1/namespaces/{}/secrets/door", {"Accept": "application/yaml"}),
    ("/api/v1/namespaces/{}/secrets/door", {"Accept": "application/vnd.kubernetes.protobuf"}),
    ("/api/v1/namespaces/{}/secrets", {"Accept": "application/vnd.kubernetes.protobuf"}),
    ("/api/v1/namespaces/{}/secrets", {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}),
    ("/api/v1/namespaces/{}/secrets?includeObject=Object",
     {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}),
    ("/api/v1/namespaces/{}/secrets?includeObject=Metadata",
     {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}),
    ("/api/v1/namespaces/{}/secrets",
     {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}),
    ("/api/v1/namespaces/{}/secrets",
     {"Accept": "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1"}),
    ("/api/v1/namespaces/{}/secrets", {"Accept_Encoding": "gzip"}),
    ("/api/v1/namespaces/{}/secrets?watch=1&resourceVersion=0&timeoutSeconds=1", {}),
    ("/api/v1/watch/namespaces/{}/secrets?resourceVersion=0&timeoutSeconds=1", {}),
    ("/api/v1/namespaces/{}/secrets?watch=1&resourceVersion=0&timeoutSeconds=1",
     {"Accept": "application/vnd.kubernetes.protobuf;stream=watch"}),
    ("/api/v1/secrets", {}),
]


@pytest.mark.parametrize("path, headers", MASKED_READS)
def test_no_form_of_reading_shows_a_masked_secret(cluster, guarded, path, headers):
    value = "correct-horse-battery-staple"
    # Applied with a client: the whole secret is in its last-applied annotation as well.
    cluster.apply(json.dumps({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "door"},
        "data": {"password": base64.b64encode(value.encode()).decode()}}), "-n",
        guarded.namespace)
    status, found, body = guarded.request("GET", path.format(guarded.namespace), **headers)
    # 501: a form that the gateway cannot mask. 406: one that the cluster does not have.
    assert status in (200, 403, 406, 501), body
    if found.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    encoded = base64.b64encode(value.encode())
    for form in (value.encode(), encoded, base64.b64encode(encoded)):
        assert form not in body
    if status == 200:
        assert b"door" in body
    else:
        assert b"corral" in body


@pytest.mark.parametrize("words", [
    ["get", "secret", "door", "-o", "yaml"], ["get", "secrets"], ["describe", "secret", "door"],
    ["get", "secret", "door", "-o", "jsonpath={.data.password}"],
])
def test_kubectl_reads_a_masked_secret(cluster, guarded, words):
    cluster.apply(manifest(secret(password="correct-horse")), "-n", guarded.namespace)
    read = guarded.kubectl(*words)
    assert base64.b64encode(b"correct-horse").decode() not in read.stdout
    assert "correct-horse" not in read.stdout
    assert read.returncode == 0 or "corral:" in read.stderr


CARRIED = ("kubectl", "kubectl-1.37", "kubectl-1.35", "kubectl-1.32")


@pytest.mark.parametrize("version", parts.KUBECTLS)
def test_every_kubectl_works_or_is_told_why_not(corral, version):
    """Those before 1.29 know SPDY only, which is not carried."""
    side = corral.side(f"version-{version}", "cluster")
    side.enter_namespace()
    made = side.kubectl("apply", "-f", "-", stdin=manifest(pod(command=TALK)), version=version)
    assert made.returncode == 0, made.stderr
    side.wait_for_pods("app=box")
    listed = side.kubectl("get", "pods", "-o", "name", version=version, expect=0)
    assert listed.stdout == "pod/box\n"
    assert "line 1\n" in side.kubectl("logs", "box", version=version, expect=0).stdout
    assert "box" in side.kubectl("describe", "pod", "box", version=version, expect=0).stdout
    ran = side.kubectl("exec", "box", "--", "sh", "-c", "echo out; exit 7", version=version)
    if version in CARRIED:
        assert (ran.returncode, ran.stdout) == (7, "out\n")
    else:
        assert ran.returncode == 1 and "corral:" in ran.stderr
    assert side.kubectl("delete", "pod", "box", "--now", version=version).returncode == 0


def test_a_shell_is_recorded_and_replayed(corral):
    side = corral.side("recorded", "cluster")
    side.enter_namespace()
    side.cluster.apply(manifest(pod()), "-n", side.namespace)
    side.wait_for_pods("app=box")
    terminal = Terminal(side, "exec", "-it", "box", "--", "sh")
    terminal.read_until("# ")
    terminal.type("echo seen-$((40+2))\n")
    terminal.read_until("seen-42")
    terminal.type("exit 3\n")
    assert terminal.finish()[1] == 3

    def shown():
        pieces = corral.events("--run", side.run["run_id"], "--event", "stream.passed")
        return "".join(piece["data"]["text"] for piece in pieces if piece["from"] == "target")

    wait_until(lambda: "seen-42" in shown(), "what the shell showed is recorded", 10)
    replay = corral.run("replay", side.run["run_id"]).stdout
    assert f"exec {side.namespace}/box" in replay and "terminal of 111 by 33" in replay
    completed = wait_until(lambda: [
        event for event in corral.events("--run", side.run["run_id"], "--event",
                                         "statement.completed")
        if event.get("code") == "3"], "the exit code is recorded", 10)
    assert len(completed) == 1
    sizes, shown_by_player = cast(corral, side)
    assert sizes[0] == "111x33" and "seen-42" in shown_by_player


def test_a_terminal_that_is_attached_to_is_recorded_and_replayed(corral):
    side = corral.side("attached", "cluster")
    side.enter_namespace()
    shell = pod(command=["sh"], stdin=True, tty=True)
    side.cluster.apply(manifest(shell), "-n", side.namespace)
    side.wait_for_pods("app=box")
    terminal = Terminal(side, "attach", "-it", "box")
    terminal.type("echo seen-$((40+2))\n")
    terminal.read_until("seen-42")
    corral.run("runs", "end", side.run["run_id"])
    assert terminal.finish()[1] != 0
    [decided] = [event for event in corral.events("--run", side.run["run_id"], "--event",
                                                  "statement.decided")
                 if event["statement"].startswith("attach ")]
    assert "kube_attach" in decided["verbs"] and "(interactive)" in decided["statement"]
    assert f"attach {side.namespace}/box" in corral.run("replay", side.run["run_id"]).stdout

    sizes, shown_by_player = cast(corral, side)
    # kubectl makes a terminal larger for a moment, so that what is attached draws itself again.
    assert sizes[-1] == "111x33" and "seen-42" in shown_by_player
    pieces = corral.events("--run", side.run["run_id"], "--event", "stream.passed")
    typed = "".join(piece["data"]["text"] for piece in pieces if piece["from"] == "client")
    assert "echo seen-$((40+2))" in typed


def cast(corral, side):
    """A run's terminal as asciinema reads it: its sizes, and all that it showed."""
    lines = corral.run("replay", side.run["run_id"], "--format", "cast").stdout.splitlines()
    head, events = json.loads(lines[0]), [json.loads(line) for line in lines[1:]]
    assert head["version"] == 2 and all(len(event) == 3 for event in events)
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    sizes = [f"{head['width']}x{head['height']}"]
    sizes += [data for _, code, data in events if code == "r"]
    return sizes, "".join(data for _, code, data in events if code == "o")


@pytest.mark.skipif(parts.chosen() == parts.OLDEST,
                    reason="its tunnels over WebSocket need an API server of 1.31")
@pytest.mark.parametrize("way", WAYS_TO_END)
def test_streams_end_with_the_run(cluster, corral, way):
    group = f"streams-{way}"
    corral.apply(STREAMERS.format(group=group), env={"PASSWORD": corral.password})
    token = corral.login(f"{group}@example.com", corral.password)
    run = corral.start_run("streams", token, "--ttl", "30m")
    side = corral.side(group, "cluster", run)
    side.user = f"{group}@example.com"
    side.enter_namespace()
    cluster.apply(manifest(pod(command=SERVE)), "-n", side.namespace)
    side.wait_for_pods("app=box")
    shell = side.start("exec", "box", "--", "sh", "-c", "echo here; exec sleep 9999")
    try:
        read_lines(shell, 1)
        with Tunnel(side, "pod/box", 8080) as address:
            assert exchange(address, b"hello") == b"hello"
            started = time.monotonic()
            WAYS_TO_END[way](corral, side)
            shell.communicate(timeout=30)
            assert time.monotonic() - started < ENDS_WITHIN_S
            with pytest.raises((OSError, http.client.HTTPException)):
                exchange(address, b"more")
    finally:
        end(shell)
    assert shell.returncode != 0
