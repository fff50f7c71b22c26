"""The Kubernetes API through the gateway, with kubectl, against a stand-in for an API server.

What a real API server says is compared in tests/k8s (`make test-k8s`).
"""

import http.client
import json
import os
import re
import signal
import subprocess
import time

import pytest

from harness.gateway import COMMAND_DEADLINE_S
from harness.kube import PASSWORD, PODS, SECRET_VALUE, Kube, approve, pending
from harness.waiting import wait_until


@pytest.fixture(scope="module")
def kube():
    with Kube() as running:
        yield running


@pytest.fixture
def own_kube():
    with Kube() as running:
        yield running


def test_kubectl_works_below_corral_run(kube):
    found = kube.kubectl("get", "pods", "-n", "dev", "-o", "name").stdout.split()
    assert found == ["pod/web", "pod/worker"]
    assert "v1.37.0-standin" in kube.kubectl("version").stdout
    headers = kube.api.headers(f"GET {PODS}")
    assert headers["impersonate-user"] == "ada@example.com"
    assert headers["impersonate-group"] == "agents"
    # kubectl's own run, below that of `corral run`.
    path = headers["impersonate-extra-corral-run-path"]
    assert re.fullmatch(r"executor/kubectl[\w.-]*-\d+", path), path
    assert headers["impersonate-extra-corral-sponsor"] == "ada@example.com"
    events = kube.gateway.events("--target", "prod", "--event", "statement.decided")
    decided = [event for event in events if "kube_list" in event["verbs"]]
    assert decided[-1]["statement"].startswith(f"GET {PODS}?limit=500")
    assert decided[-1]["run_path"] == path
    assert decided[-1]["attributes"]["namespace"] == "dev"


def test_a_token_lies_in_no_file(kube):
    script = 'cat "$KUBECONFIG"; grep -rl "$CORRAL_TOKEN" "$(dirname "$KUBECONFIG")" || true'
    token = kube.gateway.login("ada@example.com", PASSWORD)
    words = [str(kube.gateway.program), "run", "--name", "files", "--target", "prod", "--",
             "sh", "-c", script]
    result = subprocess.run(words, text=True, capture_output=True, stdin=subprocess.DEVNULL,
                            env=kube.gateway.client_env(token), timeout=COMMAND_DEADLINE_S)
    assert "k8s-credential" in result.stdout and "crl_" not in result.stdout, result


def test_values_of_secrets_are_masked_everywhere(kube):
    for form in ("json", "yaml", "jsonpath={.data.password}", "go-template={{.data.password}}"):
        result = kube.kubectl("get", "secret", "db", "-n", "dev", "-o", form)
        assert SECRET_VALUE not in result.stdout, form
    listed = kube.kubectl("get", "secrets", "-n", "dev", "-o", "json").stdout
    assert SECRET_VALUE not in listed and '"password"' in listed
    masked = kube.gateway.events("--target", "prod", "--event", "rows.masked")
    assert masked and "data" in masked[-1]["columns"]
    for file in kube.gateway.data.rglob("*"):
        if file.is_file():
            assert SECRET_VALUE.encode() not in file.read_bytes(), file
    assert SECRET_VALUE not in kube.gateway.log()


def test_a_denial_reads_well_in_kubectl(kube):
    before = len(kube.api.seen)
    result = kube.kubectl("create", "configmap", "x", "--from-literal=a=b", "-n", "prod",
                          expect=1)
    assert "error: failed to create configmap: corral: calm: Nothing is written in prod." \
        in result.stderr
    result = kube.kubectl("label", "pod", "web", "-n", "prod", "a=b", expect=1)
    assert "Error from server" in result.stderr, result
    assert not [line for line, _ in kube.api.seen[before:] if line.startswith("POST")]


def test_a_write_is_decided_on_its_object_and_recorded(kube):
    settings = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings"},
                "data": {"a": "b"}}
    kube.kubectl("create", "--validate=false", "-n", "dev", "-f", "-", stdin=json.dumps(settings))
    events = kube.gateway.events("--target", "prod", "--event", "object.changed")
    assert events[-1]["object"]["name"] == "configmaps/settings"
    assert len(events[-1]["digest_after"]) == 64
    kube.kubectl("patch", "configmap", "settings", "-n", "dev", "--type", "merge", "-p",
                 '{"data":{"a":"c"}}')
    events = kube.gateway.events("--target", "prod", "--event", "object.changed")
    assert any("c" in line for line in events[-1]["diff"]), events[-1]
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "bad"},
           "spec": {"containers": [{"name": "c", "image": "evil"}]}}
    result = kube.kubectl("create", "--validate=false", "-n", "dev", "-f", "-",
                          stdin=json.dumps(pod), expect=1)
    assert "Only images of the shop." in result.stderr
    assert kube.api.lines("POST " + PODS) and ("pods", "dev", "bad") not in kube.api.objects
    pod["spec"]["containers"][0]["image"] = "nginx"
    kube.kubectl("create", "--validate=false", "-n", "dev", "-f", "-", stdin=json.dumps(pod))
    assert ("pods", "dev", "bad") in kube.api.objects


def test_what_the_gateway_does_not_know_is_denied(kube):
    token = kube.run()["token"]
    for path in ("/apis/example.com/v1/widgets", "/api/v1/namespaces/dev/%2e%2e/prod/pods",
                 "/api/v1/namespaces/dev//pods", "/api/v1/namespaces/dev%2fpods",
                 "/api/v1/pods?watch=1&watch=0", "/debug/pprof/heap"):
        status, answer = kube.ask("GET", path, token)
        assert (status, answer["kind"], answer["reason"]) == (403, "Status", "Forbidden"), path
        assert answer["message"].startswith("corral: "), path
    assert not kube.api.lines("GET /apis/example.com") and not kube.api.lines("GET /debug")


def test_nobody_comes_in_without_a_token(kube):
    for token in (None, "crl_wrong", kube.gateway.admin_token()):
        status, answer = kube.ask("GET", PODS, token)
        assert (status, answer["reason"]) == (401, "Unauthorized")
        assert answer["message"].startswith("corral: ")
    status, answer = kube.ask("GET", PODS, kube.gateway.login("grace@example.com", PASSWORD))
    assert (status, answer["reason"]) == (403, "Forbidden")


def test_a_held_deletion_waits_in_kubectl(kube):
    kube.api.put("pods", "dev", {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "old"}})
    waiting = kube.start_kubectl("delete", "pod", "old", "-n", "dev", "--wait=false")
    try:
        wait_until(lambda: pending(kube), "the deletion is held")
        [held] = pending(kube)
        assert "DELETE" in held["statement"] and "pods/old" in held["statement"]
        assert ("pods", "dev", "old") in kube.api.objects
        assert waiting.poll() is None
        approve(kube, held["id"])
        out, err = waiting.communicate(timeout=20)
        assert (waiting.returncode, "deleted" in out) == (0, True), err
        assert ("pods", "dev", "old") not in kube.api.objects
    finally:
        if waiting.poll() is None:
            os.killpg(waiting.pid, signal.SIGKILL)
            waiting.wait()


def test_ctrl_c_withdraws_a_held_deletion(kube):
    waiting = kube.start_kubectl("delete", "pod", "worker", "-n", "dev", "--wait=false")

    def states():
        return [approval["state"] for approval in kube.gateway.json("approvals", "list")]
    wait_until(lambda: "pending" in states(), "the deletion is held")
    os.killpg(waiting.pid, signal.SIGINT)
    waiting.communicate(timeout=20)
    wait_until(lambda: "pending" not in states() and "withdrawn" in states(), "it is withdrawn")
    assert ("pods", "dev", "worker") in kube.api.objects


def test_a_client_that_does_not_wait_comes_back_for_what_was_approved(own_kube):
    kube, run = own_kube, own_kube.run()
    path = f"{PODS}/worker"
    status, answer = kube.ask("DELETE", path, run["token"], Prefer="respond-async")
    assert (status, answer["kind"], answer["reason"]) == (202, "Status", "AwaitingApproval")
    approval = answer["details"]["name"]
    [held] = pending(kube)
    assert held["id"] == approval and "resourceVersion" in held["statement"]
    assert f"/api/v1/approvals/{approval}" in answer["message"]
    # Its connection is closed by now. Another one asks how it stands, then runs it.
    asked = {"Prefer": "respond-async", "Corral_Approval": approval}
    assert kube.ask("DELETE", path, run["token"], **asked)[0] == 202
    approve(kube, approval)
    assert ("pods", "dev", "worker") in kube.api.objects, "nothing runs for who is away"
    status, answer = kube.ask("DELETE", f"{PODS}/web", run["token"], **asked)
    assert status == 403 and "another request" in answer["message"]
    assert kube.ask("DELETE", path, run["token"], **asked)[0] == 200
    assert ("pods", "dev", "worker") not in kube.api.objects
    status, answer = kube.ask("DELETE", path, run["token"], **asked)
    assert status == 403 and "no request of this token waits" in answer["message"]
    [deletion] = [entry for entry in kube.gateway.json("runs", "show", run["run_id"])["timeline"]
                  if entry.get("approval")]
    assert (deletion["outcome"], deletion["approval"]["by"]) == ("allow", ["grace@example.com"])
    assert deletion["result"]["code"] == "200"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = TRACE.replace("00f067aa0ba902b7", "00f067aa0ba902b8")


def test_a_trace_in_a_header_is_a_claim_and_passes_unchanged(kube):
    run = kube.run()
    assert kube.ask("GET", f"{PODS}?limit=7", run["token"], traceparent=TRACE)[0] == 200
    assert kube.api.headers(f"GET {PODS}?limit=7")["traceparent"] == TRACE
    assert kube.ask("GET", f"{PODS}?limit=8", run["token"], traceparent=TRACE.upper())[0] == 200
    assert kube.ask("GET", f"{PODS}?watch=1&watch=0", run["token"], traceparent=TRACE)[0] == 403
    timeline = kube.gateway.json("runs", "show", run["run_id"])["timeline"]
    assert [entry.get("claims") for entry in timeline] == [
        {"traceparent": TRACE}, None, {"traceparent": TRACE}]


def test_an_approved_request_that_is_sent_again_may_have_another_span(own_kube):
    kube, run = own_kube, own_kube.run()
    path = f"{PODS}/worker"
    status, answer = kube.ask("DELETE", path, run["token"], Prefer="respond-async",
                              traceparent=TRACE)
    assert status == 202
    approval = answer["details"]["name"]
    approve(kube, approval)
    status, answer = kube.ask("DELETE", path, run["token"], Corral_Approval=approval,
                              traceparent=OTHER)
    assert status == 200, answer


def test_an_object_that_changed_while_people_were_asked_is_not_deleted(own_kube):
    kube, run = own_kube, own_kube.run()
    path = f"{PODS}/web"
    _, answer = kube.ask("DELETE", path, run["token"], Prefer="respond-async")
    approval = answer["details"]["name"]
    # Only its resourceVersion becomes another.
    kube.api.put("pods", "dev", kube.api.objects["pods", "dev", "web"])
    approve(kube, approval)
    status, answer = kube.ask("DELETE", path, run["token"], Corral_Approval=approval)
    assert status == 403 and "its resourceVersion was" in answer["message"], answer
    assert "only what the target keeps for itself changed" in answer["message"]
    assert ("pods", "dev", "web") in kube.api.objects


def test_a_mask_that_is_added_reaches_a_watch_that_is_open(own_kube):
    kube, run = own_kube, own_kube.run()
    path = "/api/v1/namespaces/dev/configmaps"
    connection = kube.connection()
    connection.request("GET", f"/k8s/prod{path}?watch=true",
                       headers={"Authorization": f"Bearer {run['token']}"})
    answer = connection.getresponse()
    assert answer.status == 200
    wait_until(lambda: kube.api.watches == 1, "the target watches")
    kube.apply("classify: [{columns: [core.configmaps.data], class: internal}]")
    event = json.loads(answer.readline())
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    assert answer.read() == b"", "and the answer is whole"
    wait_until(lambda: kube.api.watches == 0, "the target's side ends too")
    kube.api.put("configmaps", "dev", {"kind": "ConfigMap", "apiVersion": "v1",
                                       "metadata": {"name": "c"}, "data": {"k": "unseen"}})
    _, listed = kube.ask("GET", path, run["token"])
    assert listed["items"][0]["data"] != {"k": "unseen"}
    assert "unseen" not in json.dumps(listed)


def test_logs_end_when_the_policies_no_longer_allow_them(own_kube):
    kube, run = own_kube, own_kube.run()
    connection = kube.connection()
    connection.request("GET", f"/k8s/prod{PODS}/web/log?follow=true",
                       headers={"Authorization": f"Bearer {run['token']}"})
    answer = connection.getresponse()
    assert answer.readline() == b"line 1\n"
    kube.apply("""
---
kind: Policy
name: quiet
cedar: |
  @id("quiet") @reason("Nobody reads logs.")
  forbid (principal, action == Corral::Action::"kube_logs", resource in Corral::Target::"prod");
""")
    with pytest.raises((http.client.HTTPException, OSError)):
        answer.read()
    # Only that was taken away, and the record says so.
    assert kube.ask("GET", PODS, run["token"])[0] == 200
    [log] = [entry for entry in kube.gateway.json("runs", "show", run["run_id"])["timeline"]
             if "kube_logs" in entry["verbs"]]
    assert (log["outcome"], log["reason"]) == ("deny", "Nobody reads logs.")
    wait_until(lambda: kube.gateway.json("runs", "show", run["run_id"])["timeline"][0].get("result"),
               "it is accounted")


def test_a_watch_that_never_sends_ends_with_its_run(own_kube):
    run = own_kube.run()
    connection = own_kube.connection()
    connection.request("GET", f"/k8s/prod{PODS}?watch=true",
                       headers={"Authorization": f"Bearer {run['token']}"})
    answer = connection.getresponse()
    assert answer.status == 200
    wait_until(lambda: own_kube.api.watches == 1, "the target watches")
    # Others are unharmed meanwhile.
    assert own_kube.ask("GET", PODS, run["token"])[0] == 200
    started = time.monotonic()
    own_kube.gateway.run("runs", "kill", run["run_id"])
    with pytest.raises((http.client.HTTPException, OSError)):
        answer.read()
    assert time.monotonic() - started < 5
    wait_until(lambda: own_kube.api.watches == 0, "the target's side ends too")
    status, refusal = own_kube.ask("GET", PODS, run["token"])
    assert (status, refusal["reason"]) == (401, "Unauthorized")


def test_logs_stream_until_the_sponsor_is_disabled(own_kube):
    following = own_kube.start_kubectl("logs", "-f", "web", "-n", "dev")
    try:
        assert following.stdout.readline() == "line 1\n"
        assert following.stdout.readline() == "line 2\n"
        own_kube.gateway.run("users", "disable", "ada@example.com")
        _, err = following.communicate(timeout=10)
        assert following.returncode != 0, err
    finally:
        if following.poll() is None:
            os.killpg(following.pid, signal.SIGKILL)
            following.wait()


def test_the_record_verifies_afterwards(kube):
    record, key = kube.gateway.data / "record", kube.gateway.data / "record.pub"
    assert kube.gateway.run("audit", "verify", record, "--key", key).stdout.startswith("ok:")
