"""What runs were granted, what they may use, and when they must be renewed."""

import json
import sqlite3
import threading
import time

import psycopg
import pytest

from harness.waiting import wait_until
from harness.wire import Wire, message

CONNECTIONS = 50


def start(shop, name, *more, token=None, **options):
    """A run of the nightly job, or of whoever the token is."""
    return shop.gateway.json("runs", "start", "--name", name, *more,
                             token=token or shop.workload(), **options)


def show(shop, run):
    return shop.gateway.json("runs", "show", run["run_id"])


def limit(shop, **run):
    words = ", ".join(f"{key}: {value}" for key, value in run.items())
    shop.gateway.apply(f"kind: Limit\nname: budget\nsubject: {{group: agents}}\nrun: {{{words}}}\n")


def refusal(connection, statement):
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    return caught.value


def has_ended(shop, run, reason):
    found = show(shop, run)
    return found["state"] == "ended" and found["end_reason"] == reason


# -- grants

def test_a_grant_of_actions_holds_whatever_policy_permits(shop):
    reader = start(shop, "reader", "--action", "read")
    assert reader["actions"] == ["read"]
    with shop.connect("plain-db", reader["token"]) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        error = refusal(connection, "create table not_granted (n int)")
        assert error.sqlstate == "42501"
        assert "corral: grant: run 'reader' was granted `read` only" in str(error)
        connection.execute("begin")
        connection.execute("select 1")
        connection.execute("commit")
    event = [e for e in shop.gateway.events("--run", reader["run_id"])
             if e["event"] == "statement.decided" and e["outcome"] == "deny"][-1]
    assert event["rules"] == ["grant"]


def test_a_child_is_granted_no_more_than_its_parent(shop):
    reader = start(shop, "reader", "--action", "read")
    wider = shop.gateway.run("runs", "start", "--name", "wider", "--action", "write",
                             token=reader["token"], expect=3)
    assert "action 'write' is not granted to run 'reader' above it" in wider.stderr
    narrower = start(shop, "narrower", "--action", "select", token=reader["token"])
    same = start(shop, "same", token=reader["token"])
    for run in (narrower, same):
        with shop.connect("plain-db", run["token"]) as connection:
            connection.execute("select 1")
            assert refusal(connection, "create table no (n int)").sqlstate == "42501"


def test_an_unknown_action_is_refused_when_it_is_asked_for(shop):
    result = shop.gateway.run("runs", "start", "--name", "typo", "--action", "selct",
                              token=shop.workload(), expect=None)
    assert result.returncode not in (0, 3)
    assert "'selct' is no action of policies; did you mean 'select'?" in result.stderr


def test_corral_run_limits_its_command(shop):
    result = shop.gateway.run("run", "--name", "limited", "--target", "plain-db", "--action",
                              "read", "--", "psql", "-X", "-c", "create table limited (n int)",
                              token=shop.workload(), expect=1)
    assert "corral: grant:" in result.stderr


# -- reports and claims

def test_reports_show_who_answers_and_what_nobody_uses(own_shop):
    root = start(own_shop, "root", "--target", "plain-db", "--target", "orders-db",
                 "--action", "select", "--action", "write")
    child = start(own_shop, "child", token=root["token"])
    with own_shop.connect("plain-db", child["token"]) as connection:
        connection.execute("select 1")
    own_shop.gateway.run("runs", "end", root["run_id"])

    def report(name):
        return own_shop.gateway.json("runs", "report", name)

    sponsor, = report("sponsors")
    assert sponsor["sponsor"] == "ada@example.com" and sponsor["runs_ended"] == 2
    assert sponsor["statements"] == 1, "of the root, which is charged for its child"
    unused = next(r for r in report("grants") if r["run_id"] == root["run_id"])
    assert unused["unused_targets"] == ["orders-db"] and unused["unused_actions"] == ["write"]
    assert [r["run_id"] for r in report("orphans")] == [child["run_id"]]
    dormant, = report("dormant")
    assert dormant["workload"] == "nightly-report" and dormant["last_started_at"]
    own_shop.gateway.run("users", "disable", "ada@example.com")
    own_shop.gateway.run("runs", "start", "--name", "late", "--for", "nightly-report", expect=3)
    assert [r["name"] for r in report("refused")] == ["late"]
    assert "unused" in own_shop.gateway.run("runs", "report", "grants").stdout.lower()
    own_shop.gateway.run("runs", "report", "refused", token=own_shop.login("grace"), expect=3)


def test_a_trace_is_kept_as_a_claim(shop):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    run = start(shop, "traced", env=shop.gateway.client_env(shop.workload())
                | {"TRACEPARENT": trace})
    with shop.connect("plain-db", run["token"]) as connection:
        connection.execute(f"select 1 /*traceparent='{trace}'*/")
        connection.execute("select 2 /*traceparent='not one'*/")
    found = shop.gateway.events("--run", run["run_id"])
    started = next(e for e in found if e["event"] == "run.started")
    assert started["traceparent"] == trace
    decided = [e for e in found if e["event"] == "statement.decided"]
    assert [e.get("traceparent") for e in decided] == [trace, None]
    shown = show(shop, run)
    assert shown["claimed_traceparent"] == trace
    assert [s.get("claims") for s in shown["timeline"]] == [{"traceparent": trace}, None]
    text = shop.gateway.run("runs", "show", run["run_id"]).stdout
    assert f"{trace} (claimed)" in text
    assert text.count(f"claims traceparent {trace}") == 2, "the run's and the statement's"


# -- budgets

def test_a_budget_of_writes_leaves_reading(own_shop):
    limit(own_shop, writes_max=2)
    root = start(own_shop, "root")
    one = start(own_shop, "one", token=root["token"])
    two = start(own_shop, "two", token=root["token"])
    with own_shop.connect("plain-db", one["token"]) as connection:
        connection.execute("create table counted (n int)")
        connection.execute("insert into counted values (1)")
    with own_shop.connect("plain-db", two["token"]) as connection:
        error = refusal(connection, "insert into counted values (2)")
        assert error.sqlstate == "53400" and "do more than read" in str(error)
        assert connection.execute("select count(*) from counted").fetchone() == (1,)
    assert show(own_shop, root)["writes"] == 2
    assert show(own_shop, root)["left"]["writes"] == 0
    assert show(own_shop, root)["state"] == "active", "reading goes on"


def test_a_spent_budget_ends_the_run_that_has_it(own_shop):
    limit(own_shop, statements_max=3)
    root = start(own_shop, "root")
    child = start(own_shop, "child", token=root["token"])
    idle = own_shop.connect("plain-db", root["token"])
    with own_shop.connect("plain-db", child["token"]) as connection:
        for _ in range(3):
            connection.execute("select 1")
        assert refusal(connection, "select 1").sqlstate == "53400"
    wait_until(lambda: has_ended(own_shop, root, "budget_spent"), "the run ends")
    assert refusal(idle, "select 1").sqlstate in ("53400", None)
    # The limit is the child's own, too; the topmost run with nothing left is the one that ends.
    assert has_ended(own_shop, child, "parent_ended")
    assert show(own_shop, root)["statements"] == 3


def test_respawning_gives_nothing_back(own_shop):
    limit(own_shop, statements_max=6)
    root = start(own_shop, "root")
    done = 0
    for number in range(4):
        result = own_shop.gateway.run("runs", "start", "--name", f"executor-{number}", "-o",
                                      "json", token=root["token"], expect=None)
        if result.returncode:
            break
        try:
            with own_shop.connect("plain-db", json.loads(result.stdout)["token"]) as connection:
                for _ in range(2):
                    connection.execute("select 1")
                    done += 1
        except psycopg.Error:
            pass
    assert done == 6


def race(shop, run, statement, max_each):
    """How many statements succeed on all connections together."""
    sessions = [shop.connect("plain-db", run["token"]) for _ in range(CONNECTIONS)]
    barrier, lock, done = threading.Barrier(CONNECTIONS), threading.Lock(), []

    def use(session):
        barrier.wait()
        count = 0
        try:
            for _ in range(max_each):
                session.execute(statement)
                count += 1
        except psycopg.Error:
            pass
        with lock:
            done.append(count)

    threads = [threading.Thread(target=use, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in sessions:
        session.close()
    return sum(done)


def test_fifty_connections_race_for_one_budget_of_statements(own_shop):
    limit(own_shop, statements_max=120)
    run = start(own_shop, "race")
    assert race(own_shop, run, "select 1", 10) == 120
    assert show(own_shop, run)["statements"] == 120


def test_fifty_connections_overshoot_rows_by_one_statement_each_at_most(own_shop):
    limit(own_shop, rows_max=1000)
    run = start(own_shop, "race")
    race(own_shop, run, "select generate_series(1, 20)", 10)
    wait_until(lambda: has_ended(own_shop, run, "budget_spent"), "the run ends")
    rows = show(own_shop, run)["rows"]
    assert 1000 <= rows <= 1000 + 20 * CONNECTIONS, rows


def test_rows_of_a_portal_count_before_its_end(own_shop):
    limit(own_shop, rows_max=1000)
    run = start(own_shop, "portal")
    rows = 0
    with Wire(own_shop.gateway.address()) as wire:
        wire.login(run["token"], "plain-db")
        wire.send(message(b"P", b"\0select generate_series(1, 100000)\0\0\0")
                  + message(b"B", b"\0\0\0\0\0\0\0\0"))
        for _ in range(50):
            wire.send(message(b"E", b"\0" + (100).to_bytes(4, "big")) + message(b"H"))
            answers = wire.read_until(b"s", b"E")
            rows += sum(kind == b"D" for kind, _ in answers)
            if answers[-1][0] != b"s":
                break
    assert 1000 <= rows <= 1100, rows


def test_fifty_connections_overshoot_bytes_by_one_statement_each_at_most(own_shop):
    limit(own_shop, bytes_max=1_000_000)
    run = start(own_shop, "race")
    race(own_shop, run, "select repeat('x', 100000)", 10)
    wait_until(lambda: has_ended(own_shop, run, "budget_spent"), "the run ends")
    used = show(own_shop, run)["bytes"]
    # Beside the letters: what it takes to open a session, and what is around them.
    assert 1_000_000 <= used <= 1_000_000 + 110_000 * CONNECTIONS, used


def test_the_login_and_the_gateways_own_questions_are_among_a_sessions_bytes(shop):
    run = start(shop, "small")
    with shop.connect("plain-db", run["token"]) as connection:
        connection.execute("select 1")
    wait_until(lambda: show(shop, run)["bytes"], "the session is charged")
    # As docs/runs.md says.
    assert 10_000 < show(shop, run)["bytes"] < 20_000


def test_wall_time_ends_a_run_however_often_it_is_renewed(own_shop):
    limit(own_shop, wall_time_max="4s", ttl_max="1h")
    root = start(own_shop, "root", "--ttl", "3s")
    began = time.monotonic()
    own_shop.gateway.run("runs", "renew", root["run_id"], "--ttl", "1h")
    child = start(own_shop, "child", "--ttl", "1h", token=root["token"])
    session = own_shop.connect("plain-db", child["token"])
    assert show(own_shop, root)["left"]["wall_time_s"] <= 4
    wait_until(lambda: has_ended(own_shop, root, "budget_spent"), "the wall time is over")
    assert time.monotonic() - began < 8
    assert show(own_shop, child)["state"] == "ended"
    assert refusal(session, "select 1").sqlstate in ("53400", None)


def test_a_shorter_wall_time_counts_for_runs_that_are_active(own_shop):
    root = start(own_shop, "root", "--ttl", "1h")
    limit(own_shop, wall_time_max="1s")
    wait_until(lambda: has_ended(own_shop, root, "budget_spent"), "the wall time is over")


# -- what survives a restart

def test_what_was_used_survives_kill_9_and_a_stop(own_shop):
    limit(own_shop, statements_max=50)
    root = start(own_shop, "root", "--ttl", "1h")
    with own_shop.connect("plain-db", root["token"]) as connection:
        for _ in range(20):
            connection.execute("select 1")
    stored = own_shop.gateway.data / "corral.db"

    def is_kept():
        with sqlite3.connect(f"file:{stored}?mode=ro", uri=True) as store:
            row = store.execute("select used_statements, used_targets from runs where id = ?",
                                (root["run_id"],)).fetchone()
            return row and row[0] >= 20 and "plain-db" in row[1]

    began = time.monotonic()
    wait_until(is_kept, "what was used is stored")
    assert time.monotonic() - began < 3, "the interval is one second"
    own_shop.gateway.kill_hard()
    own_shop.gateway.start()
    found = show(own_shop, root)
    assert found["statements"] == 20 and found["left"]["statements"] == 30
    with own_shop.connect("plain-db", root["token"]) as connection:
        for _ in range(7):
            connection.execute("select 1")
    own_shop.gateway.stop()
    own_shop.gateway.start()
    found = show(own_shop, root)
    assert found["statements"] == 27 and found["used_actions"] == ["select"]
    own_shop.gateway.run("runs", "end", root["run_id"])
    assert show(own_shop, root)["statements"] == 27, "an ended run keeps its account"


# -- renewing

def test_a_run_that_is_not_renewed_in_time_ends(own_shop):
    run = start(own_shop, "beating", "--renew-within", "2s", "--ttl", "1h")
    session = own_shop.connect("plain-db", run["token"])
    began = time.monotonic()
    while time.monotonic() - began < 4:
        own_shop.gateway.run("runs", "renew", run["run_id"], token=run["token"])
        session.execute("select 1")
    assert show(own_shop, run)["expires_at"] == run["expires_at"], "a beat is no later end"
    longer = own_shop.gateway.run("runs", "renew", run["run_id"], "--ttl", "2h",
                                  token=run["token"], expect=3)
    assert "does not renew itself" in longer.stderr
    wait_until(lambda: has_ended(own_shop, run, "renew_missed"), "nobody renews it")
    assert refusal(session, "select 1").sqlstate in ("57P01", None)


# -- stale authority

@pytest.fixture
def held_store(own_shop):
    """A way to make the store refuse every write, as another process with it can."""
    holder = sqlite3.connect(own_shop.gateway.data / "corral.db", isolation_level=None,
                             check_same_thread=False)
    yield holder
    holder.close()


@pytest.mark.deadline(120)
def test_a_gateway_that_cannot_ask_its_store_ends_what_it_has(own_shop, held_store):
    run = start(own_shop, "root", "--ttl", "1h")
    session = own_shop.connect("plain-db", run["token"])
    session.execute("select 1")
    began = time.monotonic()
    held_store.execute("begin exclusive")
    session.execute("select 1")
    error = None
    while error is None:
        assert time.monotonic() - began < 20, "a lease has ten seconds"
        try:
            session.execute("select 1")
            time.sleep(0.1)
        except psycopg.Error as caught:
            error = caught
    after = time.monotonic() - began
    assert 5 < after < 13, f"{after:.1f} s"
    assert error.sqlstate in ("57P01", None)
    with pytest.raises(psycopg.OperationalError, match="cannot ask its store"):
        own_shop.connect("plain-db", run["token"])
    held_store.execute("rollback")

    def lets_in():
        try:
            return own_shop.connect("plain-db", run["token"])
        except psycopg.OperationalError:
            return None

    again = wait_until(lets_in, "the gateway decides again", 15)
    again.execute("select 1")
    lost = [e for e in own_shop.gateway.events() if e["event"] == "authority.lost"]
    assert [e["sessions_closed"] for e in lost] == [1]
    assert [e for e in own_shop.gateway.events() if e["event"] == "authority.regained"]
    closed = [e for e in own_shop.gateway.events("--run", run["run_id"])
              if e["event"] == "session.closed"]
    assert closed[0]["reason"] == "authority"


@pytest.mark.long
@pytest.mark.deadline(120)
def test_a_store_whose_file_was_replaced_is_no_store(own_shop):
    run = start(own_shop, "root", "--ttl", "1h")
    session = own_shop.connect("plain-db", run["token"])
    file = own_shop.gateway.data / "corral.db"
    aside = file.with_suffix(".aside")
    file.rename(aside)
    file.write_bytes(b"")
    wait_until(lambda: session.closed or broken(session), "the session ends", 20)
    aside.replace(file)
    wait_until(lambda: connects(own_shop, run), "the gateway decides again", 20)


def broken(session):
    try:
        session.execute("select 1")
        return False
    except psycopg.Error:
        return True


def connects(shop, run):
    try:
        shop.connect("plain-db", run["token"]).close()
        return True
    except psycopg.OperationalError:
        return False
