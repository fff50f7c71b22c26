"""Definitions and other sessions' statements take turns: what was decided is what runs."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from harness.shop import SECRETS_OF_CUSTOMERS, Shop
from harness.waiting import DeadlinePassed, wait_until

MANIFEST = """
kind: Target
name: drafts
protocol: postgres
address: 127.0.0.1:{port}
database: {database}
credential: {{username: {username}, password: {{env: TARGET_PASSWORD}}}}
---
kind: User
name: drafter@example.com
groups: [drafters]
password: {{env: NOBODY_PASSWORD}}
---
kind: Policy
name: drafts
cedar: |
  permit (principal in Corral::Group::"drafters",
          action in [Corral::Action::"connect", Corral::Action::"read",
                     Corral::Action::"write", Corral::Action::"define"],
          resource in Corral::Target::"drafts");
  forbid (principal in Corral::Group::"drafters", action,
          resource in Corral::Table::"drafts/vault.kept");
"""
SCHEMA = """
create table ran (what text);
create schema vault;
create table vault.kept (secret text);
insert into vault.kept values ('the vault secret');
create function quiet() returns int language sql as 'select 1';
create function plain() returns int language sql as 'select 1';
create table locked (id int);
insert into locked values (1);
"""
QUIET_NO_MORE = """
create or replace function quiet() returns int language plpgsql as
  $$ begin insert into public.ran select secret from vault.kept; return 2; end $$
"""


@pytest.fixture(scope="module")
def stage(server):
    with Shop(server) as shop:
        shop.gateway.run("delete", "policy", "holds")
        with shop.owner() as owner:
            owner.execute(SCHEMA)
        manifest = MANIFEST.format(port=server.port, database=shop.plain, username=shop.username)
        shop.gateway.apply(manifest, env=shop.env)
        shop.tool = shop.gateway.login("drafter@example.com", shop.env["NOBODY_PASSWORD"])
        yield shop


@pytest.fixture
def later():
    """Runs a statement in another thread."""
    def run(connection, sql):
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else cursor.statusmessage

    with ThreadPoolExecutor() as threads:
        yield lambda connection, sql: threads.submit(run, connection, sql)


def happens(condition, deadline_s=1):
    """Whether it does within a moment."""
    try:
        return wait_until(condition, "it happens", deadline_s)
    except DeadlinePassed:
        return False


def reaches_target(shop, database, table, deadline_s=1):
    """Whether a statement waits for a lock at the target within a moment."""
    waiting = ("select count(*) from pg_stat_activity where datname = %s "
               "and wait_event_type = 'Lock' and query like %s and pid <> pg_backend_pid()")
    with shop.owner(database) as owner:
        def waits():
            return owner.execute(waiting, [database, f"%from {table}%"]).fetchone()[0]
        return happens(waits, deadline_s)


def test_a_decoy_that_is_dropped_shows_nothing_of_what_it_hid(stage, later):
    token = stage.run()["token"]
    with stage.connect("orders-db", token) as definer, \
            stage.connect("orders-db", token, options="-c search_path=s1,public") as reader:
        definer.execute("create schema s1")
        definer.execute("create table s1.customers (id int, ssn text, card_number bigint)")
        assert reader.execute("select ssn || '' from customers").fetchall() == []
        definer.autocommit = False
        definer.execute("drop table s1.customers")
        result = later(reader, "select ssn || '', card_number + 0 from customers")
        has_reached = reaches_target(stage, stage.orders, "customers")
        definer.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="masking"):
            result.result(timeout=20)
        assert not has_reached
        rows = str(reader.execute("select ssn, card_number from customers").fetchall())
        assert not any(secret in rows for secret in SECRETS_OF_CUSTOMERS)


def test_a_function_that_is_replaced_while_a_lock_is_waited_for_is_decided_again(stage, later):
    with stage.gateway.connect(stage.tool, "drafts") as definer, \
            stage.gateway.connect(stage.tool, "drafts") as caller:
        assert caller.execute("select quiet() from locked").fetchall() == [(1,)]
        definer.autocommit = False
        definer.execute("lock table locked in access exclusive mode")
        definer.execute(QUIET_NO_MORE)
        result = later(caller, "select quiet(), 7 from locked")
        has_reached = reaches_target(stage, stage.plain, "locked")
        definer.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="unknown"):
            result.result(timeout=20)
        assert not has_reached
    with stage.owner() as owner:
        assert owner.execute("select * from ran").fetchall() == []


def test_a_definition_waits_for_a_statement_that_may_still_call_what_it_replaces(stage, later):
    with stage.gateway.connect(stage.tool, "drafts") as definer, \
            stage.gateway.connect(stage.tool, "drafts") as caller, stage.owner() as owner:
        owner.autocommit = False
        owner.execute("lock table locked in access exclusive mode")
        called = later(caller, "select plain(), 8 from locked")
        assert reaches_target(stage, stage.plain, "locked", deadline_s=10)
        definition = "create or replace function plain() returns int language sql as 'select 2'"
        defined = later(definer, definition)
        is_too_early = happens(defined.done)
        owner.commit()
        assert called.result(timeout=20) == [(1, 8)]
        assert defined.result(timeout=20) == "CREATE FUNCTION"
        assert not is_too_early
