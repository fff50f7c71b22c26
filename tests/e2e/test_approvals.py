"""A statement that waits for people, in clients that know nothing of it."""

import os
import signal
import subprocess
import threading

import pytest

from harness.waiting import wait_until

ALTER = "alter table orders add column note text"


def pending(shop, statement=None):
    """The approvals that wait, of this statement when one is named."""
    found = shop.gateway.json("approvals", "list")
    return [a for a in found if a["state"] == "pending" and statement in (None, a["statement"])]


def start_psql(shop, token, *commands):
    words = ["psql", "-X", "-q", "-A", "-t", "-v", "VERBOSITY=verbose"]
    for command in commands:
        words += ["-c", command]
    return subprocess.Popen(words, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=shop.gateway.psql_env(token, "orders-db"))


def hold(shop, statement, token=None):
    """A psql that waits with this statement, and its approval."""
    process = start_psql(shop, token or shop.run()["token"], statement)
    (approval,) = wait_until(lambda: pending(shop, statement), f"{statement} waits")
    return process, approval


def columns(shop):
    rows = shop.server.execute("select attname from pg_attribute where attnum > 0 and not "
                               "attisdropped and attrelid = 'orders'::regclass", shop.orders)
    return {name for (name,) in rows}


def wait_for_state(shop, approval_id, state):
    wait_until(lambda: shop.gateway.json("approvals", "show", approval_id)["state"] == state,
               f"the approval is {state}")


def approve(shop, approval, who="grace", **options):
    return shop.gateway.run("approvals", "approve", approval["id"], "--reason", "reviewed",
                            token=shop.login(who), **options)


def test_an_approved_statement_runs_once_in_an_unmodified_psql(own_shop):
    process, approval = hold(own_shop, ALTER)
    assert approval["target"] == "orders-db" and approval["statement"] == ALTER
    assert {"id", "state", "run_id", "session_id", "requested_at", "expires_at"} <= set(approval)
    assert "note" not in columns(own_shop)
    approve(own_shop, approval)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 0, error
    assert "NOTICE" in error and approval["id"] in error
    assert "note" in columns(own_shop)
    shown = own_shop.gateway.json("approvals", "show", approval["id"])
    assert shown["state"] == "approved"
    # Single use: the same text waits again.
    again, second = hold(own_shop, "alter table orders add column note2 text")
    assert second["id"] != approval["id"]
    again.kill()
    again.communicate()


def test_a_denied_approval_names_who_and_why(shop):
    process, approval = hold(shop, "alter table orders add column no1 text")
    shop.gateway.run("approvals", "deny", approval["id"], "--reason", "not on a Friday",
                     token=shop.login("grace"))
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "42501" in error and "not on a Friday" in error and "grace@example.com" in error
    assert "no1" not in columns(shop)


@pytest.mark.parametrize("who, why", [("ada", "the sponsor"), ("frances", "not in the group")])
def test_the_sponsor_and_outsiders_cannot_approve(shop, who, why):
    statement = f"alter table orders add column by_{who} text"
    process, approval = hold(shop, statement)
    result = approve(shop, approval, who, expect=None)
    # Who may not see an approval is told that there is none.
    assert result.returncode in (3, 4)
    assert process.poll() is None, why
    shop.gateway.run("approvals", "deny", approval["id"], "--reason", "end",
                     token=shop.login("grace"))
    process.communicate(timeout=20)


def test_nobody_approves_their_own_statement(shop):
    statement = "alter table orders add column own text"
    # A person's own session, in the approving group.
    process, approval = hold(shop, statement, shop.login("ada"))
    approve(shop, approval, "ada", expect=3)
    process.kill()
    process.communicate()


def test_an_approval_needs_a_reason(shop):
    process, approval = hold(shop, "alter table orders add column why text")
    shop.gateway.run("approvals", "approve", approval["id"], token=shop.login("grace"), expect=2)
    process.kill()
    process.communicate()


def test_a_cancel_withdraws_the_request(shop):
    statement = "alter table orders add column c1 text"
    process, approval = hold(shop, statement)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert "57014" in error
    wait_for_state(shop, approval["id"], "withdrawn")
    approve(shop, approval, expect=1)
    assert "c1" not in columns(shop)


def test_a_lost_client_withdraws_the_request(shop):
    process, approval = hold(shop, "alter table orders add column l1 text")
    process.kill()
    process.communicate()
    wait_for_state(shop, approval["id"], "withdrawn")


def test_a_request_expires(own_shop):
    own_shop.gateway.apply("""
kind: Policy
name: quick
cedar: |
  @id("quick") @approval("dba") @expires("1s")
  forbid (principal, action == Corral::Action::"truncate",
          resource in Corral::Target::"orders-db");
""")
    process = start_psql(own_shop, own_shop.run()["token"], "truncate orders")
    _, error = process.communicate(timeout=30)
    assert "57014" in error and process.returncode == 1
    wait_for_state(own_shop, own_shop.gateway.json("approvals", "list")[0]["id"], "expired")


def test_a_quorum_asks_for_two_people(own_shop):
    own_shop.gateway.apply("""
kind: User
name: donald@example.com
groups: [dba]
password: {env: DONALD_PASSWORD}
---
kind: Policy
name: two
cedar: |
  @id("two-people") @approval("dba") @quorum("2")
  forbid (principal, action == Corral::Action::"drop_table",
          resource in Corral::Target::"orders-db");
""", env={"DONALD_PASSWORD": "donald's password"})
    # Each rule asks its own people; here only this one shall ask.
    own_shop.gateway.run("delete", "policy", "holds")
    process, approval = hold(own_shop, "drop table orders")
    approve(own_shop, approval, "grace")
    approve(own_shop, approval, "grace", expect=None)
    assert process.poll() is None
    donald = own_shop.gateway.login("donald@example.com", "donald's password")
    own_shop.gateway.run("approvals", "approve", approval["id"], "--reason", "me too", token=donald)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_change_of_policy_while_it_waits_is_seen(own_shop):
    process, approval = hold(own_shop, "alter table orders add column p1 text")
    own_shop.gateway.apply("""
kind: Policy
name: freeze
cedar: |
  @id("freeze") @reason("No changes today.")
  forbid (principal, action in Corral::Action::"define", resource);
""")
    approve(own_shop, approval, expect=None)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1 and "42501" in error
    assert "p1" not in columns(own_shop)


JOB = """create or replace function job() returns text language plpgsql as $$
begin insert into jobs values ('{0}'); return '{0}'; end $$"""


def test_an_approval_of_a_call_is_not_for_another_body(own_shop):
    own_shop.gateway.run("delete", "policy", "holds")
    own_shop.gateway.apply("""
kind: Policy
name: calls
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"unknown", Corral::Action::"unmask"],
          resource in Corral::Target::"orders-db");
  @id("calls") @approval("dba")
  forbid (principal, action in Corral::Action::"unknown",
          resource in Corral::Target::"orders-db");
""")
    with own_shop.owner(own_shop.orders) as direct, own_shop.connect("orders-db") as other:
        other.execute("create table jobs (body text)")
        other.execute(JOB.format("reviewed"))
        process, approval = hold(own_shop, "select job()")
        other.execute(JOB.format("another"))
        approve(own_shop, approval, expect=None)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 1 and "changed while the statement waited" in error, error
        assert direct.execute("select * from jobs").fetchall() == []
        # Nothing changed: it runs.
        process, approval = hold(own_shop, "select job()")
        approve(own_shop, approval)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 0, error
        assert direct.execute("select * from jobs").fetchall() == [("another",)]


def test_parameters_are_bound_and_shown(own_shop):
    own_shop.gateway.apply("""
kind: Policy
name: deletes
cedar: |
  @id("deletes") @approval("dba")
  forbid (principal, action == Corral::Action::"delete",
          resource in Corral::Target::"orders-db");
""")
    done = []

    def delete():
        with own_shop.connect("orders-db") as connection:
            done.append(connection.execute("delete from orders where id = %s", (7,)).rowcount)

    worker = threading.Thread(target=delete)
    worker.start()
    (approval,) = wait_until(lambda: pending(own_shop), "the delete waits")
    assert approval["statement"] == "delete from orders where id = $1"
    approve(own_shop, approval)
    worker.join(20)
    assert done == [1]


def test_a_held_statement_in_a_transaction_fails_it_when_denied(shop):
    process = start_psql(shop, shop.run()["token"], "begin", "alter table orders add x1 int",
                         "select 'not this'", "rollback", "select 'after'")
    (approval,) = wait_until(lambda: pending(shop, "alter table orders add x1 int"), "it waits")
    shop.gateway.run("approvals", "deny", approval["id"], "--reason", "no",
                     token=shop.login("grace"))
    out, error = process.communicate(timeout=20)
    assert out == "after\n" and "25P02" in error


def test_the_end_of_the_run_ends_the_wait(shop):
    run = shop.run()
    process, approval = hold(shop, "alter table orders add column e1 text", run["token"])
    shop.gateway.run("runs", "kill", run["run_id"])
    _, error = process.communicate(timeout=20)
    assert process.returncode != 0 and "57P01" in error
    wait_for_state(shop, approval["id"], "withdrawn")


def test_watch_prints_a_request_as_it_comes(own_shop):
    watcher = own_shop.gateway.background("approvals", "watch", token=own_shop.login("grace"))
    try:
        process, approval = hold(own_shop, "alter table orders add column w1 text")
        line = watcher.stdout.readline()
        while approval["id"] not in line:
            assert line, watcher.stderr.read()
            line = watcher.stdout.readline()
    finally:
        watcher.terminate()
        watcher.communicate()
    process.kill()
    process.communicate()
