"""What streams through a Kubernetes target takes the memory of its pieces, not of its whole."""

import json
import pathlib

import pytest

from harness.kube_stage import MEBIBYTE, Stage, rss_mib, status_of

READER = """
kind: User
name: grace@example.com
groups: [readers]
password: {env: PASSWORD}
---
kind: Policy
name: readers
cedar: |
  permit (principal in Corral::Group::"readers",
          action in [Corral::Action::"connect", Corral::Action::"read",
                     Corral::Action::"kube_proxy"],
          resource in Corral::Target::"cluster");
"""
# A piece on its way, in each direction, and what an allocator keeps.
GROWTH_MIB_MAX = 24
LOG_MIB = UPLOAD_MIB = 300
LIST_ITEMS = 1500
VALUE = "b3Blbi1zZXNhbWU=" * (4 * 1024)
CHUNKED = (b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n"
           b"Connection: close\r\n\r\n")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    opened = Stage(tmp_path_factory.mktemp("cluster"))
    try:
        opened.gateway.apply(READER, env={"PASSWORD": opened.password})
        grace = opened.gateway.login("grace@example.com", opened.password)
        opened.run = opened.gateway.start_run("reader", grace, "--ttl", "1h")
        # What the first request needs stays.
        assert opened.ask("GET", "/version")[0] == 200
        yield opened
    finally:
        opened.close()


class Peak:
    """`with Peak(gateway) as peak:` and then `peak.growth_mib`, by the kernel's own mark."""

    def __init__(self, gateway):
        self.gateway = gateway

    def __enter__(self):
        self.before = rss_mib(self.gateway)
        pathlib.Path(f"/proc/{self.gateway.pid}/clear_refs").write_text("5")
        return self

    def __exit__(self, *_):
        status = pathlib.Path(f"/proc/{self.gateway.pid}/status").read_text()
        [mark] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        self.growth_mib = int(mark.split()[1]) / 1024 - self.before


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def drain(connection, keep=64 * 1024):
    """Reads to the end: how much came, how it began and how it ended."""
    count, begin, end = 0, b"", b""
    while data := connection.recv(MEBIBYTE):
        count += len(data)
        if len(begin) < keep:
            begin += data
        end = (end + data)[-keep:]
    return count, begin, end


def test_a_long_log_takes_constant_memory(stage):
    piece = chunk((b"x" * 1023 + b"\n") * 1024)

    def log(request, connection):
        connection.sendall(CHUNKED % b"text/plain")
        for _ in range(LOG_MIB):
            connection.sendall(piece)
        connection.sendall(b"0\r\n\r\n")
    stage.target.answers = log
    with Peak(stage.gateway) as peak, stage.connect() as connection:
        connection.sendall(stage.head("GET", "/api/v1/namespaces/a/pods/p/log",
                                      "Connection: close"))
        count, begin, end = drain(connection)
    assert status_of(begin) == 200 and end.endswith(b"0\r\n\r\n")
    assert count > LOG_MIB * MEBIBYTE
    assert peak.growth_mib < GROWTH_MIB_MAX


def test_a_long_list_is_masked_in_constant_memory(stage):
    def items(request, connection):
        connection.sendall(CHUNKED % b"application/json")
        connection.sendall(chunk(b'{"kind":"SecretList","apiVersion":"v1",'
                                 b'"metadata":{"resourceVersion":"7"},"items":['))
        for number in range(LIST_ITEMS):
            item = {"metadata": {"name": f"s{number}", "namespace": "a"}, "data": {"k": VALUE}}
            comma = b"," if number else b""
            connection.sendall(chunk(comma + json.dumps(item).encode()))
        connection.sendall(chunk(b"]}") + b"0\r\n\r\n")
    stage.target.answers = items
    with Peak(stage.gateway) as peak, stage.connect() as connection:
        connection.sendall(stage.head("GET", "/api/v1/namespaces/a/secrets",
                                      "Connection: close"))
        count, begin, end = drain(connection)
    assert status_of(begin) == 200 and end.endswith(b"0\r\n\r\n")
    assert b'"s0"' in begin and f'"s{LIST_ITEMS - 1}"'.encode() in end
    assert VALUE[:100].encode() not in begin + end
    assert LIST_ITEMS * len(VALUE) > 90 * MEBIBYTE
    assert peak.growth_mib < GROWTH_MIB_MAX


def test_a_long_upload_takes_constant_memory(stage):
    stage.target.keeps_bodies = False
    stage.target.answers = lambda request, connection: (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    piece = chunk(b"y" * MEBIBYTE)
    del stage.target.requests[:]
    with Peak(stage.gateway) as peak, stage.connect() as connection:
        connection.sendall(stage.head("POST", "/api/v1/namespaces/a/pods/p/proxy/upload",
                                      "Transfer-Encoding: chunked", "Connection: close"))
        for _ in range(UPLOAD_MIB):
            connection.sendall(piece)
        connection.sendall(b"0\r\n\r\n")
        _, begin, _ = drain(connection)
    assert status_of(begin) == 200, begin
    [request] = stage.target.requests
    assert request.body_bytes == UPLOAD_MIB * MEBIBYTE
    assert peak.growth_mib < GROWTH_MIB_MAX
