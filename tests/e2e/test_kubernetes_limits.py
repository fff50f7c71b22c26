"""Limits of sessions and runs, as a client of the Kubernetes API meets them."""

import http.client
import time

import pytest

from harness.kube import PODS, Kube
from harness.waiting import wait_until

LIMIT = """
---
kind: Limit
name: agents
subject: {{group: agents}}
{limit}
"""
POD = f"{PODS}/web"
WATCH = f"{PODS}?watch=true"
LOG = f"{PODS}/web/log?follow=true"
ENDS_WITHIN_S = 15
SESSIONS_PER_CONNECTION = 16
# A run whose budget is spent ends two seconds after.
SPENT_RUN_ENDS_WITHIN_S = 10

# What ends a stream that is open: the limit, the stream, requests beside it, and how the session
# and the run are said to have ended. A run that did not end opens its next session.
ENDS = {
    "statements": ("run: {statements_max: 3}", WATCH, 3, "budget", "budget_spent"),
    "bytes": ("run: {bytes_max: 3MiB}", LOG, 0, "budget", "budget_spent"),
    "wall time": ("run: {wall_time_max: 3s}", LOG, 0, "budget", "budget_spent"),
    "silence": ("idle_timeout: 1s", WATCH, 0, "idle", None),
    "age": ("session_ttl: 2s", LOG, 0, "expired", None),
}


@pytest.fixture
def kube():
    with Kube() as running:
        running.api.log_padding = b"x" * 200_000
        yield running


def limited(kube, limit):
    kube.apply(LIMIT.format(limit=limit))
    return kube.run()


def follow(kube, path, run):
    connection = kube.connection()
    connection.request("GET", f"/k8s/prod{path}",
                       headers={"Authorization": f"Bearer {run['token']}"})
    answer = connection.getresponse()
    assert answer.status == 200
    return answer


def refused(answered, status, reason, words):
    code, answer = answered
    assert (code, answer["kind"], answer["reason"]) == (status, "Status", reason), answer
    assert answer["message"].startswith("corral: ") and words in answer["message"], answer


@pytest.mark.parametrize("name", ENDS)
def test_a_limit_ends_an_open_stream_as_cut(kube, name):
    limit, path, beside, closed, ended = ENDS[name]
    run = limited(kube, limit)
    stream = follow(kube, path, run)
    for number in range(beside):
        asked = kube.ask("GET", POD, run["token"])
        if number + 1 == beside:
            refused(asked, 429, "TooManyRequests", "statements")
        else:
            assert asked[0] == 200
    started = time.monotonic()
    # Neither an end of the chunks nor of the list: no client takes it for whole.
    with pytest.raises((http.client.IncompleteRead, OSError)):
        stream.read()
    assert time.monotonic() - started < ENDS_WITHIN_S

    def reasons():
        events = kube.gateway.events("--run", run["run_id"], "--event", "session.closed")
        return [event["reason"] for event in events]
    wait_until(lambda: closed in reasons(), "the session's end is recorded")
    if ended is None:
        assert kube.ask("GET", POD, run["token"])[0] == 200
        return
    wait_until(lambda: kube.ask("GET", POD, run["token"])[0] == 401, "the token is dead",
               SPENT_RUN_ENDS_WITHIN_S)
    refused(kube.ask("GET", POD, run["token"]), 401, "Unauthorized", "no longer active")
    [event] = kube.gateway.events("--run", run["run_id"], "--event", "run.ended")
    assert event["reason"] == ended


@pytest.mark.parametrize("limit", ["sessions_max: 1", "run: {sessions_max: 1}"])
def test_one_session_too_many_is_told_to_come_again(kube, limit):
    run = limited(kube, limit)
    first = kube.connection()
    assert kube.ask("GET", POD, run["token"], connection=first)[0] == 200
    second = kube.connection()
    second.request("GET", f"/k8s/prod{POD}", headers={"Authorization": f"Bearer {run['token']}"})
    answer = second.getresponse()
    assert answer.status == 429 and int(answer.headers["Retry-After"]) > 0
    assert b"corral: " in answer.read()
    # The same connection asks again when there is a place.
    assert kube.ask("GET", POD, run["token"], connection=first)[0] == 200
    first.close()
    wait_until(lambda: kube.ask("GET", POD, run["token"], connection=second)[0] == 200,
               "a place is free")


def test_a_write_too_many_is_refused_and_reads_go_on(kube):
    run = limited(kube, "run: {writes_max: 1}")
    maps = "/api/v1/namespaces/dev/configmaps"

    def create(name):
        body = f'{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}}}}'
        return kube.ask("POST", maps, run["token"], body, Content_Type="application/json")
    assert create("one")[0] == 201
    refused(create("two"), 429, "TooManyRequests", "do more than read")
    assert ("configmaps", "dev", "two") not in kube.api.objects
    assert kube.ask("GET", f"{maps}/one", run["token"])[0] == 200


def test_a_connection_has_a_limited_number_of_sessions(kube):
    """One for each token: a proxy of many may need another connection."""
    tokens = [kube.run(f"run-{number}")["token"] for number in range(SESSIONS_PER_CONNECTION + 1)]
    connection = kube.connection()
    for token in tokens[:-1]:
        assert kube.ask("GET", POD, token, connection=connection)[0] == 200
    refused(kube.ask("GET", POD, tokens[-1], connection=connection), 429, "TooManyRequests",
            "this connection has too many sessions")
    assert kube.ask("GET", POD, tokens[0], connection=connection)[0] == 200
    assert kube.ask("GET", POD, tokens[-1])[0] == 200
