"""The key that a client is given cancels its own statement, and nothing else does."""

import socket
import struct
import threading

import psycopg
import pytest

from harness.cut import BYTES, Network
from harness.shop import TARGET
from harness.waiting import wait_until
from harness.wire import CANCEL_CODE, Wire, message, states

SLEEP = "select pg_sleep(40)"
SLOW_POLICY = """---
kind: Policy
name: slow-db
cedar: |
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"slow-db");
"""
NOT_YET_S = 0.5


class SlowToCancel(Network):
    """Keeps requests to cancel back until they are let go."""

    def __init__(self, address):
        self.heard, self.let_go = threading.Event(), threading.Event()
        super().__init__(address)

    def _copy(self, source, sink):
        if source.recv(BYTES, socket.MSG_PEEK)[4:8] == struct.pack(">i", CANCEL_CODE):
            self.heard.set()
            self.let_go.wait()
        super()._copy(source, sink)

    def close(self):
        self.let_go.set()
        super().close()


@pytest.fixture(params=[0, 2], ids=["3.0", "3.2"])
def session(shop, token, request):
    """A session of each protocol version, its process id and its key."""
    with Wire(shop.gateway.address()) as wire:
        seen = wire.login(token, "plain-db", version=(3 << 16) + request.param)
        [key_data] = [body for kind, body in seen if kind == b"K"]
        yield wire, struct.unpack(">i", key_data[:4])[0], key_data[4:]


def cancel(shop, process, key):
    """Asks for it, as libpq does, and waits until it was heard."""
    with Wire(shop.gateway.address()) as connection:
        connection.send(struct.pack(">iii", 12 + len(key), CANCEL_CODE, process) + key)
        connection.is_closed()


def runs(shop, process):
    return shop.server.execute(
        f"select 1 from pg_stat_activity where pid = {process} and state = 'active' "
        f"and query = '{SLEEP}'")


def value(answer):
    [row] = [body for kind, body in answer if kind == b"D"]
    return row[6:].decode()


def test_the_process_id_is_the_servers(session):
    wire, process, key = session
    assert value(wire.query("select pg_backend_pid()")) == str(process)
    assert len(key) in (4, 28)


def test_libpq_and_the_server_agree_on_the_process_id(shop, token):
    with shop.connect("plain-db", token) as connection:
        [(pid,)] = connection.execute("select pg_backend_pid()").fetchall()
        assert connection.info.backend_pid == pid


def test_only_the_whole_key_cancels(shop, session):
    wire, process, key = session
    wire.send(message(b"Q", SLEEP.encode() + b"\0"))
    wait_until(lambda: runs(shop, process), "the statement runs")
    wrong = [bytes([key[at] ^ 1 if at == index else key[index] for index in range(len(key))])
             for at in (0, len(key) - 1)]
    for process_id, secret in [*((process, secret) for secret in wrong), (process, key[:-1]),
                               (process, key + b"\0"), (process, bytes(len(key))), (process, b""),
                               (process ^ 1, key)]:
        cancel(shop, process_id, secret)
    assert runs(shop, process)
    cancel(shop, process, key)
    assert states(wire.read_until(b"Z")) == ["57014"]
    assert not states(wire.query("select 1"))


def test_a_notification_names_the_process_that_the_client_knows(shop, token):
    with shop.connect("plain-db", token) as connection:
        connection.execute("listen news")
        connection.execute("notify news, 'hello'")
        [notification] = connection.notifies(timeout=20, stop_after=1)
        assert notification.pid == connection.info.backend_pid


def test_sessions_cancel_each_for_itself(shop, token):
    with shop.connect("plain-db", token) as one, shop.connect("plain-db", token) as two:
        failed = []

        def sleep(connection):
            try:
                connection.execute(SLEEP)
            except Exception as error:  # what it was is asserted below
                failed.append((connection, error.sqlstate))

        threads = [threading.Thread(target=sleep, args=(connection,)) for connection in (one, two)]
        for thread in threads:
            thread.start()
        for connection in (one, two):
            wait_until(lambda: runs(shop, connection.info.backend_pid), "both statements run")
        one.cancel_safe()
        threads[0].join()
        assert failed == [(one, "57014")] and runs(shop, two.info.backend_pid)
        two.cancel_safe()
        threads[1].join()
        assert failed[1] == (two, "57014")


def test_a_request_to_cancel_is_over_when_the_target_has_acted(shop):
    """A client sends its next statement then: that one is not meant."""
    with SlowToCancel(("127.0.0.1", shop.server.port)) as network:
        target = TARGET.format(name="slow-db", port=network.address[1], database=shop.plain,
                               username=shop.username, rows="full")
        shop.gateway.apply(target + SLOW_POLICY, env=shop.env)
        failed = []

        def sleep(connection):
            try:
                connection.execute(SLEEP)
            except psycopg.Error as error:
                failed.append(error.sqlstate)

        with shop.connect("slow-db") as connection:
            connection.execute("select 1")
            asking = threading.Thread(target=connection.cancel_safe)
            sleeping = threading.Thread(target=sleep, args=(connection,))
            sleeping.start()
            wait_until(lambda: runs(shop, connection.info.backend_pid), "the statement runs")
            asking.start()
            assert network.heard.wait(20)
            asking.join(NOT_YET_S)
            assert asking.is_alive()
            network.let_go.set()
            asking.join()
            sleeping.join()
            assert failed == ["57014"]
            assert connection.execute("select 1").fetchone() == (1,)
