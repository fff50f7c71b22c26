"""Unmodified psql."""

import os
import signal
import subprocess

from harness.waiting import wait_until


def test_it_reads_and_writes(shop, token):
    result = shop.psql("plain-db", "create table t (a int, b text)",
                       "insert into t values (1, 'x'), (2, null)",
                       "select * from t order by a", token=token)
    assert result.stdout == "1|x\n2|\n"


def test_it_describes_what_it_finds(shop, token):
    for command in (r"\d", r"\dt+", r"\l", r"\dn", r"\df", r"\conninfo"):
        result = shop.psql("plain-db", command, token=token)
        assert "corral:" not in result.stderr, (command, result.stderr)


def test_several_statements_in_one_message_are_one_decision(shop, token):
    script = "insert into orders values (900, 1, 1, now()); drop table orders cascade"
    result = shop.gateway.psql(shop.login("frances"), "orders-db", script, expect=1)
    assert "corral:" in result.stderr
    assert shop.psql("orders-db", "select count(*) from orders where id = 900",
                     token=token).stdout == "0\n"


def test_a_denied_statement_leaves_the_session_open(shop):
    result = shop.gateway.psql(
        shop.login("frances"), "orders-db", "delete from orders", "select 'still here'",
        arguments=("-v", "VERBOSITY=verbose"), expect=None)
    assert "42501" in result.stderr and "corral:" in result.stderr
    assert result.stdout == "still here\n"


def test_a_denied_statement_fails_its_transaction(shop):
    result = shop.gateway.psql(
        shop.login("frances"), "orders-db", "begin", "delete from orders",
        "select 'not this'", "rollback", "select 'after'",
        arguments=("-v", "VERBOSITY=verbose"), expect=None)
    assert "42501" in result.stderr and "25P02" in result.stderr
    assert result.stdout == "after\n"


def test_errors_of_the_server_arrive_as_they_are(shop, token):
    result = shop.psql("plain-db", "select 1/0", token=token, expect=1,
                       arguments=("-v", "VERBOSITY=verbose"))
    assert "22012: division by zero" in result.stderr
    assert "corral" not in result.stderr


def test_copy_moves_data_both_ways(shop, token):
    rows = "".join(f"{n}\tname {n}\n" for n in range(1000))
    script = f"create table c (a int, b text);\ncopy c from stdin;\n{rows}\\.\ncopy c to stdout;\n"
    result = subprocess.run(
        ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"], input=script, text=True,
        capture_output=True, env=shop.gateway.psql_env(token, "plain-db"), timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout == rows


def test_notices_and_notifications_arrive(shop, token):
    result = shop.psql(
        "plain-db", "do $$ begin raise notice 'hello from the server'; end $$",
        "listen somewhere", "notify somewhere, 'a payload'", "select 1", token=token)
    assert "hello from the server" in result.stderr
    assert 'Asynchronous notification "somewhere" with payload "a payload"' in result.stdout


def test_control_c_cancels_what_runs(shop, token):
    process = subprocess.Popen(
        ["psql", "-X", "-c", "select pg_sleep(50)"], text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=shop.gateway.psql_env(token, "plain-db"))
    running = "select 1 from pg_stat_activity where query ~ 'pg_sleep\\(50\\)' and state = 'active'" \
              f" and datname = '{shop.plain}'"
    wait_until(lambda: shop.server.execute(running), "the statement runs")
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert "canceling statement due to user request" in error


def test_a_large_result_arrives_whole(shop, token):
    result = shop.psql("plain-db", "select n, repeat('x', 100) from generate_series(1, 50000) n",
                       token=token)
    lines = result.stdout.splitlines()
    assert len(lines) == 50000 and lines[-1] == "50000|" + "x" * 100
