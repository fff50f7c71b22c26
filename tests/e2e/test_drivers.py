"""Other clients: asyncpg in binary, JDBC, pgbench, pg_dump."""

import asyncio
import pathlib
import re
import shutil
import ssl
import subprocess

import asyncpg
import pytest

HERE = pathlib.Path(__file__).parent
JDBC_JAR = pathlib.Path("/usr/share/java/postgresql.jar")
ASYNCPG_VALUES = """select 1::int2, 2::int8, 4.5::float8, 6.70::numeric, 'text', '\\x00ff'::bytea,
    '2026-01-02'::date, '2026-01-02 03:04:05+00'::timestamptz, '{1,2,null}'::int[],
    '{"x": [1]}'::jsonb, null::text, '8c9a3a3e-0000-4000-8000-000000000000'::uuid, '10.0.0.1'::inet,
    int4range(1, 5), row(1, 'x')"""

READ_ONLY = """
kind: Target
name: read-db
protocol: postgres
address: 127.0.0.1:{port}
database: {database}
credential: {{username: {username}, password: {{env: TARGET_PASSWORD}}}}
---
kind: Policy
name: read-only
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read"],
          resource in Corral::Target::"read-db");
"""


async def asyncpg_connect(shop, token, target):
    host, port = shop.gateway.address()
    context = ssl.create_default_context(cafile=shop.gateway.ready["ca_file"])
    return await asyncpg.connect(host=host, port=port, user="agent", password=token,
                                 database=target, ssl=context)


async def asyncpg_direct(shop):
    return await asyncpg.connect(host="127.0.0.1", port=shop.server.port, user=shop.username,
                                 password=shop.env["TARGET_PASSWORD"], database=shop.plain)


def test_asyncpg_reads_every_type_in_binary(shop, token):
    async def act(connection):
        try:
            rows = await connection.fetch(ASYNCPG_VALUES)
            typed = await connection.fetch("select $1::int, $2::text[], $3::jsonb, $4::timestamptz",
                                           5, ["a", None], '{"y": 1}', None)
            return [tuple(row) for row in rows], [tuple(row) for row in typed]
        finally:
            await connection.close()

    async def both():
        through = await act(await asyncpg_connect(shop, token, "plain-db"))
        assert through == await act(await asyncpg_direct(shop))

    asyncio.run(both())


def test_asyncpg_cursors_transactions_and_copy(shop, token):
    async def act():
        connection = await asyncpg_connect(shop, token, "plain-db")
        try:
            await connection.execute("create temp table a (n int, t text)")
            await connection.copy_records_to_table(
                "a", records=[(n, str(n)) for n in range(1000)])
            await connection.executemany("insert into a values ($1, $2)", [(1, "x"), (2, "y")])
            async with connection.transaction():
                seen = [row["n"] async for row in
                        connection.cursor("select n from a order by n", prefetch=50)]
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute("delete from a")
                    await connection.execute("select 1/0")
            return len(seen), await connection.fetchval("select count(*) from a")
        finally:
            await connection.close()

    assert asyncio.run(act()) == (1002, 1002)


def test_asyncpg_sees_a_timeout_as_a_cancel(shop, token):
    async def act():
        connection = await asyncpg_connect(shop, token, "plain-db")
        try:
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetch("select pg_sleep(40)", timeout=0.5)
            return await connection.fetchval("select 1")
        finally:
            await connection.close()

    assert asyncio.run(act()) == 1


@pytest.mark.skipif(not JDBC_JAR.exists() or not shutil.which("javac"),
                    reason="Java or its driver is not installed; run .ci/setup clients")
def test_jdbc_prepares_fetches_by_cursor_and_reads_metadata(shop, token):
    host, port = shop.gateway.address()
    result = subprocess.run(
        ["java", "-Xshare:auto", "-cp", JDBC_JAR, HERE / "Jdbc.java",
         f"jdbc:postgresql://{host}:{port}/plain-db?sslmode=verify-full"
         f"&sslrootcert={shop.gateway.ready['ca_file']}", token],
        text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "all done"


@pytest.fixture(scope="module")
def bench_tables(shop):
    host_port = ["-h", "127.0.0.1", "-p", str(shop.server.port), "-U", shop.username]
    subprocess.run(["pgbench", "-i", "-q", "-s", "1", *host_port, shop.plain], check=True,
                   env={"PGPASSWORD": shop.env["TARGET_PASSWORD"], "PATH": "/usr/bin:/bin"},
                   capture_output=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select-only", "tpcb-like"])
def test_pgbench_runs_without_a_failed_transaction(shop, token, bench_tables, mode, script):
    result = subprocess.run(
        ["pgbench", "-n", "-M", mode, "-b", script, "-c", "8", "-j", "2", "-t", "50"], text=True,
        capture_output=True, env=shop.gateway.psql_env(token, "plain-db"),
        stdin=subprocess.DEVNULL, timeout=60)
    assert result.returncode == 0, result.stderr
    assert re.search(r"number of transactions actually processed: 400/400", result.stdout)
    assert re.search(r"number of failed transactions: 0 ", result.stdout), result.stdout


def test_pg_dump_with_leave_to_read_is_the_direct_dump(shop, token):
    shop.gateway.apply(READ_ONLY.format(port=shop.server.port, database=shop.plain,
                                        username=shop.username), env=shop.env)
    with shop.owner() as connection:
        connection.execute("""
            create schema app; create type app.mood as enum ('good', 'bad');
            create table app.t (id serial primary key, m app.mood, j jsonb, b bytea, a int[],
                                constraint positive check (id > 0));
            insert into app.t (m, j, b, a) select 'good', '{"n": 1}', '\\xdeadbeef', '{1,2}'
                from generate_series(1, 500);
            create index on app.t (m); create view app.v as select id, m from app.t;
            create function app.f(int) returns int language sql as 'select $1 + 1';
        """)
    direct_env = {"PGHOST": "127.0.0.1", "PGPORT": str(shop.server.port), "PGUSER": shop.username,
                  "PGPASSWORD": shop.env["TARGET_PASSWORD"], "PGDATABASE": shop.plain,
                  "PATH": "/usr/bin:/bin"}

    def dump(env):
        result = subprocess.run(["pg_dump", "-n", "app", "--no-subscriptions"], text=True,
                                capture_output=True, env=env, stdin=subprocess.DEVNULL, timeout=60)
        assert result.returncode == 0, result.stderr
        # Newer versions guard the dump with a word that is random.
        lines = result.stdout.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))

    through = dump(shop.gateway.psql_env(token, "read-db"))
    assert through == dump(direct_env)

    shop.server.execute(f"create database {shop.plain}_copy owner {shop.username}")
    try:
        copy_env = direct_env | {"PGDATABASE": f"{shop.plain}_copy"}
        restored = subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"], input=through,
                                  text=True, capture_output=True, env=copy_env, timeout=60)
        assert restored.returncode == 0, restored.stderr
        assert dump(copy_env) == through
    finally:
        shop.server.execute(f"drop database {shop.plain}_copy with (force)")
