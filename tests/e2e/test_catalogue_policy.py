"""examples/policies/catalogue.cedar lets tools look at a database, and at nothing that is in it."""

import pathlib
import subprocess
import textwrap

import psycopg
import pytest

from harness.shop import Shop

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFEST = """
kind: Target
name: warehouse
protocol: postgres
address: 127.0.0.1:{port}
database: {database}
credential: {{username: {username}, password: {{env: TARGET_PASSWORD}}}}
---
kind: User
name: bi@example.com
groups: [tools]
password: {{env: NOBODY_PASSWORD}}
---
kind: Policy
name: catalogue
cedar: |
{cedar}
"""
SCHEMA = """
create schema reports;
create table reports.daily (day date primary key, total numeric default 0 check (total >= 0));
comment on table reports.daily is 'one row a day';
insert into reports.daily values ('2026-01-02', 5);
create table public.secrets (id int primary key, word text);
create view reports.words as select word from public.secrets;
create function reports.twice(n int) returns int language sql immutable as 'select n * 2';
create type reports.mood as enum ('sad', 'ok');
"""
PSQL = [r"\d", r"\d+ reports.daily", r"\d public.secrets", r"\dt *.*", r"\df reports.*", r"\dn+",
        r"\dT+ reports.*", r"\di reports.*", r"\dv+ reports.*", r"\l", r"\dp", r"\dx", r"\du",
        r"\sf reports.twice", r"\conninfo", r"\dconfig work_mem"]
# As these tools ask when they connect or look at a schema.
TOOLS = {
    "any": "select 1",
    "version": "select version(), current_schema(), current_setting('server_version_num')::int",
    "JDBC": """
        select n.nspname, c.relname, a.attname, a.atttypid, a.attnotnull, a.atttypmod, a.attnum,
            pg_catalog.pg_get_expr(def.adbin, def.adrelid), dsc.description, t.typtype
        from pg_catalog.pg_namespace n join pg_catalog.pg_class c on c.relnamespace = n.oid
        join pg_catalog.pg_attribute a on a.attrelid = c.oid
        join pg_catalog.pg_type t on a.atttypid = t.oid
        left join pg_catalog.pg_attrdef def on a.attrelid = def.adrelid and a.attnum = def.adnum
        left join pg_catalog.pg_description dsc on c.oid = dsc.objoid and a.attnum = dsc.objsubid
        where c.relkind in ('r', 'p', 'v', 'f', 'm') and a.attnum > 0 and not a.attisdropped
        order by 1, 2, 7""",
    "Django": """
        select c.relname, case when c.relispartition then 'p' when c.relkind in ('m', 'v') then 'v'
            else 't' end, obj_description(c.oid, 'pg_class')
        from pg_catalog.pg_class c left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('f', 'm', 'p', 'r', 'v')
            and n.nspname not in ('pg_catalog', 'pg_toast')
            and pg_catalog.pg_table_is_visible(c.oid)""",
    "SQLAlchemy": """
        select conname, pg_catalog.pg_get_constraintdef(con.oid, true), n.nspname
        from pg_catalog.pg_constraint con join pg_catalog.pg_namespace n on n.oid = connamespace
        where conrelid = 'reports.daily'::regclass and contype in ('c', 'p', 'f', 'u')""",
    "Rails": """
        select distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid)
        from pg_class t inner join pg_index d on t.oid = d.indrelid
        inner join pg_class i on d.indexrelid = i.oid where i.relkind in ('i', 'I')""",
    "Metabase": """
        select table_schema, table_name, column_name, data_type, is_nullable
        from information_schema.columns where table_schema not like 'pg_%' order by 1, 2, 3""",
    "Tableau": """
        select tc.constraint_name, kcu.column_name from information_schema.table_constraints tc
        join information_schema.key_column_usage kcu using (constraint_name, table_schema)""",
    "DBeaver": """
        select c.oid, c.*, d.description, pg_catalog.pg_get_viewdef(c.oid, true),
            pg_catalog.pg_total_relation_size(c.oid)
        from pg_catalog.pg_class c left join pg_catalog.pg_description d
            on d.objoid = c.oid and d.objsubid = 0
        where c.relnamespace = 'reports'::regnamespace and c.relkind not in ('i', 'I', 'c')""",
    "settings": "select name, setting from pg_catalog.pg_settings where name like 'max_%'",
    "roles": "select rolname, rolsuper from pg_catalog.pg_roles",
}


@pytest.fixture(scope="module")
def warehouse(server):
    cedar = textwrap.indent((ROOT / "examples/policies/catalogue.cedar").read_text(), "  ")
    with Shop(server) as shop:
        with shop.owner() as owner:
            owner.execute(SCHEMA)
        shop.gateway.apply(MANIFEST.format(port=server.port, database=shop.plain,
                                           username=shop.username, cedar=cedar), env=shop.env)
        shop.tool = shop.gateway.login("bi@example.com", shop.env["NOBODY_PASSWORD"])
        yield shop


@pytest.fixture
def tool(warehouse):
    with warehouse.gateway.connect(warehouse.tool, "warehouse") as connection:
        yield connection


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_looks_at_the_database(warehouse, tool, name):
    with warehouse.owner() as owner:
        assert tool.execute(TOOLS[name]).fetchall() == owner.execute(TOOLS[name]).fetchall()


@pytest.mark.parametrize("command", PSQL)
def test_psql_describes_the_database(warehouse, command):
    told = subprocess.run(["psql", "-X", "-c", command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60,
                          env=warehouse.gateway.psql_env(warehouse.tool, "warehouse"))
    assert told.returncode == 0 and "corral:" not in told.stderr, told.stderr


def test_reports_are_read(tool):
    assert tool.execute("select total from reports.daily").fetchall() == [(5,)]
    assert tool.execute("select reports.twice(21)").fetchall() == [(42,)]


@pytest.mark.parametrize("sql", [
    "select word from public.secrets",
    # Not through a view of the schema that may be read either.
    "select word from reports.words",
    "select * from pg_catalog.pg_stats",
    "select query from pg_catalog.pg_stat_activity",
    "select * from pg_catalog.pg_authid",
    "select usename, passwd from pg_catalog.pg_shadow",
    "select c.relname, s.word from pg_catalog.pg_class c, public.secrets s",
    "select query_to_xml('select * from public.secrets', true, true, '')",
    "select table_to_xml('public.secrets', true, true, '')",
    "copy public.secrets to stdout",
    "insert into reports.daily values ('2026-01-03', 1)",
    "create table reports.mine (a int)",
    "update pg_catalog.pg_class set relname = 'x' where false",
])
def test_what_is_in_the_database_stays_there(tool, sql):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="corral:"):
        tool.execute(sql)
