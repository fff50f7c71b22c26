"""psycopg 3 through the gateway answers as it does directly."""

import threading

import psycopg
import pytest
from psycopg import sql

from harness.waiting import wait_until

VALUES = """select 1::int2 a, 2::int4 b, 3::int8 c, 4.5::float8 d, 6.70::numeric(10,2) e, true f,
    'text'::text g, '\\x00ff'::bytea h, '2026-01-02'::date i, '2026-01-02 03:04:05+00'::timestamptz j,
    '{1,2,null}'::int[] k, '{"x": [1]}'::jsonb l, null::text m,
    '8c9a3a3e-0000-4000-8000-000000000000'::uuid n, interval '1 day 2 hours' o, '10.0.0.1'::inet p"""


@pytest.fixture
def both(shop, token):
    """The same connection twice: through the gateway and direct."""
    with shop.connect("plain-db", token) as through, shop.owner() as direct:
        yield through, direct


def alike(both, act):
    through, direct = both
    assert act(through) == act(direct)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("prepare", [False, True], ids=["unnamed", "prepared"])
def test_values_of_every_kind(both, binary, prepare):
    def act(connection):
        with connection.cursor(binary=binary) as cursor:
            rows = [cursor.execute(VALUES, prepare=prepare).fetchall() for _ in range(3)]
            return rows, [(c.name, c.type_code) for c in cursor.description]

    alike(both, act)


def test_parameters_of_every_kind(both):
    def act(connection):
        row = connection.execute(
            "select %s::int, %b::int, %s::text, %b::bytea, %s::numeric, %s::int[], %s::text",
            (1, 2, "x'y", b"\0\xff", 3.5, [1, 2], None)).fetchone()
        return row

    alike(both, act)


def test_prepared_statements_are_reused(both):
    def act(connection):
        connection.prepare_threshold = 0
        return [connection.execute("select %s::int * 2", (n,)).fetchone() for n in range(50)]

    alike(both, act)


def test_transactions_and_savepoints(both):
    def act(connection):
        connection.execute("create temp table t (a int)")
        with connection.transaction():
            connection.execute("insert into t values (1)")
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("insert into t values (2)")
                connection.execute("select 1/0")
            connection.execute("insert into t values (3)")
        return connection.execute("select a from t order by a").fetchall()

    alike(both, act)


def test_errors_carry_the_same_fields(both):
    def act(connection):
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select * from does_not_exist")
        diagnostics = caught.value.diag
        return (caught.value.sqlstate, diagnostics.message_primary,
                diagnostics.statement_position, diagnostics.severity)

    alike(both, act)


def test_a_pipeline_keeps_order_and_fails_as_one(both):
    def act(connection):
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("select %s::int", (n,)) for n in range(200)]
            pipeline.sync()
            return [cursor.fetchone() for cursor in cursors]

    alike(both, act)

    def fail(connection):
        seen = []
        try:
            with connection.pipeline() as pipeline:
                connection.execute("select 1")
                connection.execute("select 1/0")
                connection.execute("select 2")
                pipeline.sync()
        except psycopg.Error as error:
            seen.append(error.sqlstate)
        return seen, connection.execute("select 'after'").fetchone()

    alike(both, fail)


def test_a_denied_statement_in_a_pipeline_fails_like_the_servers_own_error(shop):
    with shop.connect("orders-db", shop.login("frances")) as connection:
        with pytest.raises(psycopg.Error) as caught, connection.pipeline() as pipeline:
            connection.execute("select 1")
            connection.execute("delete from orders")
            connection.execute("select 2")
            pipeline.sync()
        assert caught.value.sqlstate == "42501"
        assert connection.execute("select count(*) from orders").fetchone() == (30,)


@pytest.mark.parametrize("form", ["text", "binary"])
def test_copy_both_ways(both, form):
    def act(connection):
        connection.execute("create temp table c (a int, b text)")
        into = sql.SQL("copy c from stdin (format {})").format(sql.SQL(form))
        with connection.cursor() as cursor:
            with cursor.copy(into) as copy:
                copy.set_types(["int4", "text"])
                for n in range(2000):
                    copy.write_row((n, f"row {n}" if n % 7 else None))
            count = connection.execute("select count(*), count(b) from c").fetchone()
            out = sql.SQL("copy c to stdout (format {})").format(sql.SQL(form))
            with cursor.copy(out) as copy:
                data = b"".join(copy)
        connection.execute("drop table c")
        return count, data

    alike(both, act)


def test_a_copy_that_the_client_aborts_leaves_the_session_open(both):
    def act(connection):
        connection.execute("create temp table c (a int)")
        with pytest.raises(ZeroDivisionError), connection.cursor() as cursor:
            with cursor.copy("copy c from stdin") as copy:
                copy.write_row((1,))
                raise ZeroDivisionError
        return connection.execute("select count(*) from c").fetchone()

    alike(both, act)


def test_server_side_cursors(both):
    def act(connection):
        with connection.transaction(), connection.cursor("c") as cursor:
            cursor.itersize = 10
            cursor.execute("select n from generate_series(1, 100) n")
            return cursor.fetchmany(5), cursor.fetchone(), len(cursor.fetchall())

    alike(both, act)


def test_rows_stream_one_by_one(both):
    alike(both, lambda connection: sum(
        row[0] for row in connection.cursor().stream("select generate_series(1, 3000)")))


def test_cancel_reaches_the_statement(shop, token):
    with shop.connect("plain-db", token) as connection:
        def cancel_when_it_runs():
            running = ("select 1 from pg_stat_activity where state = 'active' and "
                       f"datname = '{shop.plain}' and query = 'select pg_sleep(40)'")
            wait_until(lambda: shop.server.execute(running), "the statement runs")
            connection.cancel_safe()

        helper = threading.Thread(target=cancel_when_it_runs)
        helper.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(40)")
        helper.join()
        assert connection.execute("select 1").fetchone() == (1,)


def test_settings_that_the_server_reports_arrive(both):
    def act(connection):
        connection.execute("set timezone to 'Europe/Paris'")
        return {name: connection.info.parameter_status(name) for name in
                ("server_version", "server_encoding", "client_encoding", "TimeZone", "DateStyle",
                 "integer_datetimes", "standard_conforming_strings")}

    alike(both, act)


def test_a_transaction_keeps_its_own_choice_of_compiling(both):
    """The gateway turns `jit` off for its questions."""
    def act(connection):
        connection.autocommit = True
        cursor = connection.cursor()

        def jit():
            # What it makes is a table that no question has told of yet.
            cursor.execute("create temp table if not exists asked (id int)")
            cursor.execute("create temp table t (id int)")
            cursor.execute("select id from t")
            cursor.execute("drop table t")
            return cursor.execute("show jit").fetchone()[0]

        seen = []
        for outside in ("on", "off"):
            cursor.execute(f"set jit = {outside}")
            for inside in ("set jit = on", "set jit = off", "set local jit = on",
                           "set local jit = off", "reset jit", "select 1"):
                for end in ("commit", "rollback"):
                    cursor.execute(f"begin; {inside}")
                    seen.append(jit())
                    cursor.execute("savepoint s; set jit = off")
                    seen.append(jit())
                    cursor.execute("rollback to savepoint s")
                    seen.append(jit())
                    cursor.execute(end)
                    seen.append(jit())
                    cursor.execute(f"set jit = {outside}")
        assert "on" in seen and "off" in seen
        return seen

    alike(both, act)


def test_options_of_the_startup_message_are_used(shop, token):
    with shop.connect("plain-db", token, options="-c statement_timeout=12345",
                      application_name="a label") as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("12345ms",)
