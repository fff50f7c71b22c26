"""Targets that break the protocol during login: 08006, a fixed sentence, and no harm to others."""

import secrets
import socket
import struct
import threading
import time

import pytest

from harness.wire import SSL_REQUEST, Refused, Wire, message, text

PASSWORD = "never-given-away-" + secrets.token_hex(8)
TARGET = """
kind: Target
name: {name}
protocol: postgres
address: 127.0.0.1:{port}
database: whatever
credential: {{username: svc, password: {{env: RUDE_PASSWORD}}}}
tls: {{mode: {tls}}}
---
kind: Policy
name: {name}
cedar: |
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"{name}");
"""
BROKE = "it broke the protocol during login"
TOO_LONG = "it sent a login message that is too long"
UNSUPPORTED = "it asks for a way to log in that is not supported"
ITS_WORDS = "secret-host-of-the-target"


def authentication(code, body=b""):
    return message(b"R", struct.pack(">i", code) + body)


class RudeTarget:
    """Answers the first message of each connection with these bytes, then `then`."""

    def __init__(self, answer, then="listen"):
        self.answer = answer
        self.then = then
        self.heard = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            try:
                self.heard += client.recv(65536)
                client.sendall(self.answer)
                while self.then == "listen" and (data := client.recv(65536)):
                    self.heard += data
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


def refusal(shop, target, tls="disable"):
    """What a client of this target is told."""
    name = f"rude-{secrets.token_hex(4)}"
    manifest = TARGET.format(name=name, port=target.port, tls=tls)
    shop.gateway.apply(manifest, env={"RUDE_PASSWORD": PASSWORD})
    with Wire(shop.gateway.address(), timeout=40) as connection:
        with pytest.raises(Refused) as caught:
            connection.login(shop.run()["token"], name)
        assert connection.read() is None
    assert caught.value.state == "08006"
    assert ITS_WORDS not in caught.value.text
    assert ITS_WORDS not in shop.gateway.log()
    assert PASSWORD not in shop.gateway.log()
    return caught.value.text


@pytest.mark.parametrize("answer, sentence", [
    (b"R" + struct.pack(">i", 2**30), TOO_LONG),
    (b"R" + struct.pack(">i", 3), BROKE),
    (b"R" + struct.pack(">i", -1), BROKE),
    (authentication(0)[:-1] + b"\xff", UNSUPPORTED),
    (authentication(7), UNSUPPORTED),
    (authentication(10, text("GS2-KRB5") + b"\0"), UNSUPPORTED),
    (authentication(10, text("SCRAM-SHA-256-PLUS") + b"\0"), UNSUPPORTED),
    (authentication(12, b"v=AAAA"), UNSUPPORTED),
    (authentication(10, text("SCRAM-SHA-256") + b"\0") + authentication(0), UNSUPPORTED),
    (authentication(10, text("SCRAM-SHA-256") + b"\0")
     + authentication(11, b"r=another,s=QUJD,i=4096"), "its SCRAM exchange failed"),
    (authentication(0) + message(b"T", b"\0\0"), BROKE),
    (message(b"Z", b"I"), BROKE),
    (message(b"E", b"SFATAL\0C28P01\0M" + text(ITS_WORDS) + b"\0"), "it refused the gateway's"),
    (message(b"E", ITS_WORDS.encode()), "it refused the gateway's"),
    (message(b"E", b"SFATAL\0C53300\0M" + text(ITS_WORDS) + b"\0"), "too many connections"),
], ids=["a gibibyte", "short length", "negative length", "unknown code", "gss", "no mechanism",
        "plus without tls", "final first", "ok before the proof", "another nonce",
        "rows in login", "ready at once", "refuses", "error of rubbish", "full"])
def test_a_target_that_breaks_the_login(shop, answer, sentence):
    with RudeTarget(answer) as target:
        assert sentence in refusal(shop, target)
        assert PASSWORD.encode() not in target.heard


@pytest.mark.parametrize("answer, sentence", [
    (b"N", "it has no TLS"),
    (b"E", "it is no PostgreSQL"),
    (b"H", "it is no PostgreSQL"),
    (b"S" + authentication(3), "it sent bytes in clear before TLS started"),
], ids=["none", "error", "http", "stuffed"])
@pytest.mark.parametrize("tls", ["require", "verify-full"])
def test_a_target_that_breaks_the_start_of_tls(shop, answer, sentence, tls):
    with RudeTarget(answer) as target:
        assert sentence in refusal(shop, target, tls)
        assert bytes(target.heard) == SSL_REQUEST


def test_a_target_that_hangs_up(shop):
    for answer in (b"", authentication(3)[:5]):
        with RudeTarget(answer, then="hang up") as target:
            assert "target" in refusal(shop, target)


def test_a_target_that_never_answers_meets_the_login_deadline(shop):
    with RudeTarget(b"") as target:
        started = time.monotonic()
        refusal(shop, target)
        assert time.monotonic() - started < 30
