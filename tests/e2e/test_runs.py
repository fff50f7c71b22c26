"""Runs as trees: narrowing, ends, `corral run`, limits, and offboarding."""

import datetime
import json
import os
import socket
import sys
import threading

import psycopg
import pytest

from harness.waiting import wait_until

LIMITS = """
kind: Limit
name: agents
subject: {group: agents}
sessions_max: 5
"""


def child(shop, parent, name="child", *more, **options):
    return shop.gateway.json("runs", "start", "--name", name, *more, token=parent["token"],
                             **options)


def node(shop, run):
    def find(nodes):
        for one in nodes:
            if one["run_id"] == run["run_id"]:
                return one
            below = find(one["children"])
            if below:
                return below
        return None

    return find(shop.gateway.json("runs", "tree"))


def test_a_run_is_started_by_a_principal_and_its_child_by_the_run(shop):
    root = shop.run("ci-job")
    planner = child(shop, root, "planner")
    executor = child(shop, planner, "executor-1")
    found = node(shop, root)
    assert {"run_id", "name", "principal", "sponsor", "state", "sessions", "children"} <= set(found)
    assert found["name"] == "ci-job" and found["principal"] == "nightly-report"
    assert found["sponsor"] == "ada@example.com"
    assert [c["name"] for c in found["children"]] == ["planner"]
    assert found["children"][0]["children"][0]["run_id"] == executor["run_id"]
    assert executor["token"].startswith("crl_") and len(executor["token"]) <= 64


def test_nothing_outlives_its_parent(shop):
    root = shop.run()
    middle = child(shop, root)
    leaf = child(shop, middle)
    with shop.connect("plain-db", leaf["token"]) as connection:
        connection.execute("select 1")
        shop.gateway.run("runs", "end", root["run_id"])
        with pytest.raises(psycopg.OperationalError) as caught:
            wait_until(lambda: connection.execute("select 1") and False, "the session ends")
        assert caught.value.sqlstate in ("57P01", None)
    assert node(shop, leaf)["state"] != "active"


def test_a_child_has_no_more_than_its_parent(shop):
    root = shop.run("narrow", "--target", "plain-db", "--ttl", "5m")
    shop.gateway.run("runs", "start", "--name", "wide", "--target", "orders-db",
                     token=root["token"], expect=3)
    longer = shop.gateway.run("runs", "start", "--name", "long", "--ttl", "1h", "-o", "json",
                              token=root["token"], expect=None)
    if longer.returncode == 0:
        ends = [datetime.datetime.fromisoformat(run["expires_at"][:19])
                for run in (json.loads(longer.stdout), root)]
        assert ends[0] <= ends[1] + datetime.timedelta(seconds=1)


def test_a_run_cannot_reach_beyond_its_own_tree(shop):
    mine, other = shop.run("mine"), shop.run("other")
    for action in ("kill", "end"):
        result = shop.gateway.run("runs", action, other["run_id"], token=mine["token"],
                                  expect=None)
        assert result.returncode in (3, 4)
    assert node(shop, other)["state"] == "active"


def test_corral_run_gives_its_command_what_clients_read(shop):
    script = ("import os, json; print(json.dumps({k: v for k, v in os.environ.items() "
              "if k.startswith(('PG', 'CORRAL_'))}))")
    result = shop.gateway.run("run", "--name", "job", "--target", "orders-db", "--",
                              sys.executable, "-c", script, token=shop.workload())
    env = json.loads(result.stdout.splitlines()[-1])
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGSSLROOTCERT", "PGSSLMODE",
                 "PGDATABASE", "CORRAL_TOKEN", "CORRAL_GATEWAY", "CORRAL_CA_FILE"):
        assert env.get(name), name
    assert env["PGDATABASE"] == "orders-db" and env["PGPASSWORD"] == env["CORRAL_TOKEN"]


def test_corral_run_exits_as_its_command_and_ends_the_run(shop):
    result = shop.gateway.run("run", "--name", "seven", "--target", "orders-db", "--", "psql",
                              "-X", "-A", "-t", "-c", "select count(*) from orders",
                              token=shop.workload())
    assert result.stdout.strip().splitlines()[-1] == "30"
    shop.gateway.run("run", "--name", "seven", "--", "sh", "-c", "exit 7",
                     token=shop.workload(), expect=7)
    mine = [r for r in shop.gateway.json("runs", "list") if r["name"] == "seven"]
    assert mine and all(r["state"] != "active" for r in mine)


def started(shop, name):
    """The run of this name, once it is there."""
    return wait_until(lambda: next(
        (run for run in shop.gateway.json("runs", "list") if run["name"] == name), None),
        f"the run {name} is there")


def test_corral_run_passes_signals_on(shop):
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    process = shop.gateway.background("run", "--name", "signalled", "--", "sh", "-c", script,
                                      token=shop.workload())
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(20) == 9
    assert node(shop, {"run_id": started(shop, "signalled")["id"]})["state"] == "ended"


def test_a_run_ends_when_its_wrapper_is_killed(shop):
    process = shop.gateway.background("run", "--name", "orphaned", "--", "sh", "-c",
                                      "echo ready; exec sleep 60", token=shop.workload(),
                                      start_new_session=True)
    try:
        assert process.stdout.readline() == "ready\n"
        run = {"run_id": started(shop, "orphaned")["id"]}
        assert node(shop, run)["state"] == "active"
        process.kill()
        wait_until(lambda: node(shop, run)["state"] == "ended", "the run ends with its wrapper")
        assert node(shop, run)["end_reason"] == "wrapper_lost"
    finally:
        process.kill()
        process.wait()


def test_corral_run_below_a_run_is_a_child(shop):
    root = shop.run("parent")
    shop.gateway.run("run", "--name", "below", "--", "true", token=root["token"])
    assert [c["name"] for c in node(shop, root)["children"]] == ["below"]


def test_an_administrator_starts_a_run_for_somebody(shop):
    run = shop.gateway.json("runs", "start", "--name", "for", "--for", "nightly-report")
    assert node(shop, run)["principal"] == "nightly-report"


def test_a_limit_of_five_lets_exactly_five_of_a_hundred_in(own_shop):
    own_shop.gateway.apply(LIMITS)
    token = own_shop.run()["token"]
    barrier = threading.Barrier(100)
    lock = threading.Lock()
    open_now, refused = [], []

    def connect():
        barrier.wait()
        try:
            connection = own_shop.connect("plain-db", token)
            with lock:
                open_now.append(connection)
        except psycopg.OperationalError as error:
            with lock:
                refused.append(str(error))

    threads = [threading.Thread(target=connect) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(open_now) == 5 and len(refused) == 95, refused[:3]
    assert all("corral:" in text for text in refused)
    for connection in open_now:
        connection.close()

    def all_five_again():
        opened = []
        try:
            for _ in range(5):
                opened.append(own_shop.connect("plain-db", token))
            return True
        except psycopg.OperationalError:
            return False
        finally:
            for connection in opened:
                connection.close()

    wait_until(all_five_again, "every place is free again")


def test_places_are_freed_however_a_session_ends(own_shop):
    own_shop.gateway.apply(LIMITS)
    token = own_shop.run()["token"]
    for _ in range(4):
        sessions = []
        for _ in range(5):
            sessions.append(wait_until(lambda: try_connect(own_shop, token), "a place is free"))
        sessions[0].close()
        for session in sessions[1:]:
            # Neither Terminate nor a clean TLS end.
            sock = socket.socket(fileno=os.dup(session.pgconn.socket))
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def try_connect(shop, token):
    try:
        return shop.connect("plain-db", token)
    except psycopg.OperationalError:
        return None


def test_a_root_run_is_refused_when_its_sponsor_is_disabled(own_shop):
    secret = own_shop.workload()
    own_shop.gateway.run("users", "disable", "ada@example.com")
    own_shop.gateway.run("runs", "start", "--name", "late", token=secret, expect=3)
    own_shop.gateway.run("runs", "start", "--name", "late", "--for", "nightly-report", expect=3)
    own_shop.gateway.run("users", "enable", "ada@example.com")
    fresh = own_shop.gateway.login_workload("nightly-report", own_shop.env["NIGHTLY_SECRET"])
    own_shop.gateway.run("runs", "start", "--name", "again", token=fresh)


def test_disabling_a_sponsor_ends_runs_sessions_and_what_they_have_running(own_shop):
    root = own_shop.run("root")
    executor = child(own_shop, root, "executor")
    idle = own_shop.connect("plain-db", executor["token"])
    busy = own_shop.connect("plain-db", root["token"])
    outcome = []

    def sleep():
        try:
            busy.execute("select pg_sleep(50)")
        except psycopg.Error as error:
            outcome.append(error.sqlstate)

    worker = threading.Thread(target=sleep)
    worker.start()
    running = ("select 1 from pg_stat_activity where state = 'active' and query ~ 'pg_sleep.50' "
               f"and datname = '{own_shop.plain}'")
    wait_until(lambda: own_shop.server.execute(running), "the statement runs")
    own_shop.gateway.run("users", "disable", "ada@example.com")
    worker.join(10)
    assert not worker.is_alive(), "the busy session ends"
    assert outcome and outcome[0] in ("57P01", "57014", None)
    with pytest.raises(psycopg.OperationalError):
        idle.execute("select 1")
    wait_until(lambda: not own_shop.server.execute(running), "the target stopped working")
    assert node(own_shop, root)["state"] != "active"
    assert node(own_shop, executor)["state"] != "active"
    with pytest.raises(psycopg.OperationalError):
        own_shop.connect("plain-db", executor["token"])


def test_killing_a_session_ends_it_alone(shop):
    run = shop.run()
    with shop.connect("plain-db", run["token"]) as one, \
            shop.connect("plain-db", run["token"]) as two:
        one.execute("select 1")
        two.execute("select 1")
        sessions = [s for s in shop.gateway.json("sessions", "list")
                    if s.get("run_id") == run["run_id"] and s.get("state") in (None, "open")]
        assert len(sessions) == 2
        shop.gateway.run("sessions", "kill", sessions[0]["id"])

        def dead():
            count = 0
            for connection in (one, two):
                try:
                    connection.execute("select 1")
                except psycopg.Error:
                    count += 1
            return count

        wait_until(dead, "one session has ended")
        assert dead() == 1


def test_children_and_depth_are_limited(own_shop):
    own_shop.gateway.apply("""
kind: Limit
name: runs
subject: {any: true}
run: {children_max: 2, depth_max: 2, ttl_max: 10m}
""")
    root = own_shop.run()
    first = child(own_shop, root, "1")
    child(own_shop, root, "2")
    result = own_shop.gateway.run("runs", "start", "--name", "3", token=root["token"], expect=None)
    assert result.returncode in (1, 3), "a third child"
    below = child(own_shop, first, "deeper")
    result = own_shop.gateway.run("runs", "start", "--name", "too deep", token=below["token"],
                                  expect=None)
    assert result.returncode in (1, 3), "a third level"


def test_a_budget_of_statements_is_charged_to_every_ancestor(own_shop):
    own_shop.gateway.apply("""
kind: Limit
name: budget
subject: {group: agents}
run: {statements_max: 10}
""")
    root = own_shop.run()
    one, two = child(own_shop, root, "1"), child(own_shop, root, "2")
    count, state = 0, None
    for run in (one, two):
        try:
            with own_shop.connect("plain-db", run["token"]) as connection:
                for _ in range(7):
                    connection.execute("select 1")
                    count += 1
        except psycopg.Error as error:
            state = error.sqlstate
            assert "corral:" in str(error) or error.sqlstate is None
    assert count <= 10
    assert state in ("53400", None)
