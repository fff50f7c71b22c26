"""What no honest client of the Kubernetes API sends, and what no honest cluster answers.

Everything is written on a bare socket. The target is a server that keeps each request as it came:
what must not reach a cluster does not reach it, the next client is served, and the record has one
event for what was refused.
"""

import gzip
import json
import os
import random
import secrets
import struct
import time

import pytest

from harness.kube_stage import (BINARY, CLOSE, MEBIBYTE, MEMORY_GROWTH_MIB_MAX, PING, STDIN,
                                WEBSOCKET, Stage, read_to_end, rss_mib, status_of, statuses,
                                unmasked, websocket_frame)
from harness.recording_https import answer
from harness.waiting import wait_until

# A gateway that waits for more of a request has nothing to say. What it has, it says sooner.
SILENCE_S = 1
MAPS = "/api/v1/namespaces/a/configmaps"
MARK = "smuggled"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    opened = Stage(tmp_path_factory.mktemp("cluster"))
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def others_are_unharmed(stage):
    """Whatever the test does, the next request of the same run is served."""
    pid = stage.gateway.pid
    del stage.target.requests[:]
    stage.target.answers = lambda request, connection: answer(200)
    yield
    stage.target.answers = lambda request, connection: answer(200)
    assert stage.gateway.process.poll() is None and stage.gateway.pid == pid, stage.gateway.log()
    assert stage.ask("GET", f"{MAPS}/neighbour")[0] == 200
    assert "panicked" not in stage.gateway.log()


def refused_once(stage, status, body, text, expected=(400, 403)):
    """One refusal in Corral's words, one event, and nothing at the cluster."""
    assert status in expected, body
    assert b"corral:" in body, body
    assert json.loads(body)["kind"] == "Status"
    assert stage.target.requests == []
    wait_until(lambda: stage.decided(text), "the refusal is recorded")
    events = stage.decided(text)
    assert [event["outcome"] for event in events] == ["deny"], events


# -- paths

WRONG_PATHS = [
    "/api/v1/namespaces/a/../b/secrets", "/api/v1/namespaces/a/%2e%2e/b/secrets",
    "/api/v1/namespaces/a/%2E%2E/b/secrets", "/api/v1/namespaces/a/.%2e/b/secrets",
    "/api/v1/namespaces/a/./secrets", "/api/v1/namespaces/a/%2e/secrets",
    "/api/v1/namespaces/a/configmaps/..%2f..%2fsecrets", "/api/v1/namespaces/a%2fsecrets",
    "/api/v1/namespaces/a%2Fsecrets", "/api/v1/namespaces/a/configmaps/%252e%252e/secrets",
    "/api/v1/namespaces/a/%25%32%65/secrets", "//api/v1/namespaces/a/secrets",
    "/api//v1/namespaces/a/secrets", "/api/v1/namespaces//secrets", "/api/v1/namespaces/a//secrets",
    "/api/v1/namespaces/a/secrets//", "/api/v1/namespaces/a\\secrets",
    "/api/v1/namespaces/a%5csecrets", "/api/v1/namespaces/a/secrets%00", "/api/v1/%0a/secrets",
    "/api/v1/namespaces/a/secrets/%0d%0aX:%20y", "/api/v1/namespaces/a/secrets/%zz",
    "/api/v1/namespaces/a/secrets/%", "/api/v1/namespaces/a/secrets/%e2%80%ae",
    "/api/v1/namespaces/a/secrets/%c0%ae%c0%ae", "/api/v1/namespaces/.../secrets",
    "/" + "a/" * 200, "/api/v1/namespaces/" + "a" * 9000,
]


@pytest.mark.parametrize("path", WRONG_PATHS, ids=lambda path: path[:40])
def test_a_path_that_two_could_read_in_two_ways_is_refused(stage, path):
    mark = secrets.token_hex(4)
    status, body = stage.ask("GET", f"{path}?mark={mark}")
    refused_once(stage, status, body, mark)


@pytest.mark.parametrize("path", [
    "/apis/absent.example.com/v1/things", "/api/v1/widgets", "/api/x/pods", "/apiserver",
    "/API/v1/pods", "/api/v1/Pods", "/debug/pprof/heap", "/logs/", "/healthzz",
    "/api/v1/namespaces/a/pods/p/shell", "/apis/apps/v1/namespaces/a/deployments/d/proxy",
    "/api/v1/namespaces/a/pods;x=y",
])
def test_what_is_not_known_is_denied(stage, path):
    mark = secrets.token_hex(4)
    status, body = stage.ask("GET", f"{path}?mark={mark}")
    refused_once(stage, status, body, mark)


@pytest.mark.parametrize("query", [
    "watch=0&watch=1", "dryRun=All&dryRun=", "labelSelector=a&labelSelector=b", "limit=1;watch=1",
    "fieldSelector=%00", "fieldSelector=%ff", "fieldSelector=%f", "a&" * 2000, "x=" + "y" * 60000,
], ids=lambda query: query[:30])
def test_a_query_that_two_could_read_in_two_ways_is_refused(stage, query):
    mark = secrets.token_hex(4)
    status, body = stage.ask("GET", f"{MAPS}/{mark}?{query}")
    refused_once(stage, status, body, mark)


@pytest.mark.parametrize("start", [
    "GET https://127.0.0.1/k8s/cluster{path} HTTP/1.1",
    "GET http://evil.example/k8s/cluster{path} HTTP/1.1",
    "GET https://u:p@127.0.0.1/k8s/cluster{path} HTTP/1.1",
])
def test_an_absolute_uri_reaches_the_named_target_or_none(stage, start):
    """The host of an absolute form chooses nothing: only the path does."""
    line = start.format(path=f"{MAPS}/absolute")
    data = stage.say(f"{line}\r\nHost: evil.example\r\nConnection: close\r\n"
                     f"Authorization: Bearer {stage.run['token']}\r\n\r\n".encode())
    assert status_of(data) in (200, 400, 403, 404, 421), data
    for request in stage.target.requests:
        assert request.line == f"GET {MAPS}/absolute HTTP/1.1"
        assert request.all("host") == [f"127.0.0.1:{stage.target.port}"]


@pytest.mark.parametrize("start", [
    "CONNECT 127.0.0.1:443 HTTP/1.1", "CONNECT /k8s/cluster/api HTTP/1.1", "OPTIONS * HTTP/1.1",
    "GET k8s/cluster/api HTTP/1.1", "GET /k8s/cluster/../../etc HTTP/1.1", "GET  HTTP/1.1",
    "GET /k8s/other/api/v1/pods HTTP/1.1", "GET /k8s/%63luster/api/v1/pods HTTP/1.1",
    "GET /k8s//cluster/api/v1/pods HTTP/1.1", "GET /k8s/Cluster/api/v1/pods HTTP/1.1",
    "GET /k8s/cluster%2fapi/v1/pods HTTP/1.1", "GET /x/../k8s/cluster/api/v1/pods HTTP/1.1",
    "PRI * HTTP/2.0", "GET /k8s/cluster/api/v1/pods HTTP/9.9", "GET /k8s/cluster/api/v1/pods",
])
def test_other_targets_and_forms_reach_nothing(stage, start):
    data = stage.say(f"{start}\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                     f"Authorization: Bearer {stage.run['token']}\r\n\r\n".encode())
    assert status_of(data) not in (200, 101), data
    assert stage.target.requests == []


# -- framing

def chunked(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


HIDDEN = f"GET /k8s/cluster{MAPS}/{MARK} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
FRAMINGS = {
    "length and chunks": (["Content-Length: 5", "Transfer-Encoding: chunked"],
                          b"0\r\n\r\n" + HIDDEN),
    "chunks and length": (["Transfer-Encoding: chunked", f"Content-Length: {len(HIDDEN) + 5}"],
                          b"0\r\n\r\n" + HIDDEN),
    "two lengths": (["Content-Length: 0", f"Content-Length: {len(HIDDEN)}"], HIDDEN),
    "a list of lengths": ([f"Content-Length: 0, {len(HIDDEN)}"], HIDDEN),
    "a signed length": ([f"Content-Length: +{len(HIDDEN)}"], HIDDEN),
    "a negative length": (["Content-Length: -1"], HIDDEN),
    "a hexadecimal length": (["Content-Length: 0x10"], HIDDEN),
    "a length beyond 64 bits": (["Content-Length: 18446744073709551616"], HIDDEN),
    "space before the colon": (["Transfer-Encoding : chunked"], chunked(HIDDEN)),
    "an unknown coding": (["Transfer-Encoding: xchunked"], chunked(HIDDEN)),
    "chunked twice": (["Transfer-Encoding: chunked, chunked"], chunked(chunked(HIDDEN))),
    "two codings in two lines": (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
                                 chunked(HIDDEN)),
    "a vertical tab": (["Transfer-Encoding: \x0bchunked"], chunked(HIDDEN)),
    "a folded header": (["X-One: a", " Transfer-Encoding: chunked"], chunked(HIDDEN)),
    "a chunk size beyond 64 bits": (["Transfer-Encoding: chunked"],
                                    b"fffffffffffffffff\r\n" + HIDDEN),
    "a chunk size with a sign": (["Transfer-Encoding: chunked"], b"-1\r\n" + HIDDEN),
    "a chunk that lies": (["Transfer-Encoding: chunked"], b"1\r\nab\r\n0\r\n\r\n" + HIDDEN),
    "a long chunk extension": (["Transfer-Encoding: chunked"],
                               b"1;" + b"a" * 200_000 + b"\r\nx\r\n0\r\n\r\n"),
    "a NUL in a name": (["X-\x00: a"], HIDDEN),
    "a carriage return in a value": (["X-One: a\rTransfer-Encoding: chunked"], chunked(HIDDEN)),
}


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("name", FRAMINGS)
def test_no_framing_hides_a_request(stage, method, name):
    headers, body = FRAMINGS[name]
    data = stage.say(stage.head(method, MAPS, "Content-Type: application/json", *headers) + body,
                     b"\r\n\r\n", silence_s=SILENCE_S)
    lines = stage.target.asked()
    assert not [line for line in lines if MARK in line], lines
    # At most what stood in the open was forwarded, and what was hidden had no token of its own.
    assert len(lines) <= 1, lines
    assert all(status in (200, 400, 401, 403, 413, 431, 501) for status in statuses(data)), data


def test_pipelined_requests_are_each_judged(stage):
    """They are two requests, and both are told so: nothing is hidden in their order."""
    data = stage.say(stage.head("GET", f"{MAPS}/one") + stage.head("DELETE", "/apis/x/v1/two")
                     + stage.head("GET", f"{MAPS}/three", "Connection: close"))
    assert statuses(data) == [200, 403, 200]
    assert stage.target.asked() == [f"GET {MAPS}/one HTTP/1.1", f"GET {MAPS}/three HTTP/1.1"]


def test_a_body_that_never_ends_holds_nobody_up(stage):
    with stage.connect() as stuck:
        stuck.sendall(stage.head("POST", MAPS, "Content-Length: 100",
                                 "Content-Type: application/json") + b"{")
        assert stage.ask("GET", f"{MAPS}/other")[0] == 200
        assert stage.target.asked() == [f"GET {MAPS}/other HTTP/1.1"]


def test_half_a_body_is_not_forwarded(stage):
    with stage.connect() as connection:
        connection.sendall(stage.head("POST", MAPS, "Content-Length: 100",
                                      "Content-Type: application/json") + b'{"kind":')
    assert stage.ask("GET", f"{MAPS}/after")[0] == 200
    assert stage.target.asked() == [f"GET {MAPS}/after HTTP/1.1"]


# -- headers


@pytest.mark.parametrize("headers", [
    ["Authorization: Bearer another"], ["authorization: Basic YTpi"],
])
def test_a_second_authorization_is_refused(stage, headers):
    status, body = stage.ask("GET", MAPS, *headers)
    assert status == 401 and b"corral:" in body
    assert stage.target.requests == []


@pytest.mark.parametrize("other", ["Host: evil.example", "host: 127.0.0.1", "Host:"])
def test_a_second_host_is_refused(stage, other):
    mark = secrets.token_hex(4)
    status, body = stage.ask("GET", f"{MAPS}/{mark}", other)
    refused_once(stage, status, body, mark)


@pytest.mark.parametrize("header", [
    "Connection: authorization", "Connection: close, Authorization, Host, Impersonate-User",
    "Impersonate-User: system:admin", "impersonate-group: system:masters",
    "Impersonate-Extra-x: y", "X-Remote-User: admin", "X-Remote-Group: system:masters",
    "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "Cookie: a=b", "Audit-Id: mine",
    "Proxy-Authorization: Basic YTpi", "X-Forwarded-Host: evil", "Te: trailers",
    "Keep-Alive: timeout=99", "Expect: 100-continue",
])
def test_a_client_does_not_choose_who_the_cluster_sees(stage, header):
    status, _ = stage.ask("GET", f"{MAPS}/seen", header)
    assert status in (200, 403)
    for request in stage.target.requests:
        assert request.all("authorization") == ["Bearer the-clusters-own-token"]
        assert request.all("host") == [f"127.0.0.1:{stage.target.port}"]
        sent = header.partition(":")[0].lower()
        assert sent in ("authorization", "host") or "mine" not in request.all(sent)
        for name, _ in request.headers:
            assert not name.startswith(("impersonate-", "x-remote-", "x-forwarded-", "forwarded"))
            assert name not in ("cookie", "proxy-authorization", "te", "keep-alive", "expect")
        assert stage.run["token"] not in str(request)


@pytest.mark.parametrize("connection", [
    "Connection: content-type", "Connection: Content-Type, close", "Connection: accept",
])
def test_a_header_that_decides_cannot_be_named_away(stage, connection):
    """A cluster that is told no type reads JSON: it gets JSON of what the gateway read."""
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
    stage.ask("POST", MAPS, connection, "Content-Type: application/yaml", body=body)
    for request in stage.target.requests:
        assert json.loads(request.body)["kind"] == "ConfigMap"


def test_two_content_types_are_not_both_believed(stage):
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}'
    stage.ask("POST", MAPS, "Content-Type: application/json",
              "Content-Type: application/vnd.kubernetes.protobuf", body=body)
    for request in stage.target.requests:
        assert len(request.all("content-type")) == 1


@pytest.mark.deadline(120)
def test_a_hundred_megabytes_of_headers_are_cut_off(stage):
    before = rss_mib(stage.gateway)
    sent, line = 0, b"X-Filler: " + b"a" * 65000 + b"\r\n"
    with stage.connect() as connection:
        connection.sendall(stage.head("GET", MAPS)[:-2])
        try:
            while sent < 100 * MEBIBYTE:
                connection.sendall(line)
                sent += len(line)
        except OSError:
            pass
        data = read_to_end(connection)
    assert sent < 20 * MEBIBYTE
    assert not data or status_of(data) in (400, 431)
    assert stage.target.requests == []
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


def test_too_many_headers_are_refused(stage):
    data = stage.say(stage.head("GET", MAPS, *(f"X-{n}: y" for n in range(5000))))
    assert not data or status_of(data) in (400, 431)
    assert stage.target.requests == []


# -- upgrades


@pytest.mark.parametrize("method, path, headers", [
    ("GET", MAPS, ["Connection: Upgrade", "Upgrade: websocket"]),
    ("GET", MAPS, ["Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]),
    ("GET", MAPS, ["Upgrade: websocket"]), ("GET", MAPS, ["Connection: Upgrade"]),
    ("POST", MAPS, ["Connection: Upgrade", "Upgrade: SPDY/3.1"]),
    ("GET", "/api/v1/namespaces/a/pods/p/exec?command=id&stdout=1",
     ["Connection: Upgrade", "Upgrade: TLS/1.0"]),
    ("GET", "/api/v1/namespaces/a/pods/p/exec?command=id&stdout=1",
     ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]),
    ("GET", "/api/v1/namespaces/a/pods/p/exec?command=id&stdout=1",
     ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 99",
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]),
    ("GET", "/api/v1/namespaces/a/pods/p/exec?command=id&stdout=1",
     ["Connection: Upgrade", "Upgrade: websocket, SPDY/3.1", "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]),
    ("GET", "/version", ["Connection: Upgrade", "Upgrade: websocket"]),
])
def test_an_upgrade_that_lies_opens_no_tunnel(stage, method, path, headers):
    hidden = f"GET {MAPS}/{MARK} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    data = stage.say(stage.head(method, path, *headers) + hidden, b"\r\n\r\n",
                     silence_s=SILENCE_S)
    assert 101 not in statuses(data)
    for request in stage.target.requests:
        assert MARK not in request.line
        assert not request.all("upgrade")


def test_a_cluster_that_switches_unasked_gives_no_tunnel(stage):
    stage.target.answers = lambda request, connection: (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
    status, _ = stage.ask("GET", MAPS)
    assert status in (502, 400)


def test_a_token_in_a_websocket_protocol_is_not_passed_on(stage):
    """`base64url.bearer.authorization.k8s.io.TOKEN` would be a credential at the cluster."""
    token = "base64url.bearer.authorization.k8s.io.c3RvbGVu"
    stage.say(stage.head(
        "GET", "/api/v1/namespaces/a/pods/p/exec?command=id&stdout=1", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        f"Sec-WebSocket-Protocol: v5.channel.k8s.io, {token}"), silence_s=SILENCE_S)
    for request in stage.target.requests:
        assert "bearer.authorization" not in str(request)


# -- objects


def config_map(extra=b""):
    return (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"a"}'
            + extra + b"}")


BAD_JSON = {
    "a doubled kind": b'{"kind":"ConfigMap","kind":"Secret","apiVersion":"v1"}',
    "a doubled field": config_map(b',"data":{"a":"1"},"data":{"a":"2"}'),
    "a doubled field with an escape": config_map(b',"data":{"a":"1","\\u0061":"2"}'),
    "ten thousand lists": config_map(b',"data":' + b"[" * 10_000 + b"]" * 10_000),
    "ten thousand maps": config_map(b',"data":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "a million open lists": b"[" * 1_000_000,
    "an open end": config_map()[:-1],
    "two objects": config_map() + config_map(),
    "a comment": config_map(b',/*x*/"data":{}'),
    "not UTF-8": config_map(b',"data":{"a":"\xff"}'),
    "a lone surrogate": config_map(b',"data":{"a":"\\ud800"}'),
    "a control character": config_map(b',"data":{"a":"\x01"}'),
    "NaN": config_map(b',"data":NaN'),
    "a number of a million digits": config_map(b',"n":' + b"9" * 1_000_000),
    "nothing": b" ",
    "a byte order mark": b"\xef\xbb\xbf" + config_map(),
    "protobuf": b"k8s\x00\n\x0f\n\x02v1\x12\x09ConfigMap",
}
BAD_YAML = {
    "a bomb of aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (name + 1, name + 1, b",".join([b"*%c" % name] * 9))
        for name in range(ord("a"), ord("z"))),
    "two documents": b"kind: ConfigMap\n---\nkind: Secret\n",
    "a doubled key": b"apiVersion: v1\nkind: ConfigMap\nkind: Secret\n",
    "ten thousand levels": b"a: " + b"[" * 10_000 + b"]" * 10_000,
    "a merge": b"x: &x {kind: Secret}\n<<: *x\napiVersion: v1\n",
    "an alias of itself": b"a: &a\n  b: *a\n",
}


def varint(number):
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def unknown_object(raw, kind=b"ConfigMap"):
    """`k8s.io/apimachinery/pkg/runtime.Unknown` with its magic."""
    return b"k8s\x00" + field(1, field(1, b"v1") + field(2, kind)) + field(2, raw)


def nested(levels):
    data = b""
    for _ in range(levels):
        data = field(1, data)
        if len(data) > 2 * MEBIBYTE:
            break
    return data


BAD_PROTOBUF = {
    "no magic": field(1, b"v1"),
    "a length of 2^63": b"k8s\x00\x12" + varint(1 << 63),
    "an endless varint": b"k8s\x00\x12" + b"\xff" * 1000,
    "a group": unknown_object(b"\x0b" * 100_000),
    "ten thousand levels": unknown_object(nested(10_000)),
    "another kind": unknown_object(field(1, field(1, b"x")), b"Secret"),
    "field zero": unknown_object(b"\x02\x01a"),
    "a cut field": unknown_object(b"\x0a\x7fabc"),
    "a million empty fields": unknown_object(b"\x0a\x00" * 1_000_000),
    "a gzip of zeros": unknown_object(b"")[:-2] + field(2, b"") + field(3, b"gzip"),
}


def check_object_refused(stage, content_type, body, expected=(400, 403, 413, 415)):
    name = f"bad-{secrets.token_hex(4)}"
    before = rss_mib(stage.gateway)
    status, answered = stage.ask("PUT", f"{MAPS}/{name}", f"Content-Type: {content_type}",
                                 body=body)
    refused_once(stage, status, answered, name, expected)
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


@pytest.mark.parametrize("name", BAD_JSON)
def test_an_object_in_json_that_cannot_be_read_surely_is_refused(stage, name):
    check_object_refused(stage, "application/json", BAD_JSON[name])


@pytest.mark.parametrize("name", BAD_YAML)
def test_an_object_in_yaml_that_cannot_be_read_surely_is_refused(stage, name):
    check_object_refused(stage, "application/yaml", BAD_YAML[name])


@pytest.mark.parametrize("written", [
    b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: !!bool 'true'}\n",
    b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: yes, b: 0o17, c: 1:30}\n",
    b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: 'x' # {b: c}\n",
])
def test_yaml_reaches_the_cluster_as_it_was_read(stage, written):
    """Readers of YAML differ: the cluster is given JSON, which they all read in one way."""
    status, _ = stage.ask("POST", MAPS, "Content-Type: application/yaml", body=written)
    if status != 200:
        assert stage.target.requests == []
        return
    sent = json.loads(stage.target.requests[0].body)
    assert sent["kind"] == "ConfigMap" and isinstance(sent["data"], dict)


@pytest.mark.parametrize("name", BAD_PROTOBUF)
def test_an_object_in_protobuf_that_cannot_be_read_surely_is_refused(stage, name):
    check_object_refused(stage, "application/vnd.kubernetes.protobuf", BAD_PROTOBUF[name])


@pytest.mark.parametrize("content_type", [
    "text/plain", "application/xml", "application/cbor", "application/json;as=Table",
    "application/json, application/yaml", "application/json\x0b", "",
    "application/vnd.kubernetes.protobuf;stream=watch",
])
def test_an_object_in_an_unknown_form_is_refused(stage, content_type):
    pod = (b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"hostNetwork":true}}')
    name = f"bad-{secrets.token_hex(4)}"
    status, _ = stage.ask("PUT", f"{MAPS}/{name}", f"Content-Type: {content_type}", body=pod)
    assert status in (400, 403, 415)
    assert stage.target.requests == []


def test_a_packed_object_is_not_believed(stage):
    name = f"bad-{secrets.token_hex(4)}"
    status, body = stage.ask("PUT", f"{MAPS}/{name}", "Content-Type: application/json",
                             "Content-Encoding: gzip", body=gzip.compress(config_map()))
    refused_once(stage, status, body, name, (400, 403, 415))


@pytest.mark.deadline(90)
def test_a_large_object_is_refused_without_being_kept(stage):
    before = rss_mib(stage.gateway)
    name = f"large-{secrets.token_hex(4)}"
    head = stage.head("PUT", f"{MAPS}/{name}", "Content-Type: application/json",
                      "Transfer-Encoding: chunked")
    piece = b"%x\r\n" % MEBIBYTE + b" " * MEBIBYTE + b"\r\n"
    data = stage.say(head, *[piece] * 200)
    assert not data or status_of(data) == 413, data[:300]
    assert stage.target.requests == []
    wait_until(lambda: stage.decided(name), "the refusal is recorded")
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


# -- clusters that lie

LIES = {
    "no answer": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}xyz",
    "a cut head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a name with a space": b"HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n",
    "a head of ten megabytes": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10 * MEBIBYTE + b"\r\n\r\n",
    "a hundred thousand headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_cluster_is_told_as_unavailable(stage, name):
    def lie(request, connection):
        connection.sendall(LIES[name])
        connection.close()
    stage.target.answers = lie
    status, body = stage.ask("GET", f"{MAPS}/lie")
    assert status == 502 and b"corral:" in body, body[:300]
    assert str(stage.target.port).encode() not in body


@pytest.mark.parametrize("told", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
], ids=["a short body", "a broken chunk", "a chunk beyond 64 bits"])
def test_a_cut_answer_is_not_made_whole(stage, told):
    def lie(request, connection):
        connection.sendall(told)
        connection.close()
    stage.target.answers = lie
    data = stage.say(stage.head("GET", f"{MAPS}/cut", "Connection: close"))
    assert not data or status_of(data) in (200, 502)
    # A whole answer would end with its last chunk, or have its length.
    assert not data.endswith(b"0\r\n\r\n")


def test_interim_answers_are_bounded(stage):
    def flood(request, connection):
        try:
            for _ in range(200):
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 5000)
        except OSError:
            return
        connection.sendall(answer(200))
    stage.target.answers = flood
    before = rss_mib(stage.gateway)
    status, _ = stage.ask("GET", f"{MAPS}/hints")
    assert status in (200, 502)
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


def test_a_watch_that_never_sends_ends_with_its_run(stage):
    def silent(request, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")
        connection.recv(1)
    stage.target.answers = silent
    run = stage.gateway.start_run("watcher", stage.ada)
    with stage.connect() as connection:
        connection.sendall(stage.head("GET", f"{MAPS}?watch=1", token=run["token"]))
        assert status_of(connection.recv(4096)) == 200
        stage.gateway.run("runs", "kill", run["run_id"])
        started = time.monotonic()
        rest = read_to_end(connection)
        assert time.monotonic() - started < 5
        assert not rest.endswith(b"0\r\n\r\n")


def test_a_client_that_reads_nothing_slows_only_itself(stage):
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    def much(request, connection):
        if "much" not in request.path:
            return answer(200)
        connection.settimeout(2)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(2000):
                connection.sendall(piece)
        except OSError:
            return None
    stage.target.answers = much
    before = rss_mib(stage.gateway)
    with stage.connect() as stuck:
        stuck.sendall(stage.head("GET", f"{MAPS}/much?watch=1"))
        for _ in range(5):
            assert stage.ask("GET", f"{MAPS}/quick")[0] == 200
        time.sleep(2.5)
        assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


# -- frames

EXEC = "/api/v1/namespaces/a/pods/p/exec?command=cat&stdin=1&stdout=1&stderr=1"

BAD_FRAMES = {
    "of 2^63 bytes": websocket_frame(BINARY, b"\x00smuggled", length=1 << 63),
    "of 2^64 - 1 bytes": websocket_frame(BINARY, b"\x00smuggled", length=(1 << 64) - 1),
    "of a terabyte": websocket_frame(BINARY, b"\x00smuggled", length=1 << 40),
    "without a mask": websocket_frame(BINARY, b"\x00smuggled", is_masked=False),
    "with a reserved bit": websocket_frame(BINARY, b"\x00smuggled", first=0xC0),
    "of a reserved kind": websocket_frame(5, b"\x00smuggled"),
    "of a reserved control": websocket_frame(11, b"smuggled"),
    "of a long control": websocket_frame(PING, b"smuggled" * 20),
    "of a control in pieces": websocket_frame(PING, b"smuggled", first=0),
    "that goes on with nothing": websocket_frame(0, b"\x00smuggled"),
    "that starts twice": websocket_frame(BINARY, b"\x00a", first=0)
    + websocket_frame(BINARY, b"\x00smuggled"),
    "with a close of one byte": websocket_frame(CLOSE, b"s"),
    "with a length written too long": b"\x82\xfe\x00\x09\x01\x02\x03\x04" + b"\x01" * 9,
    "for standard output": websocket_frame(BINARY, b"\x01smuggled"),
    "for the error channel": websocket_frame(BINARY, b"\x03smuggled"),
    "for a channel that is none": websocket_frame(BINARY, b"\x7fsmuggled"),
    "of random bytes": bytes(range(128, 256)) * 8,
}


@pytest.fixture
def stream(stage):
    """An exec that runs: a client's connection after its 101."""
    def take(request, connection):
        if "exec" in request.path:
            return stage.target.take_stream(request, connection)
        return answer(200)
    stage.target.answers = take
    del stage.target.after_upgrade[:]
    with stage.open_stream(EXEC) as connection:
        yield connection


def test_an_honest_stream_is_carried(stage, stream):
    stream.sendall(websocket_frame(BINARY, STDIN + b"honest"))
    wait_until(lambda: b"honest" in unmasked(bytes(stage.target.after_upgrade)),
               "the cluster has what was typed")


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_frame_that_lies_ends_its_stream(stage, stream, name):
    before = rss_mib(stage.gateway)
    completed = len(stage.events("--event", "statement.completed"))
    stream.sendall(websocket_frame(BINARY, STDIN + b"honest") + BAD_FRAMES[name])
    read_to_end(stream)
    assert MARK.encode() not in unmasked(bytes(stage.target.after_upgrade))
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX
    wait_until(lambda: len(stage.events("--event", "statement.completed")) == completed + 1,
               "the stream's end is recorded, once")


@pytest.mark.parametrize("name", ["of 2^63 bytes", "with a reserved bit", "of a reserved kind",
                                  "of a control in pieces", "that goes on with nothing"])
def test_a_cluster_whose_frames_lie_ends_its_stream(stage, name):
    lie = {"of 2^63 bytes": websocket_frame(BINARY, b"\x01x", False, 1 << 63),
           "with a reserved bit": websocket_frame(BINARY, b"\x01x", False, first=0xC0),
           "of a reserved kind": websocket_frame(5, b"\x01x", False),
           "of a control in pieces": websocket_frame(PING, b"x", False, first=0),
           "that goes on with nothing": websocket_frame(0, b"\x01x", False)}[name]

    def take(request, connection):
        if "exec" not in request.path:
            return answer(200)
        stage.target.take_stream(request, connection, then=lie)
    stage.target.answers = take
    before = rss_mib(stage.gateway)
    data = stage.say(stage.head("GET", EXEC, *WEBSOCKET))
    assert statuses(data) == [101]
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


@pytest.mark.parametrize("told", [
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: wrong\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
], ids=["a wrong proof", "another protocol", "no word on what", "no switch"])
def test_a_cluster_that_does_not_switch_properly_gives_no_stream(stage, told):
    stage.target.answers = lambda request, connection: (
        told if "exec" in request.path else answer(200))
    data = stage.say(stage.head("GET", EXEC, *WEBSOCKET), silence_s=SILENCE_S * 3)
    # A client that was let in by then reads the reason on the stream.
    assert b"corral:" in data


@pytest.mark.parametrize("protocols", [
    "Sec-WebSocket-Protocol: v9.channel.k8s.io", "Sec-WebSocket-Protocol: chat",
    "X-None: x", "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nUpgrade: h2c",
])
def test_a_stream_that_cannot_be_read_is_not_carried(stage, protocols):
    headers = [*WEBSOCKET[:4], *protocols.split("\r\n")]
    data = stage.say(stage.head("GET", EXEC, *headers), silence_s=SILENCE_S)
    assert 101 not in statuses(data)
    assert b"corral:" in data
    assert stage.target.requests == []


# -- HTTP/2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, CONTINUATION, RST_STREAM = 4, 1, 9, 3


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream) + payload


def literal(name, value):
    """HPACK without indexing; lengths below 127."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request_headers(stage, path, *more):
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"127.0.0.1"),
              (b":path", f"/k8s/cluster{path}".encode()),
              (b"authorization", f"Bearer {stage.run['token']}".encode()), *more]
    return b"".join(literal(name, value) for name, value in fields)


def say_http2(stage, *frames):
    with stage.connect(alpn=("h2",)) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.settimeout(SILENCE_S)
        try:
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
            for piece in frames:
                connection.sendall(piece)
        except OSError:
            pass
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
        except OSError:
            pass
        return received


def test_http2_serves_an_honest_client(stage):
    say_http2(stage, frame(HEADERS, 5, 1, request_headers(stage, f"{MAPS}/two")))
    assert stage.target.asked() == [f"GET {MAPS}/two HTTP/1.1"]


def test_headers_that_never_end_are_cut_off(stage):
    before = rss_mib(stage.gateway)
    start = frame(HEADERS, 0, 1, request_headers(stage, MAPS))
    more = frame(CONTINUATION, 0, 1, literal(b"x-filler", b"y" * 100) * 100)
    say_http2(stage, start, *[more] * 5000)
    assert stage.target.requests == []
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


def test_streams_opened_and_reset_are_bounded(stage):
    before = rss_mib(stage.gateway)
    head = request_headers(stage, f"{MAPS}/reset")
    opened = (frame(HEADERS, 5, n, head) + frame(RST_STREAM, 0, n, b"\0\0\0\x08")
              for n in range(1, 20_001, 2))
    say_http2(stage, b"".join(opened))
    assert len(stage.target.requests) < 2000
    assert rss_mib(stage.gateway) - before < MEMORY_GROWTH_MIB_MAX


@pytest.mark.parametrize("fields", [
    [(b"connection", b"close")], [(b"transfer-encoding", b"chunked")], [(b":path", b"/other")],
    [(b"X-Upper", b"y")], [(b"x-line", b"a\r\nb: c")], [(b"content-length", b"7")],
    [(b"te", b"gzip")], [(b"host", b"evil.example")],
], ids=lambda fields: fields[0][0].decode())
def test_http2_headers_that_http1_reads_otherwise_stay_here(stage, fields):
    say_http2(stage, frame(HEADERS, 5, 1, request_headers(stage, f"{MAPS}/h", *fields)))
    for request in stage.target.requests:
        assert request.line == f"GET {MAPS}/h HTTP/1.1"
        assert request.all("host") == [f"127.0.0.1:{stage.target.port}"]
        assert not request.all("b") and not request.all("te") and not request.all("x-line")
        assert not request.all("transfer-encoding") and not request.all("content-length")


# -- random


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_reach_nothing(stage, seed):
    generator = random.Random(seed)
    head = stage.head("POST", MAPS, "Content-Length: 10")
    for _ in range(20):
        data = bytearray(head + os.urandom(10))
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        with stage.connect() as connection:
            connection.sendall(bytes(data))
            connection.settimeout(0.2)
            try:
                connection.recv(4096)
            except OSError:
                pass
    assert all(request.line.startswith("POST ") for request in stage.target.requests)
