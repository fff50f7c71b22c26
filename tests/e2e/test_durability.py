"""`record: {durability: synced}`: each statement is on the disk before it is forwarded."""

import threading

import psycopg
import pytest

from harness.shop import Shop
from harness.waiting import wait_until

SESSIONS = 8
STATEMENTS = 20
SYNCED = """
kind: Target
name: {name}
protocol: postgres
address: 127.0.0.1:{port}
database: {database}
credential: {{username: {username}, password: {{env: TARGET_PASSWORD}}}}
record: {{rows: full, durability: synced}}
"""
POLICIES = """
---
kind: Policy
name: synced
cedar: |
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"synced-db");
---
kind: Policy
name: synced-holds
cedar: |
  @id("synced-changes") @approval("dba") @reason("Schema changes need a DBA's approval.")
  forbid (principal, action in Corral::Action::"define",
          resource in Corral::Target::"synced-db");
"""


@pytest.fixture(scope="module")
def shop(server):
    with Shop(server) as open_shop:
        manifest = SYNCED.format(name="synced-db", port=server.port, database=open_shop.plain,
                                 username=open_shop.username)
        open_shop.gateway.apply(manifest + POLICIES, env=open_shop.env)
        yield open_shop


def test_statements_prepared_ones_and_errors_are_recorded_and_answered(shop, token):
    with shop.connect("synced-db", token) as connection:
        connection.prepare_threshold = 0
        assert connection.execute("select 1").fetchone() == (1,)
        for n in range(5):
            assert connection.execute("select %s::int + 1", (n,)).fetchone() == (n + 1,)
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1/0")
        with connection.transaction():
            assert connection.execute("select 'after'").fetchone() == ("after",)
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,)) for n in range(10)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(10)]
    recorded = shop.gateway.run("audit", "search", "--target", "synced-db", "-o", "json").stdout
    for sql in ("select 1", "select $1::int + 1", "select 1/0", "select 'after'"):
        assert sql in recorded
    shop.gateway.run("audit", "verify", shop.gateway.data / "record",
                     "--key", shop.gateway.data / "record.pub")


def test_a_held_statement_is_approved_and_runs(shop, token):
    results = []

    def hold():
        with shop.connect("synced-db", token) as connection:
            connection.execute("create table made_synced (id int)")
            results.append(connection.execute("select count(*) from made_synced").fetchone())

    thread = threading.Thread(target=hold)
    thread.start()
    grace = shop.login("grace")
    [held] = wait_until(lambda: shop.gateway.json("approvals", "list", token=grace), "it is held")
    shop.gateway.run("approvals", "approve", held["id"], "--reason", "a test", token=grace)
    thread.join(30)
    assert results == [(0,)]


def test_concurrent_sessions_all_get_their_answers(shop, token):
    failures = []

    def work(number):
        try:
            with shop.connect("synced-db", token) as connection:
                for n in range(STATEMENTS):
                    row = connection.execute(f"select {number}, {n}").fetchone()
                    assert row == (number, n)
        except Exception as error:  # Reported by the test itself.
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_was_answered_survives_a_crash(server):
    with Shop(server) as crashing:
        manifest = SYNCED.format(name="synced-db", port=server.port, database=crashing.plain,
                                 username=crashing.username)
        crashing.gateway.apply(manifest + POLICIES, env=crashing.env)
        connection = crashing.connect("synced-db")
        for n in range(10):
            connection.execute(f"select 'acknowledged {n}'")
        crashing.gateway.kill_hard()
        crashing.gateway.start()
        recorded = crashing.gateway.run("audit", "search", "-o", "json").stdout
        for n in range(10):
            assert f"acknowledged {n}" in recorded
