"""Connections forwarded through a host: both ways, decided one by one, by stock OpenSSH."""

import contextlib
import socket
import threading

import pytest

from harness.hosts import Hosts
from harness.postgres import free_port
from harness.waiting import wait_until

OPTIONS = '  forward_to: ["localhost:*", "127.0.0.1:{port}"]\n' \
          '  forward_listen: ["localhost:*"]\n'
RULES = """
kind: Policy
name: forwards
cedar: |
  @id("no-ipv4") @reason("Hosts are named.")
  forbid (principal, action == Corral::Action::"forward", resource in Corral::Target::"web-1")
  when {{ context has host && context.host == "127.0.0.1" }};
  @id("asks") @approval("dba") @reason("This place needs approval.")
  forbid (principal, action == Corral::Action::"forward", resource in Corral::Target::"web-1")
  when {{ context has port && [{held}, {held_listen}].contains(context.port) }};
"""


class Echo:
    """Gives back what it gets, until its other end closes."""

    def __init__(self, port=0):
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.socket.accept()
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one):
        with one, contextlib.suppress(OSError):
            while piece := one.recv(65536):
                one.sendall(piece)

    def close(self):
        # A thread that waits in accept() keeps a listening socket open.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture(scope="module")
def echo():
    server = Echo()
    yield server
    server.close()


@pytest.fixture(scope="module")
def held():
    """A port whose forward needs an approval, with a server; and one to listen on."""
    server = Echo()
    yield server, free_port()
    server.close()


def started(echo, held):
    hosts = Hosts(options=OPTIONS.format(port=echo.port))
    hosts.gateway.apply(RULES.format(held=held[0].port, held_listen=held[1]))
    return hosts


@pytest.fixture(scope="module")
def hosts(echo, held):
    with started(echo, held) as running:
        yield running


@pytest.fixture
def own_hosts(echo, held):
    with started(echo, held) as running:
        yield running


@contextlib.contextmanager
def forwarding(hosts, token, *options):
    """`ssh -N` with these; ends with the block."""
    client = hosts.start_ssh(None, "-N", "-o", "ExitOnForwardFailure=yes", *options, token=token)
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def connected(port, deadline_s=10):
    """A connection to a port on which ssh is about to listen."""
    def attempt():
        try:
            return socket.create_connection(("127.0.0.1", port), deadline_s)
        except OSError:
            return None
    return wait_until(attempt, f"somebody listens on {port}", deadline_s)


def echoes(connection, payload):
    """Whether it all comes back, and then the end."""
    def send():
        connection.sendall(payload)
        connection.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    back = bytearray()
    while piece := connection.recv(65536):
        back += piece
    sender.join(10)
    return bytes(back) == payload


def is_ended(connection):
    """Whether the other end closed it, within the connection's own deadline."""
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def is_listened_on(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False


def decided(hosts, run, outcome):
    return [event for event in hosts.events("--run", run["run_id"])
            if event["event"] == "statement.decided" and event["outcome"] == outcome]


def completions(hosts, run):
    """(statement, completion) of what is over."""
    events = hosts.events("--run", run["run_id"])
    texts = {event["seq_in_session"]: event["statement"] for event in events
             if event["event"] == "statement.decided"}
    return [(texts[event["seq_in_session"]], event) for event in events
            if event["event"] == "statement.completed"]


def completed(hosts, run, start):
    def found():
        return [done for text, done in completions(hosts, run) if text.startswith(start)]
    return wait_until(found, f"{start} is completed")


PAYLOAD = bytes(range(256)) * 8192


# -- what passes

def test_a_local_forward_carries_bytes_and_is_recorded_with_its_ends(hosts, echo):
    run, port = hosts.run(), free_port()
    with forwarding(hosts, run["token"], "-L", f"{port}:localhost:{echo.port}"):
        with connected(port) as connection:
            assert echoes(connection, PAYLOAD)
            own = connection.getsockname()[1]
        with connected(port) as connection:
            assert echoes(connection, b"again")
        start = f"forward to localhost:{echo.port} from 127.0.0.1:{own}"
        (done,) = completed(hosts, run, start)
    assert done["bytes"] == 2 * len(PAYLOAD) and done["code"] == "closed"
    events = decided(hosts, run, "allow")
    assert len(events) == 2 and {tuple(event["verbs"]) for event in events} == {("forward",)}
    # ssh names itself as the client does, and nothing of what passed is in the record.
    assert not hosts.events("--run", run["run_id"], "--event", "stream.data")


def test_standard_input_is_forwarded(hosts, echo):
    run = hosts.run()
    result = hosts.ssh(None, "-W", f"localhost:{echo.port}", token=run["token"], stdin=PAYLOAD)
    assert result.stdout == PAYLOAD
    (done,) = completed(hosts, run, f"forward to localhost:{echo.port} from ")
    assert done["bytes"] == 2 * len(PAYLOAD)


@pytest.mark.parametrize("asked", ["a port", "any port"])
def test_a_remote_forward_carries_bytes_and_each_connection_is_decided(hosts, echo, asked):
    run, port = hosts.run(), free_port() if asked == "a port" else 0
    options = ["-R", f"localhost:{port}:127.0.0.1:{echo.port}"]
    with forwarding(hosts, run["token"], *options) as client:
        if port == 0:
            # Allocated port 40123 for remote forward to 127.0.0.1:5432
            port = int(client.stderr.readline().split()[2])
        with connected(port) as connection:
            assert echoes(connection, PAYLOAD)
        (done,) = completed(hosts, run, f"forward from the target's localhost:{port} from ")
        assert done["bytes"] == 2 * len(PAYLOAD)
    first, second = [event["statement"] for event in decided(hosts, run, "allow")]
    assert first == f"listen on localhost:{port if asked == 'a port' else 0}"
    assert second.startswith(f"forward from the target's localhost:{port} from ")
    completed(hosts, run, "listen on ")
    wait_until(lambda: not is_listened_on(port), "the target listens no more")


def socks_request(port, host):
    """A connection by SOCKS 5 (RFC 1928) to a name, and the server's answer."""
    connection = connected(port)
    connection.sendall(b"\x05\x01\x00")
    assert connection.recv(2) == b"\x05\x00"
    name, number = host.rsplit(":", 1)
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name.encode()
                       + int(number).to_bytes(2, "big"))
    return connection


def test_a_dynamic_forward_reaches_only_what_is_named(hosts, echo):
    run, port = hosts.run(), free_port()
    with forwarding(hosts, run["token"], "-D", str(port)):
        with socks_request(port, f"localhost:{echo.port}") as connection:
            assert connection.recv(10)[:2] == b"\x05\x00"
            assert echoes(connection, b"by name")
        with socks_request(port, f"elsewhere.example:{echo.port}") as connection:
            assert is_ended(connection)
    (denied,) = decided(hosts, run, "deny")
    assert "forward_to does not name elsewhere.example" in denied["reason"]


# -- what does not

def test_a_place_that_no_option_names_is_denied_with_one_event(hosts, echo):
    run = hosts.run()
    result = hosts.ssh(None, "-W", "elsewhere.example:22", token=run["token"], expect=255)
    said = "options.forward_to does not name elsewhere.example:22"
    assert said.encode() in result.stderr
    (denied,) = decided(hosts, run, "deny")
    assert denied["statement"].startswith("forward to elsewhere.example:22 from ")
    assert denied["rules"] == ["options"] and said in denied["reason"]
    run = hosts.run()
    options = ["-N", "-o", "ExitOnForwardFailure=yes", "-v", "-R", "127.0.0.1:0:localhost:1"]
    result = hosts.ssh(None, *options, token=run["token"], expect=255)
    assert b"options.forward_listen does not name 127.0.0.1:0" in result.stderr
    (denied,) = decided(hosts, run, "deny")
    assert denied["statement"] == "listen on 127.0.0.1:0"


def test_a_policy_denies_a_place_that_an_option_names(hosts, echo):
    run = hosts.run()
    result = hosts.ssh(None, "-W", f"127.0.0.1:{echo.port}", token=run["token"], expect=255)
    assert b"no-ipv4: Hosts are named." in result.stderr
    (denied,) = decided(hosts, run, "deny")
    assert denied["rules"] == ["no-ipv4"]
    run = hosts.run(user="rita@example.com")
    hosts.ssh(None, "-W", f"localhost:{echo.port}", token=run["token"], expect=255)
    assert len(decided(hosts, run, "deny")) == 1


def test_a_place_where_nobody_listens_is_told_apart(hosts):
    run = hosts.run()
    result = hosts.ssh(None, "-W", f"localhost:{free_port()}", token=run["token"], expect=255)
    assert b"connect failed" in result.stderr.lower(), result.stderr
    (_, done), = completions(hosts, run)
    assert done["code"] == "aborted"


def pending(hosts, run):
    return [approval for approval in hosts.gateway.json("approvals", "list")
            if approval["state"] == "pending" and approval["run_id"] == run["run_id"]]


def test_a_held_forward_goes_on_when_it_is_approved(hosts, held):
    run, port = hosts.run(), free_port()
    with forwarding(hosts, run["token"], "-L", f"{port}:localhost:{held[0].port}"):
        with connected(port, 20) as connection:
            (approval,) = wait_until(lambda: pending(hosts, run), "an approval")
            assert approval["statement"].startswith(f"forward to localhost:{held[0].port} from ")
            hosts.gateway.run("approvals", "approve", approval["id"], "--reason", "checked",
                              token=hosts.login("grace@example.com"))
            assert echoes(connection, PAYLOAD)


def test_a_port_of_the_target_does_not_wait_for_people(hosts, held):
    run = hosts.run()
    options = ["-N", "-o", "ExitOnForwardFailure=yes", "-v", "-R",
               f"localhost:{held[1]}:localhost:1"]
    result = hosts.ssh(None, *options, token=run["token"], expect=255)
    assert b"a port of the target cannot wait for an approval" in result.stderr
    wait_until(lambda: not pending(hosts, run), "the request is taken back")


def test_sockets_are_refused_with_one_event_each(hosts, tmp_path):
    run = hosts.run()
    port = free_port()
    with forwarding(hosts, run["token"], "-L", f"{port}:/run/own\u00e9.sock"):
        for _ in range(3):
            with connected(port) as connection:
                assert is_ended(connection)
    (denied,) = decided(hosts, run, "deny")
    assert denied["statement"] == "forward to the socket /run/own\u00e9.sock"
    assert denied["rules"] == ["forward"] and denied["verbs"] == ["forward"]
    run = hosts.run()
    there = tmp_path / "listen"
    options = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", f"{there}:localhost:1"]
    result = hosts.ssh(None, *options, token=run["token"], expect=255)
    assert b"remote port forwarding failed" in result.stderr
    assert not there.exists()
    (denied,) = decided(hosts, run, "deny")
    assert denied["statement"] == f"listen on the socket {there}"


# -- ends

@contextlib.contextmanager
def both_open(hosts, run, echo):
    """One connection each way, open and idle: (client, local, remote, the port at the target)."""
    port, there = free_port(), free_port()
    options = ["-L", f"{port}:localhost:{echo.port}", "-R", f"localhost:{there}:127.0.0.1:{echo.port}"]
    with forwarding(hosts, run["token"], *options) as client:
        with connected(port) as local, connected(there) as remote:
            for connection in (local, remote):
                connection.sendall(b"here")
                assert connection.recv(4) == b"here"
            yield client, local, remote, there


def test_a_kill_ends_forwards(hosts, echo):
    run = hosts.run()
    with both_open(hosts, run, echo) as (client, local, remote, there):
        hosts.gateway.run("runs", "kill", run["run_id"])
        assert is_ended(local) and is_ended(remote)
        assert client.wait(10) == 255
        wait_until(lambda: not is_listened_on(there), "the target listens no more")
    wait_until(lambda: len(completions(hosts, run)) == 3, "three are accounted")
    assert sorted(done["bytes"] for _, done in completions(hosts, run)) == [0, 8, 8]


def test_a_policy_change_ends_forwards_and_the_connection_stays(own_hosts, echo):
    hosts, run = own_hosts, own_hosts.run()
    with both_open(hosts, run, echo) as (client, local, remote, there):
        hosts.gateway.apply("""
kind: Policy
name: no-forwards
cedar: |
  @id("no-forwards") @reason("Nothing passes.")
  forbid (principal, action == Corral::Action::"forward", resource in Corral::Target::"web-1");
""")
        assert is_ended(local) and is_ended(remote)
        wait_until(lambda: len(completions(hosts, run)) == 3, "three are accounted")
        wait_until(lambda: not is_listened_on(there), "the target listens no more")
        assert client.poll() is None
    assert len(decided(hosts, run, "deny")) == 3
