"""What no honest client sends: an error or a closed connection, and nobody else notices."""

import datetime
import os
import pathlib
import random
import resource
import socket
import struct
import threading
import time

import psycopg
import pytest

from harness.waiting import wait_until
from harness.wire import CANCEL_CODE, SSL_REQUEST, Refused, Wire, message, startup, states, text


def rss_mib(gateway):
    for line in pathlib.Path(f"/proc/{gateway.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the gateway is gone")


def open_files(gateway):
    return len(os.listdir(f"/proc/{gateway.pid}/fd"))


@pytest.fixture(autouse=True)
def others_are_unharmed(shop):
    """A neighbour's session lives through whatever the test does, and the gateway with it."""
    pid = shop.gateway.pid
    with shop.connect("plain-db") as neighbour:
        neighbour.execute("select 1")
        yield
        assert shop.gateway.process.poll() is None, shop.gateway.log()[-2000:]
        assert shop.gateway.pid == pid
        assert neighbour.execute("select 2").fetchone() == (2,)
    assert "panicked" not in shop.gateway.log()


@pytest.fixture
def wire(shop, token):
    with Wire(shop.gateway.address()) as connection:
        connection.login(token, "plain-db")
        yield connection


def ends_or_refuses(wire):
    """The rest of what the gateway says: an ErrorResponse, or the end; never silence."""
    while True:
        got = wire.read()
        if got is None or got[0] == b"E":
            return got


def test_random_bytes_end_the_connection(shop):
    rng = random.Random(1)
    for size in (1, 7, 8, 64, 1000, 20000):
        with Wire(shop.gateway.address()) as connection:
            try:
                connection.send(rng.randbytes(size))
                connection.socket.shutdown(socket.SHUT_WR)
                connection.is_closed()
            except (ConnectionResetError, BrokenPipeError):
                pass


def test_random_bytes_after_login_end_the_connection(shop, token):
    rng = random.Random(2)
    for _ in range(20):
        with Wire(shop.gateway.address()) as connection:
            connection.login(token, "plain-db")
            try:
                connection.send(rng.randbytes(rng.randrange(1, 400)))
                connection.socket.shutdown(socket.SHUT_WR)
                connection.is_closed()
            except (ConnectionResetError, BrokenPipeError):
                pass


@pytest.mark.parametrize("request_code", [0, 1, 65536, 131072, 196609 + 65536 * 100, -1, 80877105])
def test_an_unknown_startup_is_refused(shop, request_code):
    with Wire(shop.gateway.address()) as connection:
        connection.send(struct.pack(">ii", 9, request_code) + b"\0")
        connection.is_closed()


@pytest.mark.parametrize("length", [0, 1, 3, 7, -1, 2**31 - 1, 10001])
def test_a_lying_startup_length_is_refused(shop, length):
    with Wire(shop.gateway.address()) as connection:
        connection.send(struct.pack(">ii", length, 196608) + b"user\0x\0\0")
        connection.socket.shutdown(socket.SHUT_WR)
        connection.is_closed()


@pytest.mark.deadline(90)
def test_half_a_startup_meets_the_login_deadline(shop):
    since = now()
    with Wire(shop.gateway.address(), timeout=60, source="127.0.0.4") as connection:
        connection.send(startup({"user": "x", "database": "plain-db"})[:9])
        started = time.monotonic()
        connection.is_closed()
        assert time.monotonic() - started < 45
        wait_until(lambda: refusals_of(shop, connection, since), "the refusal is recorded")
        assert len(refusals_of(shop, connection, since)) == 1


@pytest.mark.deadline(90)
def test_a_slow_client_meets_the_login_deadline(shop):
    with Wire(shop.gateway.address(), timeout=60) as connection:
        started = time.monotonic()
        data = startup({"user": "x" * 200, "database": "plain-db"})
        is_open = True
        connection.socket.settimeout(1)
        for index in range(len(data)):
            try:
                connection.send(data[index:index + 1])
                if connection.socket.recv(1000) == b"":
                    is_open = False
            except TimeoutError:
                continue
            except OSError:
                is_open = False
            if not is_open:
                break
        assert not is_open and time.monotonic() - started < 45


def test_connections_that_never_speak_cost_little(shop, token):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10000, (hard if hard != resource.RLIM_INFINITY else 20000) - 500,
                open_file_limit(shop.gateway) - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    before = rss_mib(shop.gateway)
    mute = []
    try:
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(shop.gateway.address())
            mute.append(sock)
        # Somebody who does speak still gets in, sooner or later.
        wait_until(lambda: can_connect(shop, token), "an honest client gets in", 45)
        assert rss_mib(shop.gateway) - before < 100
    finally:
        for sock in mute:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: open_files(shop.gateway) < 300, "their sockets are closed", 45)


def open_file_limit(gateway):
    for line in pathlib.Path(f"/proc/{gateway.pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    return 1024


def can_connect(shop, token):
    try:
        shop.connect("plain-db", token, connect_timeout=5).close()
        return True
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize("kind", [b"Q", b"P", b"B", b"d", b"p", b"F"])
def test_a_message_of_a_gibibyte_is_refused_by_its_header(shop, wire, kind):
    before = rss_mib(shop.gateway)
    wire.send(kind + struct.pack(">i", 2**30))
    try:
        for _ in range(64):
            wire.send(b"x" * 65536)
    except (BrokenPipeError, ConnectionResetError):
        pass
    got = ends_or_refuses(wire)
    assert got is None or states([got])[0] in ("54000", "08P01", "0A000"), got
    assert rss_mib(shop.gateway) - before < 50


@pytest.mark.parametrize("length", [0, 3, -1, -2**31])
def test_a_lying_length_after_login_ends_the_connection(wire, length):
    wire.send(b"Q" + struct.pack(">i", length) + b"select 1\0")
    wire.socket.shutdown(socket.SHUT_WR)
    got = ends_or_refuses(wire)
    assert got is None or states([got])[0] in ("08P01", "54000")


def test_an_unknown_message_type_ends_the_connection(wire):
    wire.send(message(b"~", b"hello"))
    got = ends_or_refuses(wire)
    assert got is None or states([got])[0] == "08P01"


def test_invalid_utf8_and_nul_in_a_statement_are_refused(shop, token):
    for body in (b"select '\xff\xfe'", b"select 1\0; select 2", b"select '\xc3'"):
        with Wire(shop.gateway.address()) as connection:
            connection.login(token, "plain-db")
            connection.send(message(b"Q", body + b"\0"))
            got = ends_or_refuses(connection)
            assert got is None or states([got])[0] in ("22021", "08P01", "42501", "42601"), got


def test_a_statement_of_a_later_release_is_refused_with_the_word_that_is_not_known(shop):
    # Frances may unmask: where columns are masked, the refusal itself says why.
    with shop.connect("orders-db", shop.login("frances")) as connection:
        for prepare in (False, True):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="cannot be told") as told:
                connection.execute("repack orders", prepare=prepare)
            assert "REPACK" in told.value.diag.message_detail.upper()
            assert "PostgreSQL 18" in told.value.diag.message_detail
            assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("nested", [
    lambda n: "select " + "(" * n + "1" + ")" * n,
    lambda n: "select " + "not " * n + "true",
    lambda n: "select " + " + ".join(["1"] * n),
    lambda n: "select " + "case when true then " * n + "1" + " end" * n,
    lambda n: "select 1" + " union all select 1" * n,
    lambda n: "select " + "array[" * n + "1" + "]" * n,
], ids=["parentheses", "not", "plus", "case", "union", "array"])
def test_deep_nesting_neither_crashes_nor_passes_unseen(shop, wire, nested):
    for depth in (500, 20000, 100000):
        answer = wire.query(nested(depth))
        for state in states(answer):
            # The server's own words for it, or a denial.
            assert state in ("54001", "42501", "54000", "42601", "54011", "57014"), state


def test_the_fast_path_is_refused_and_the_session_goes_on(wire):
    wire.send(message(b"F", struct.pack(">ihhih", 1, 0, 0, 0, 0)))
    assert states(wire.read_until(b"Z"))[0] in ("0A000", "42501")
    answer = wire.query("select 1")
    assert any(kind == b"D" for kind, _ in answer)


def test_a_statement_above_the_limit_is_refused(wire):
    answer = wire.query("select '" + "x" * (9 * 1024 * 1024) + "'")
    assert states(answer) == ["54000"]
    # Fewer bytes, and more words than there is memory for.
    assert states(wire.query("select 1 in (" + "1," * 300_000 + "1)")) == ["54000"]
    assert not states(wire.query("select 1"))


def test_a_large_literal_is_one_word(wire):
    literal = "x, y '' " * (700 * 1024)
    answer = wire.query(f"select length('{literal}')")
    [row] = [body for kind, body in answer if kind == b"D"]
    assert row.endswith(str(len(literal.replace("''", "'"))).encode())


def test_wrong_cancel_keys_do_nothing(shop):
    rng = random.Random(3)
    for size in (4, 8, 32, 256, 300):
        with Wire(shop.gateway.address()) as connection:
            connection.send(struct.pack(">iii", 12 + size, CANCEL_CODE, 4711) + rng.randbytes(size))
            connection.is_closed()


def test_tls_rubbish_ends_the_connection(shop):
    with Wire(shop.gateway.address()) as connection:
        connection.send(SSL_REQUEST)
        assert connection.stream.read(1) == b"S"
        connection.send(b"\x16\x03\x01\xff\xff" + os.urandom(1000))
        connection.socket.shutdown(socket.SHUT_WR)
        connection.is_closed()


def test_bytes_stuffed_behind_the_tls_request_are_not_taken_as_spoken_inside(shop, token):
    with Wire(shop.gateway.address()) as connection:
        connection.send(SSL_REQUEST + startup({"user": "x", "database": "plain-db"}))
        first = connection.stream.read(1)
        assert first in (b"S", b"E", b"")
        connection.socket.shutdown(socket.SHUT_WR)
        connection.is_closed()


def test_a_target_that_dies_in_mid_result_is_reported(shop, token):
    with shop.connect("plain-db", token) as connection:
        cursor = connection.cursor()
        stream = cursor.stream("select n, repeat('x', 1000) from generate_series(1, 1000000) n")
        with pytest.raises(psycopg.OperationalError):
            for index, _ in enumerate(stream):
                if index == 1000:
                    shop.server.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                                        f"where datname = '{shop.plain}' and query ~ 'repeat'")


def test_a_client_that_never_reads_is_held_back(shop, wire):
    before = rss_mib(shop.gateway)
    wire.send(message(b"Q", text("select repeat('x', 1000) from generate_series(1, 1000000)")))
    waiting = ("select 1 from pg_stat_activity where wait_event = 'ClientWrite' and "
               f"datname = '{shop.plain}'")
    wait_until(lambda: shop.server.execute(waiting), "the target waits for its client", 20)
    assert rss_mib(shop.gateway) - before < 20


def test_a_client_that_only_sends_is_held_back(shop, wire):
    before = rss_mib(shop.gateway)
    wire.socket.settimeout(3)
    one = message(b"Q", text("select repeat('x', 100000)"))
    sent = 0
    try:
        while sent < 200 * 1024 * 1024:
            wire.send(one * 1000)
            sent += len(one) * 1000
    except (TimeoutError, OSError):
        pass
    assert sent < 200 * 1024 * 1024, "it was never held back"
    assert rss_mib(shop.gateway) - before < 50


def test_bind_and_execute_of_what_was_never_parsed_are_the_servers_own_errors(wire):
    wire.send(message(b"B", text("") + text("nothing") + struct.pack(">hhh", 0, 0, 0))
              + message(b"S"))
    assert states(wire.read_until(b"Z"))[0] == "26000"
    wire.send(message(b"E", text("nothing") + struct.pack(">i", 0)) + message(b"S"))
    assert states(wire.read_until(b"Z"))[0] == "34000"
    assert not states(wire.query("select 1"))


def test_a_hundred_clients_that_vanish_leave_nothing_behind(shop, token):
    before = open_files(shop.gateway)

    def come_and_go():
        with Wire(shop.gateway.address()) as connection:
            try:
                connection.login(token, "plain-db")
                connection.send(message(b"Q", text("select pg_sleep(5)")))
            except (Refused, AssertionError):
                pass

    threads = [threading.Thread(target=come_and_go) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A few connections to its own store stay open.
    wait_until(lambda: open_files(shop.gateway) <= before + 15, "their files are closed", 30)
    idle = ("select count(*) from pg_stat_activity where query ~ 'pg_sleep.5' and "
            f"datname = '{shop.plain}' and state = 'active'")
    wait_until(lambda: shop.server.execute(idle) == [(0,)], "the target is idle again", 30)


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def refusals_of(shop, connection, since):
    """The recorded refusals of this very connection, of those that came since."""
    own = f":{connection.socket.getsockname()[1]}"
    found = shop.gateway.events("--event", "session.refused", "--since", since, "--limit", "10000")
    return [event for event in found if event["client_address"].endswith(own)]


@pytest.mark.parametrize("data", [
    b"\xff" * 64,
    struct.pack(">ii", 2**31 - 1, 196608),
    struct.pack(">ii", 9, 131072) + b"\0",
], ids=["random", "lying length", "old version"])
def test_what_is_no_startup_is_one_event(shop, data):
    since = now()
    # From another address than the floods of other tests, which are counted in the end.
    with Wire(shop.gateway.address(), source="127.0.0.3") as connection:
        connection.send(data)
        connection.is_closed()
        wait_until(lambda: refusals_of(shop, connection, since), "the refusal is recorded")
        assert len(refusals_of(shop, connection, since)) == 1


@pytest.mark.parametrize("data", [
    b"Q" + struct.pack(">i", 2**30), b"Q" + struct.pack(">i", -1), message(b"~", b"hello"),
], ids=["a gibibyte", "lying length", "unknown type"])
def test_a_broken_message_ends_a_session_with_one_event(shop, data):
    run = shop.run()
    with Wire(shop.gateway.address()) as connection:
        connection.login(run["token"], "plain-db")
        connection.send(data)
        connection.is_closed()

    def closed():
        return shop.gateway.events("--run", run["run_id"], "--event", "session.closed")

    wait_until(closed, "the session's end is recorded")
    assert [event["reason"] for event in closed()] == ["protocol"]
