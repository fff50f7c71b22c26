"""Streams of the Kubernetes API on which nothing happens for a long time, and heads that do not
come."""

import json
import socket
import ssl
import subprocess
import time

import pytest

from harness.kube import PODS, Kube
from harness.kube_standin import MUTE
from harness.waiting import wait_until

# Longer than any probe of a connection, in the gateway or below it (limits::TCP_KEEP_ALIVE_*).
MUTE_S = 200
HEAD_S = 15
ANSWER_HEAD_S = 120
# Above a deadline, on a busy machine.
GRACE_S = 10
EVENT = {"type": "ADDED", "object": {
    "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "late", "resourceVersion": "9"}}}


@pytest.fixture
def kube():
    with Kube() as running:
        yield running


def watch(kube, token, version):
    """curl at a watch, over HTTP/1.1 or HTTP/2."""
    return subprocess.Popen(
        ["curl", "--silent", "--show-error", "--no-buffer", f"--http{version}", "--cacert",
         kube.gateway.ready["ca_file"], "--header", f"Authorization: Bearer {token}",
         "--write-out", "%{stderr}HTTP %{http_version}",
         f"{kube.gateway.ready['api']}/k8s/prod{PODS}?watch=true"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={})


@pytest.mark.long
@pytest.mark.deadline(MUTE_S + 60)
def test_a_watch_that_is_mute_for_minutes_stays(kube):
    run = kube.run()
    watches = {version: watch(kube, run["token"], version) for version in ("1.1", "2")}
    try:
        wait_until(lambda: kube.api.watches == 2, "the target watches")
        time.sleep(MUTE_S)
        assert [one.poll() for one in watches.values()] == [None, None]
        kube.api.watched.append(EVENT)
        for one in watches.values():
            event = json.loads(one.stdout.readline())
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "late")
        kube.gateway.run("runs", "kill", run["run_id"])
        for version, one in watches.items():
            assert f"HTTP {version}" in one.communicate(timeout=10)[1]
    finally:
        for one in watches.values():
            one.kill()
            one.communicate()


BEGINNINGS = {
    "nothing": b"",
    "half a line": b"GET /k8s/prod/api/v1",
    "half a head": b"GET /k8s/prod/version HTTP/1.1\r\nHost: a\r\nX-Mo",
    "half a preface": b"PRI * HTTP/2.0\r\n\r\nS",
}


@pytest.mark.long
@pytest.mark.deadline(HEAD_S + 60)
def test_a_head_that_does_not_come_ends_its_connection(kube):
    trust = ssl.create_default_context(cafile=kube.gateway.ready["ca_file"])
    started = time.monotonic()
    silent = {}
    try:
        for name, beginning in BEGINNINGS.items():
            plain = socket.create_connection(kube.gateway.address("https"), HEAD_S + GRACE_S)
            silent[name] = trust.wrap_socket(plain, server_hostname="127.0.0.1")
            silent[name].sendall(beginning)
        took = {}
        for name, connection in silent.items():
            connection.settimeout(HEAD_S + GRACE_S)
            try:
                while connection.recv(4096):
                    pass
            except TimeoutError:
                took[name] = None
                continue
            except OSError:
                pass
            took[name] = time.monotonic() - started
        assert all(time_s and time_s < HEAD_S + GRACE_S for time_s in took.values()), took
        assert max(took.values()) > HEAD_S - 2, took
    finally:
        for connection in silent.values():
            connection.close()


@pytest.mark.long
@pytest.mark.deadline(ANSWER_HEAD_S + 60)
def test_a_target_that_does_not_answer_is_told_as_unavailable(kube):
    run, started = kube.run(), time.monotonic()
    connection = kube.gateway.https(ANSWER_HEAD_S + GRACE_S)
    status, answer = kube.ask("GET", f"{PODS}/{MUTE}", run["token"], connection=connection)
    assert ANSWER_HEAD_S - 1 < time.monotonic() - started < ANSWER_HEAD_S + GRACE_S
    assert status == 502 and answer["message"].startswith("corral: "), answer
    assert kube.ask("GET", f"{PODS}/web", run["token"])[0] == 200
