"""Spans of what is recorded, as a collector gets them, and collectors that are bad."""

import shutil
import ssl
import subprocess
import urllib.request

import pytest

from harness.collector import Collector
from harness.gateway import Gateway
from harness.kube_standin import TOKEN, KubeStandin
from harness.shop import Shop
from harness.sshd import RealSshd
from harness.waiting import wait_until
from harness.wire import Refused, Wire

CLAIM = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CLAIMED = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", {"corral.claimed": True})
HIDDEN = "hunter2"
# More than wait anywhere: notes, spans, one batch on its way.
TOO_MANY = 10_000
# Longer than one try to send takes.
EXPORT_DEADLINE_S = 30
MIB = 1024 * 1024
# What waits at most, in a debug build; and what a second flood may add to a full queue.
QUEUED_BYTES_MAX = 96 * MIB
ADDED_BYTES_MAX = 24 * MIB

MORE = """
kind: Target
name: web-1
protocol: ssh
address: 127.0.0.1:{sshd.port}
credential: {{username: {sshd.user}, private_key: {{file: {sshd.folder}/user_key}}}}
options:
  host_keys: ["{sshd.host_key}"]
---
kind: Target
name: prod
protocol: kubernetes
address: 127.0.0.1:{api.port}
tls: {{mode: verify-full, ca_file: {api.ca_file}}}
credential: {{token: {{value: {token}}}}}
---
kind: Policy
name: others
cedar: |
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"web-1");
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"prod");
"""


def config(endpoint, more=""):
    return f"otlp:\n  endpoint: {endpoint}\n{more}"


def metrics(gateway):
    context = ssl.create_default_context(cafile=gateway.ready["ca_file"])
    with urllib.request.urlopen(f"{gateway.ready['api']}/metrics", context=context) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in
            (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def dropped(gateway):
    return metrics(gateway)["corral_otlp_spans_dropped_total"]


def memory(gateway):
    return metrics(gateway)["process_resident_memory_bytes"]


def ssh(shop, sshd, token, command):
    script = sshd.folder / "askpass"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$CORRAL_TEST_TOKEN"\n')
    script.chmod(0o700)
    host, port = shop.gateway.address("ssh")
    words = ["ssh", "-F", "/dev/null", "-o", f"UserKnownHostsFile={sshd.folder}/known",
             "-o", "StrictHostKeyChecking=accept-new", "-o", "IdentityFile=none",
             "-o", "PreferredAuthentications=password", "-o", "SendEnv=TRACEPARENT",
             "-p", str(port), f"{sshd.user}@web-1@{host}", command]
    env = {"PATH": "/usr/bin:/bin", "CORRAL_TEST_TOKEN": token, "SSH_ASKPASS": str(script),
           "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none", "TRACEPARENT": CLAIM}
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, env=env,
                          timeout=30, check=True)


def ask_cluster(gateway, token, path):
    connection = gateway.https()
    connection.request("GET", f"/k8s/prod{path}",
                       headers={"Authorization": f"Bearer {token}", "traceparent": CLAIM})
    status = connection.getresponse().status
    connection.close()
    return status


def test_runs_sessions_and_statements_of_three_protocols_are_one_trace(server, tmp_path):
    key = tmp_path / "collector.token"
    key.write_text("Bearer the-collectors-token\n")
    more = f"  headers: {{authorization: {{file: {key}}}}}\n"
    api, sshd = KubeStandin(), RealSshd()
    (sshd.folder / "work").mkdir()
    try:
        with Collector() as collector, \
                Shop(server, more=MORE.format(sshd=sshd, api=api, token=TOKEN),
                     config=config(collector.endpoint, more)) as shop:
            root = shop.gateway.json(
                "runs", "start", "--name", "root", "--purpose", HIDDEN,
                env=shop.gateway.client_env(shop.workload()) | {"TRACEPARENT": CLAIM})
            child = shop.gateway.start_run("child", root["token"])
            with shop.connect("orders-db", child["token"]) as connection:
                query = f"select id from orders where placed::text <> '{HIDDEN}'"
                connection.execute(f"{query} /*traceparent='{CLAIM}'*/")
                connection.execute(f"select '{HIDDEN}' /*traceparent='00-nonsense'*/")
                connection.execute("select id from orders where id = %s and %s::text <> ''",
                                   (7, HIDDEN))
                with pytest.raises(Exception, match="corral: "):
                    connection.execute("create role mallory")
                with pytest.raises(Exception, match="division.by.zero"):
                    connection.execute("select id / 0 from orders")
            ssh(shop, sshd, child["token"], f"echo {HIDDEN}")
            assert ask_cluster(shop.gateway, child["token"],
                               f"/api/v1/namespaces/dev/pods?labelSelector={HIDDEN}") == 200
            for run in (child, root):
                shop.gateway.run("runs", "end", run["run_id"])
            wait_until(lambda: len(collector.named("corral.run")) == 2, "both runs are exported")
            assert metrics(shop.gateway)["corral_otlp_spans_dropped_total"] == 0
            spans = list(collector.spans)
            assert {h["authorization"] for h in collector.headers} == {
                "Bearer the-collectors-token"}
    finally:
        sshd.close()
        api.close()
        shutil.rmtree(api.folder, ignore_errors=True)
    assert len({span.trace for span in spans}) == 1
    runs = {s.attributes["corral.run"]: s for s in spans if s.name == "corral.run"}
    top, below = runs[root["run_id"]], runs[child["run_id"]]
    assert (top.parent, below.parent) == ("", top.id)
    assert top.links == [CLAIMED] and top.trace != CLAIMED[0], "claimed, and never trusted"
    sessions = [span for span in spans if span.name.startswith("corral.session ")]
    assert {s.attributes["corral.target"] for s in sessions} == {"orders-db", "web-1", "prod"}
    assert {s.parent for s in sessions} == {below.id}
    statements = [s for s in spans if "corral.statement" in s.attributes]
    by_id = {session.id: session for session in sessions}
    assert all(s.attributes["corral.target"] == by_id[s.parent].attributes["corral.target"]
               for s in statements)
    sql = [s for s in statements if s.attributes["corral.target"] == "orders-db"]
    assert {s.attributes["db.system.name"] for s in sql} == {"postgresql"}
    first = [s for s in sql if s.links == [CLAIMED]]
    assert len(first) == 1 and first[0].name == "select public.orders", sql
    assert first[0].attributes["db.response.returned_rows"] == 30
    assert first[0].attributes["corral.claimed.trace_id"] == CLAIMED[0]
    denied = [s for s in sql if s.attributes["corral.outcome"] == "deny"]
    assert denied and all(s.is_error and s.attributes["error.type"] == "denied" for s in denied)
    assert [s for s in sql if s.attributes.get("error.type") == "22012" and s.is_error]
    [command] = [s for s in statements if s.attributes["corral.target"] == "web-1"]
    assert (command.name, command.links, command.is_error) == ("exec", [CLAIMED], False)
    assert command.lasted_ns > 0
    [listed] = [s for s in statements if s.attributes["corral.target"] == "prod"]
    assert (listed.name, listed.links, listed.is_error) == ("kube_list pods", [CLAIMED], False)
    for span in spans:
        assert span.attributes["corral.root"] == root["run_id"]
        assert span.attributes["corral.sponsor"] == "ada@example.com"
        assert span.resource["service.name"] == "corral"
        for secret in (HIDDEN, root["token"], child["token"], "collectors-token", "nonsense",
                       shop.env["TARGET_PASSWORD"]):
            assert secret not in span.text, span


def test_a_run_that_outlives_the_gateway_is_exported_by_the_next(server):
    with Collector() as collector, Shop(server, config=config(collector.endpoint)) as shop:
        root = shop.run("root")
        child = shop.gateway.start_run("child", root["token"])
        shop.gateway.stop()
        shop.gateway.start()
        assert collector.named("corral.run") == []
        with shop.connect("plain-db", child["token"]) as connection:
            connection.execute("select 1")
        shop.gateway.run("runs", "end", root["run_id"])
        spans = wait_until(lambda: len(collector.named("corral.run")) == 2 and collector.spans,
                           "both runs are exported")
        assert len({span.trace for span in spans}) == 1
        runs = {s.attributes["corral.run"]: s for s in collector.named("corral.run")}
        assert runs[child["run_id"]].parent == runs[root["run_id"]].id
        assert runs[child["run_id"]].attributes["corral.run.path"] == "root/child"


def test_what_waits_is_sent_when_the_gateway_stops(server):
    with Collector() as collector, Shop(server, config=config(collector.endpoint)) as shop:
        with shop.connect("plain-db") as connection:
            connection.execute("select 1")
        assert shop.gateway.stop() == 0
        assert collector.named("select")
        assert collector.named("corral.session plain-db")


def test_what_is_refused_is_a_span_and_what_does_not_stop_is_one_more(server):
    with Collector() as collector, Shop(server, config=config(collector.endpoint)) as shop:
        asked = shop.gateway.client_env(shop.workload()) | {"TRACEPARENT": CLAIM}
        shop.gateway.run("runs", "start", "--name", HIDDEN, "--target", "gone-db", env=asked,
                         expect=None)
        run = shop.run("known")
        with Wire(shop.gateway.address()) as wire, pytest.raises(Refused):
            wire.login(run["token"], "gone-db")
        for _ in range(110):
            with Wire(shop.gateway.address()) as wire, pytest.raises(Refused):
                wire.login("crl_" + "a" * 52, "plain-db")
        assert shop.gateway.stop() == 0
    refused = [span for span in collector.spans if span.attributes.get("error.type") == "refused"]
    assert all(span.is_error and HIDDEN not in span.text for span in refused)
    [of_run] = [span for span in refused if span.name == "corral.run"]
    assert of_run.links == [CLAIMED] and of_run.trace != CLAIMED[0]
    assert of_run.attributes["corral.principal"] == "nightly-report"
    sessions = [span for span in refused if span.name.startswith("corral.session")]
    [of_known] = [span for span in sessions if span.attributes.get("corral.run")]
    assert of_known.attributes["corral.run"] == run["run_id"] and of_known.parent
    others = [span for span in sessions if span is not of_known]
    assert sorted(span.attributes["corral.refusals"] for span in others) == [1] * 100 + [10]
    assert len({span.id for span in refused}) == len(refused)


def many(shop, count):
    with shop.connect("plain-db") as connection, connection.pipeline():
        for _ in range(count):
            connection.execute("select 1")


@pytest.mark.parametrize("mode", ["hang", 503, "away"])
def test_sessions_go_on_when_the_collector_does_not(server, mode):
    with Collector(mode) as collector:
        endpoint = collector.endpoint
        if mode == "away":
            collector.close = lambda: None
            Collector.close(collector)
        with Shop(server, config=config(endpoint)) as shop:
            many(shop, 1)
            before = memory(shop.gateway)
            many(shop, TOO_MANY)
            wait_until(lambda: dropped(shop.gateway) > 0, "something is dropped")
            assert metrics(shop.gateway)["corral_otlp_spans_queued"] == 8192
            full = memory(shop.gateway)
            assert full - before < QUEUED_BYTES_MAX
            lost = dropped(shop.gateway)
            many(shop, TOO_MANY)
            wait_until(lambda: dropped(shop.gateway) >= lost + TOO_MANY, "all of it is dropped")
            assert metrics(shop.gateway)["corral_otlp_spans_queued"] == 8192
            assert memory(shop.gateway) - full < ADDED_BYTES_MAX
            with shop.connect("plain-db") as connection:
                assert connection.execute("select 1").fetchone() == (1,)
            # A collector that hangs is waited for; on a fast machine all of this took less.
            wait_until(lambda: "spans did not reach the collector" in shop.gateway.log(),
                       "it is said", EXPORT_DEADLINE_S)
            assert shop.gateway.log().count("spans did not reach the collector") == 1
            assert shop.gateway.stop() == 0


@pytest.mark.parametrize("mode", [500, 400, 302])
def test_what_a_collector_refuses_is_dropped_and_counted(server, mode):
    with Collector(mode) as collector, Shop(server, config=config(collector.endpoint)) as shop:
        with shop.connect("plain-db") as connection:
            connection.execute("select 1")
        wait_until(lambda: dropped(shop.gateway) >= 2, "both spans are dropped")
        collector.mode = "ok"
        with shop.connect("plain-db") as connection:
            connection.execute("select 2")
        wait_until(lambda: collector.named("corral.session plain-db"), "the next are sent")
        assert metrics(shop.gateway)["corral_otlp_spans_exported_total"] >= 2


def test_a_collector_that_is_away_for_a_moment_gets_everything(server):
    with Collector(503) as collector, Shop(server, config=config(collector.endpoint)) as shop:
        with shop.connect("plain-db") as connection:
            connection.execute("select 1")
        wait_until(lambda: collector.requests > 0, "it is asked")
        collector.mode = "ok"
        wait_until(lambda: collector.named("corral.session plain-db"), "it is sent again")
        assert dropped(shop.gateway) == 0


def test_an_answer_of_100_mb_is_not_read(server):
    with Collector("huge") as collector, Shop(server, config=config(collector.endpoint)) as shop:
        shop.connect("plain-db").close()
        wait_until(lambda: collector.headers, "it is sent")
        at_first = memory(shop.gateway)
        for _ in range(3):
            before = len(collector.headers)
            with shop.connect("plain-db") as connection:
                connection.execute("select 1")
            wait_until(lambda: len(collector.headers) > before, "it is sent")
        wait_until(lambda: metrics(shop.gateway)["corral_otlp_spans_exported_total"] >= 4, "sent")
        assert memory(shop.gateway) - at_first < 64 * MIB, "less than one answer"


@pytest.mark.parametrize("text, why", [
    ("otlp: {endpoint: 'http://collector.example:4318'}", "https://HOST:PORT"),
    ("otlp: {endpoint: 'https://c', headers: {a: {env: NO_SUCH}}}", "NO_SUCH"),
    ("otlp: {endpoint: 'https://c', ca_file: none.pem}", "none.pem"),
    ("otlp: {endpoint: 'https://c', token: x}", "token"),
])
def test_a_wrong_setting_stops_the_start_and_says_why(text, why):
    with pytest.raises(AssertionError, match="exited") as caught:
        Gateway(config=text)
    assert why in str(caught.value)


def test_without_the_setting_there_are_no_counters(shop):
    assert not [name for name in metrics(shop.gateway) if "otlp" in name]
