"""What a Kubernetes target does when its resource says something else: previews of writes, what is
recorded of objects, and streams that are open when the masks change."""

import json

import pytest

from harness.kube_stage import BINARY, STDIN, Stage, unmasked, websocket_frame
from harness.recording_https import answer
from harness.waiting import wait_until

NAMESPACE = "/api/v1/namespaces/a"
POD = f"{NAMESPACE}/pods/p"
MAP = f"{NAMESPACE}/configmaps/x"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/a/leases/x"
OBJECTS = {
    POD: {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
          "spec": {"containers": [{"name": "c", "image": "nginx"}]}},
    MAP: {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "a"}},
    LEASE: {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "x", "namespace": "a"}},
    f"{NAMESPACE}/events/x": {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "x", "namespace": "a"},
        "involvedObject": {"kind": "Pod", "name": "p"}},
    "/apis/events.k8s.io/v1/namespaces/a/events/x": {
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "x", "namespace": "a"}, "action": "a", "reason": "r"},
}
CLASSIFY = "[{columns: [core.configmaps.data], class: internal}]"


@pytest.fixture
def stage(tmp_path):
    opened = Stage(tmp_path)
    yield opened
    opened.close()


def write(stage, path):
    """PUTs the object of this path; what the target was asked, one line each."""
    def answers(request, connection):
        told = json.loads(request.body) if request.body else OBJECTS[path]
        told["metadata"]["resourceVersion"] = "2" if request.body else "1"
        return answer(200, json.dumps(told).encode())
    stage.target.answers = answers
    del stage.target.requests[:]
    body = json.dumps(OBJECTS[path]).encode()
    status, answered = stage.ask("PUT", path, "Content-Type: application/json", body=body)
    assert status == 200, answered
    return [request.line.removesuffix(" HTTP/1.1") for request in stage.target.requests]


@pytest.mark.parametrize("preview, tried", [
    (None, {POD}), ("fields", {POD}), ("writes", {POD, MAP, LEASE}), ("never", set()),
])
def test_writes_are_tried_before_as_the_target_says(stage, preview, tried):
    if preview:
        stage.apply(options=f"{{preview: {preview}}}")
    for path in (POD, MAP, LEASE):
        asked = write(stage, path)
        trials = [line for line in asked if "dryRun=All" in line]
        assert len(trials) == (1 if path in tried else 0), asked
        assert asked[-1] == f"PUT {path}" or f"PUT {path}" in asked
        if trials:
            assert asked.index(trials[0]) < asked.index(f"PUT {path}")
    events = stage.events("--event", "statement.decided", "--verb", "kube_preview")
    assert len(events) == len(tried)


@pytest.mark.parametrize("path", OBJECTS)
def test_changes_of_objects_are_recorded_but_of_leases_and_events(stage, path):
    write(stage, path)

    def completed():
        return [event for event in stage.events("--event", "statement.completed")]
    wait_until(completed, "it is accounted")
    is_recorded = path in (POD, MAP)
    if is_recorded:
        wait_until(lambda: stage.events("--event", "object.changed"), "the change is recorded")
    else:
        # A later write's change stands behind where this one's would.
        write(stage, MAP)
        wait_until(lambda: stage.events("--event", "object.changed"), "the change is recorded")
    [changed] = stage.events("--event", "object.changed")
    assert changed["object"]["name"] == ("pods/p" if path == POD else "configmaps/x")


def test_streams_go_on_when_the_masks_change(stage):
    """Nothing is masked in them. Watches end, as test_kubernetes.py shows."""
    log = {}

    def take(request, connection):
        if "/log" in request.path:
            log["connection"] = connection
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n7\r\nbefore\n\r\n")
            connection.recv(1)
            return None
        if "watch" in request.path:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n")
            connection.recv(1)
            return None
        if "exec" in request.path or "attach" in request.path:
            return stage.target.take_stream(request, connection)
        return answer(200)
    stage.target.answers = take
    ways = "stdin=1&stdout=1&stderr=1"
    with (stage.open_stream(f"{POD}/exec?command=cat&{ways}") as shell,
          stage.open_stream(f"{POD}/attach?{ways}") as attached,
          stage.connect() as following, stage.connect() as watching):
        following.sendall(stage.head("GET", f"{POD}/log?follow=1"))
        read_until(following, b"before\n")
        watching.sendall(stage.head("GET", f"{NAMESPACE}/configmaps?watch=1"))
        read_until(watching, b"\r\n\r\n")
        # Ada may unmask: the watch hears of the change only when that right goes too.
        stage.manifest = stage.manifest.replace(', Corral::Action::"unmask"', "")
        stage.apply(classify=CLASSIFY)
        read_until(watching, b'"code":410')

        for connection, mark in ((shell, b"to the shell"), (attached, b"to what runs")):
            connection.sendall(websocket_frame(BINARY, STDIN + mark))
            wait_until(lambda: mark in unmasked(bytes(stage.target.after_upgrade)),
                       "the container has what was typed")
            del stage.target.after_upgrade[:]
        log["connection"].sendall(b"6\r\nafter\n\r\n")
        read_until(following, b"after\n")


def read_until(connection, wanted):
    received = b""
    while wanted not in received:
        data = connection.recv(65536)
        assert data, received
        received += data
