"""What clients do during the soak. Each load is one visit: it is played again until the end.

A load checks its answers, and counts what it did so that the closing checks can say that it did.
"""

import contextlib
import random
import subprocess
import threading

import psycopg

from harness.waiting import DeadlinePassed, wait_until

STATEMENTS = 40
COPY_ROWS = 3000
WORD = "soak " * 10
HELD_DEADLINE_S = 60
SLEEP = "select pg_sleep(60)"
CANCELLED_SLEEP = "select pg_sleep(59)"
SLEEPS = ("select 1 from pg_stat_activity where state = 'active' "
          f"and query = '{CANCELLED_SLEEP}'")


class ClientLeft(psycopg.Error):
    """psql ended by itself, with what it said. It names no SQLSTATE."""


def expect(what, found, wanted):
    assert found == wanted, f"{what}: {found!r} instead of {wanted!r}"


def connect(stage, target="plain-db", token=None, **options):
    return stage.gateway.connect(token or stage.token, target, **options)


def queries(stage):
    """Prepared, plain and pipelined statements, and a transaction that fails."""
    with connect(stage) as connection:
        for number in range(STATEMENTS):
            expect("sum", connection.execute("select %s::int + 1", (number,)).fetchone(), (number + 1,))
            word = f"{number} {random.random()}"
            expect("literal", connection.execute(f"select '{word}'").fetchone(), (word,))
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (number,)) for number in range(STATEMENTS)]
        expect("pipeline", [cursor.fetchone()[0] for cursor in cursors], list(range(STATEMENTS)))
        try:
            with connection.transaction():
                connection.execute("create temp table passing (n int) on commit drop")
                connection.execute("insert into passing select generate_series(1, 100)")
                connection.execute("select 1 / (n - n) from passing")
            raise AssertionError("a division by zero went well")
        except psycopg.errors.DivisionByZero:
            pass
    stage.count("statements", 3 * STATEMENTS + 5)


def masked(stage):
    """What a session with masked columns is told."""
    with connect(stage, "orders-db") as connection:
        rows = connection.execute("select id, ssn from customers order by id").fetchall()
        expect("masked", rows, [(1, "****"), (2, "****"), (3, "****")])
    stage.count("masked results")


def copies(stage):
    """COPY in and out, whole and broken off in the middle."""
    table = f"copied_{threading.get_ident()}"
    with connect(stage) as connection:
        connection.execute(f"drop table if exists {table}")
        connection.execute(f"create table {table} (n int, word text)")
        cursor = connection.cursor()
        with cursor.copy(f"copy {table} from stdin") as copy:
            for number in range(COPY_ROWS):
                copy.write_row((number, WORD))
        with cursor.copy(f"copy {table} to stdout") as copy:
            expect("copied", sum(1 for _ in copy.rows()), COPY_ROWS)
        copy = cursor.copy(f"copy {table} from stdin")
        copy.__enter__().write_row((1, WORD))
        connection.pgconn.finish()
    stage.count("copies", 3)


def cancels(stage):
    with connect(stage) as connection:
        helper = threading.Thread(target=cancel_once_it_runs, args=(stage, connection))
        helper.start()
        try:
            connection.execute(CANCELLED_SLEEP)
            raise AssertionError("nobody cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            helper.join()
        expect("after a cancel", connection.execute("select 1").fetchone(), (1,))
    stage.count("cancels")


def cancel_once_it_runs(stage, connection):
    """A cancel that comes earlier has no effect, as without a gateway."""
    # The target may be away: then the statement itself says so.
    with contextlib.suppress(psycopg.Error, DeadlinePassed):
        wait_until(lambda: stage.server.execute(SLEEPS), "the statement runs")
        connection.cancel_safe()


def kills(stage):
    """A run that is killed takes its sessions along."""
    run = stage.gateway.start_run("victim", stage.shop.workload())
    with connect(stage, token=run["token"]) as connection:
        timer = threading.Timer(0.3, stage.gateway.run, ["runs", "kill", run["run_id"]])
        timer.start()
        try:
            connection.execute(SLEEP)
            raise AssertionError("nobody killed it")
        except psycopg.errors.AdminShutdown:
            pass
        finally:
            timer.join()
    stage.count("kills")


def denials(stage):
    """Denied alone, and in a transaction, which goes on after a rollback."""
    with connect(stage, "orders-db") as connection:
        for _ in range(5):
            try:
                connection.execute("select id from customers where ssn = '123-45-6789'")
                raise AssertionError("a masked column was compared")
            except psycopg.errors.InsufficientPrivilege:
                pass
        connection.execute("begin")
        try:
            connection.execute("drop role postgres")
            raise AssertionError("a role was dropped")
        except psycopg.errors.InsufficientPrivilege:
            pass
        connection.execute("rollback")
        expect("after a denial", connection.execute("select count(*) from orders").fetchone(), (30,))
    stage.count("denials", 6)


def holds(stage):
    """A statement waits for people: approved, denied, or given up by its client."""
    what = random.choice(["approve", "deny", "leave"])
    # It makes no object: a catalogue that grows would look like a leak, and what waits at the same
    # time would be refused.
    statement = f"comment on table orders is '{random.getrandbits(48):x}'"
    client = subprocess.Popen(["psql", "-X", "-q", "-c", statement], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE,
                              env=stage.gateway.psql_env(stage.token, "orders-db"))
    try:
        held = wait_until(lambda: client.poll() is not None or waiting(stage, statement),
                          "the statement waits", HELD_DEADLINE_S)
        if held is True:
            raise ClientLeft(client.stderr.read())
        if what == "leave":
            client.kill()
        else:
            # Its client may be lost with the target: then nobody waits, which psql itself tells.
            stage.gateway.run("approvals", what, held["id"], "--reason", "the soak",
                              token=stage.grace, expect=None)
        client.wait(HELD_DEADLINE_S)
        error = client.stderr.read()
        if what == "approve" and client.returncode:
            raise ClientLeft(error)
        if what == "deny" and "denied" not in error:
            raise ClientLeft(error)
    finally:
        client.kill()
        client.wait()
        client.stderr.close()
    stage.count(f"held statements: {what}")


def waiting(stage, statement):
    found = stage.gateway.json("approvals", "list", token=stage.grace)
    return next((a for a in found if a["state"] == "pending" and a["statement"] == statement), None)


def client_crashes(stage):
    """psql is killed with a COPY that it does not read to its end."""
    endless = "copy (select n, repeat('x', 200) from generate_series(1, 100000000) n) to stdout"
    client = subprocess.Popen(["psql", "-X", "-q", "-c", endless], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=stage.gateway.psql_env(stage.token, "plain-db"))
    try:
        # A pipe that nobody reads holds up everything behind it.
        stage.is_over.wait(1)
        if client.poll() is not None:
            raise ClientLeft(client.stderr.read().decode(errors="replace"))
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
        client.stderr.close()
    stage.count("client crashes")


# How many of each are played side by side.
LOADS = {queries: 3, masked: 1, copies: 1, cancels: 1, kills: 1, denials: 1, holds: 1,
         client_crashes: 1}
