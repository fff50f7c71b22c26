"""Function calls of the fast path: libpq's large objects, decided as the SELECT that does the same."""

import struct

import pytest

from harness.wire import Wire, message, states

LO_CREATE, LO_OPEN, LO_READ, LO_WRITE, LO_SEEK, LO_CLOSE = 715, 952, 954, 955, 956, 953
READ_WRITE = 0x60000


def call(wire, function, *values):
    """The value as bytes, or the answer when there is none."""
    data = [struct.pack(">i", value) if isinstance(value, int) else value for value in values]
    body = struct.pack(">ihhh", function, 1, 1, len(data))
    body += b"".join(struct.pack(">i", len(value)) + value for value in data)
    wire.send(message(b"F", body + struct.pack(">h", 1)))
    answer = wire.read_until(b"Z")
    found = [body[4:] for kind, body in answer if kind == b"V"]
    return found[0] if found else answer


def number(data):
    return struct.unpack(">i", data)[0]


@pytest.fixture
def wire(shop, token):
    with Wire(shop.gateway.address()) as connection:
        connection.login(token, "plain-db")
        yield connection


def test_a_large_object_is_written_and_read(shop, wire):
    content = bytes(range(256)) * 400
    wire.query("begin")
    oid = number(call(wire, LO_CREATE, 0))
    handle = number(call(wire, LO_OPEN, oid, READ_WRITE))
    assert number(call(wire, LO_WRITE, handle, content)) == len(content)
    assert number(call(wire, LO_SEEK, handle, 0, 0)) == 0
    assert call(wire, LO_READ, handle, len(content)) == content
    assert number(call(wire, LO_CLOSE, handle)) == 0
    wire.query("commit")
    decided = [str(event["statement"]) for event in shop.gateway.events("--event", "statement.decided")]
    assert "SELECT pg_catalog.lowrite($1, $2)" in decided


def test_errors_are_the_servers_and_fail_the_transaction(wire):
    wire.query("begin")
    answer = call(wire, LO_OPEN, 4_000_000, READ_WRITE)
    assert states(answer) == ["42704"]
    assert states(call(wire, LO_CREATE, 0)) == ["25P02"]
    wire.query("rollback")


def test_other_functions_are_refused_and_the_session_goes_on(wire):
    # pg_terminate_backend, pg_read_file, lo_import of a file, a user's function.
    for function in (2096, 2624, 764, 16_384):
        assert states(call(wire, function, 1)) == ["0A000"]
    assert not states(wire.query("select 1"))


def test_policy_decides_a_call_as_the_select(shop):
    """Frances may read, and nothing else."""
    token = shop.login("frances")
    with Wire(shop.gateway.address()) as wire:
        wire.login(token, "orders-db")
        as_select = states(wire.query("select pg_catalog.lo_create(0)"))
        assert as_select == ["42501"]
        assert states(call(wire, LO_CREATE, 0)) == as_select
        assert not states(wire.query("select 1"))


def test_a_session_with_masked_columns_calls_none(shop, token):
    with Wire(shop.gateway.address()) as wire:
        wire.login(token, "orders-db")
        assert states(call(wire, LO_CREATE, 0)) == ["42501"]
