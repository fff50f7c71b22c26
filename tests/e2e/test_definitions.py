"""A person who may define, and no more: what definitions run, what they name, what stays open."""

import psycopg
import pytest

from harness.shop import Shop
from harness.waiting import wait_until

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
                     Corral::Action::"define"],
          resource in Corral::Target::"drafts");
  @id("kept") @reason("kept is not to be touched")
  forbid (principal in Corral::Group::"drafters", action,
          resource in Corral::Table::"drafts/vault.kept");
"""
SCHEMA = """
create extension citext;
create table ran (what text);
create table notes (id int primary key, note text);
insert into notes values (1, 'x');
create schema vault;
create table middle (id int primary key references notes);
create table vault.kept (id int primary key references middle, kind int);
insert into middle values (1);
insert into vault.kept values (1, 1);
create function leave(what text) returns bool language plpgsql as
  $$ begin insert into public.ran values (what); return true; end $$;
create function twice(n int) returns int language plpgsql immutable as
  $$ begin perform public.leave('twice'); return n * 2; end $$;
create function apart(int, int) returns float8 language plpgsql immutable as
  $$ begin perform public.leave('apart'); return $1 - $2; end $$;
create domain plain as int;
create table plains (x plain);
insert into plains values (3);
create domain odd as int check (leave('domain'));
create type pair as (a odd);
create table counted (id int);
insert into counted values (1);
create statistics counts on (twice(id)) from counted;
create table listed (id int) partition by list (twice(id));
create table listed_rest partition of listed default;
insert into listed values (1);
create table parent (a int, b int);
create table vault.child () inherits (parent);
create function bump() returns int language sql immutable as 'select 1 from leave($$bump$$)';
truncate ran;
"""
RUNS = {
    "a check of a domain": "alter domain plain add check (leave('check'))",
    "a literal in a view": "create view v as select '(5)'::pair as x",
    "a literal in a body": "create function f() returns odd[] language sql as "
                           "$$ select '{5}'::odd[] $$",
    "a literal in a default": "create function f(a odd[] default '{5}') returns int "
                              "language plpgsql as $$ begin return 1; end $$",
    "a literal in a rule": "create rule r as on update to notes where '{5}'::odd[] is null "
                           "do nothing",
    "statistics of a table": "analyze counted",
    "statistics of all": "analyze",
    "statistics that autovacuum asks for": "create statistics more on (twice(id)) from notes",
    "what statistics ask": "create or replace function twice(n int) returns int "
                           "language sql immutable as 'select 1'",
    "a range whose differences autovacuum asks for": "create type spans as range "
                                                     "(subtype = int4, subtype_diff = apart)",
    "the key of a partition": "create table listed_4 partition of listed for values in (4)",
}
TOUCHES = [
    "truncate vault.kept",
    "truncate notes cascade",
    "comment on table vault.kept is 'x'",
    "comment on column vault.kept.id is 'x'",
    "create trigger t before insert on vault.kept for each row "
    "execute function suppress_redundant_updates_trigger()",
    "create rule r as on delete to vault.kept do instead nothing",
    "create statistics s on id, kind from vault.kept",
    "alter table middle drop constraint middle_pkey cascade",
    "drop table middle cascade",
    "drop schema vault cascade",
]
PLAIN = [
    "create table fresh (id int primary key, note text default 'x', unique (note))",
    "create index on fresh (lower(note))",
    "create view seen as select id, note from fresh where note = 'x'",
    "create or replace function tidy() returns text language sql as "
    "$$ select note from public.fresh where note = 'x' $$",
    "create function stamp() returns trigger language plpgsql as "
    "$$ begin return new; end $$; "
    "create trigger stamp before insert on fresh for each row execute function stamp()",
    "alter table fresh add column more text not null default 'y'",
    "comment on table fresh is 'x'; comment on column fresh.id is 'y'",
    "create domain short as text check (length(value) < 5)",
    "alter domain short add check (value <> 'no')",
    "create table part (at date) partition by range (at)",
    "create table part_1 partition of part for values from ('2026-01-01') to ('2026-02-01')",
    "alter table notes add column more int", "alter table notes drop column more",
    "vacuum notes",
    "analyze notes",
    "reindex table notes",
    "drop view seen",
    "drop table if exists fresh cascade",
    "drop table part",
]


@pytest.fixture(scope="module")
def drafts(server):
    with Shop(server) as shop:
        with shop.owner() as owner:
            owner.execute(SCHEMA)
        shop.gateway.apply(MANIFEST.format(port=server.port, database=shop.plain,
                                           username=shop.username), env=shop.env)
        shop.tool = shop.gateway.login("drafter@example.com", shop.env["NOBODY_PASSWORD"])
        yield shop


@pytest.fixture
def drafter(drafts):
    with drafts.gateway.connect(drafts.tool, "drafts") as connection:
        yield connection


def ran(drafts):
    with drafts.owner() as owner:
        return owner.execute("select * from ran").fetchall()


@pytest.mark.parametrize("statement", RUNS.values(), ids=RUNS)
def test_a_definition_that_runs_code_is_no_mere_definition(drafts, drafter, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="corral: "):
        drafter.execute(statement)
    assert ran(drafts) == []


def test_explain_does_not_hide_what_planning_runs(drafts, drafter):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="corral: "):
        drafter.execute("explain select bump(), set_config('role', 'none', false)")
    assert drafter.execute("explain select * from notes").fetchall()


def test_a_temporary_child_runs_its_triggers_for_its_parent(drafts, drafter):
    for statement in [
        "create temp table kid () inherits (parent)",
        "create function kid_left() returns trigger language plpgsql as "
        "$$ begin perform public.leave('kid'); return null; end $$",
        "create trigger t before truncate on kid for each statement execute function kid_left()",
    ]:
        drafter.execute(statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="corral: "):
        drafter.execute("truncate parent")
    assert ran(drafts) == []


def test_an_extensions_function_runs_what_the_path_puts_in_place(drafts, drafter):
    for statement in [
        "create schema mine",
        "create function mine.joined(text, text) returns text language plpgsql as "
        "$$ begin perform public.leave('joined'); return $1; end $$",
        "create operator mine.|| (leftarg = text, rightarg = text, function = mine.joined)",
    ]:
        drafter.execute(statement)
    matches = "select regexp_matches('abc'::citext, 'b'::citext, 'g')"
    assert drafter.execute(matches).fetchall() == [(["b"],)]
    drafter.execute("set search_path = mine, pg_catalog, public")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="corral: "):
        drafter.execute(matches)
    assert ran(drafts) == []


@pytest.mark.parametrize("statement", TOUCHES)
def test_a_rule_on_a_table_reaches_what_changes_it(drafts, drafter, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not to be touched"):
        drafter.execute(statement)


def test_plain_definitions_stay_open(drafts, drafter):
    for statement in PLAIN:
        drafter.execute(statement)


def refused(drafts, *statements):
    try:
        with drafts.gateway.connect(drafts.tool, "drafts") as connection:
            for statement in statements:
                connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        return "corral: " in str(error)
    return False


def test_an_event_trigger_counts_whatever_is_known_of_names(server, drafts):
    trigger = ("create function watch() returns event_trigger language plpgsql as "
               "$$ begin insert into public.ran values ('event'); end $$; "
               "create event trigger watch on ddl_command_end execute function watch(); "
               "grant insert on ran to public")
    server.execute(trigger, drafts.plain)
    try:
        # What is made at the target itself is known after seconds.
        wait_until(lambda: refused(drafts, "create temp table t (id int)"),
                   "the event trigger is known", 15)
        with drafts.owner() as owner:
            owner.execute("truncate ran")
        for statement in ["create function g() returns int language sql as 'select 1'",
                          "create type e as enum ('a')", "comment on table notes is 'x'"]:
            assert refused(drafts, "set search_path = public", statement), statement
    finally:
        server.execute("drop event trigger watch", drafts.plain)
    assert ran(drafts) == []
