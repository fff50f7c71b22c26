"""An HTTPS server that keeps every request as it came and answers what a test tells it to.

It speaks HTTP/1.1 by hand, so that a test sees exactly what a gateway sent, and may answer what no
library would.
"""

import base64
import hashlib
import re
import socket
import ssl
import threading

DEADLINE_S = 30
WEBSOCKET_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Request:
    """One request: `line`, `headers` as pairs in lower case, `body` and its size."""

    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.method, self.path = lines[0].split(" ")[:2]
        self.headers = [(name.strip().lower(), value.strip())
                        for name, _, value in (line.partition(":") for line in lines[1:])]
        self.body = body
        self.body_bytes = len(body)

    def all(self, name):
        return [value for found, value in self.headers if found == name]

    def __repr__(self):
        return f"<{self.line} {self.headers}>"


def answer(status, body=b"{}", *headers, content_type="application/json"):
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status} Told", f"Content-Type: {content_type}",
             f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class RecordingServer:
    """`answers(request, connection)` gives bytes to send, or None when it has sent all itself."""

    def __init__(self, certificate, key, answers=None):
        self.requests = []
        self.after_upgrade = bytearray()
        # Whether bodies are kept, or counted only.
        self.keeps_bodies = True
        self.answers = answers or (lambda request, connection: answer(200))
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._trust.load_cert_chain(certificate, key)
        self._trust.set_alpn_protocols(["http/1.1"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            client.settimeout(DEADLINE_S)
            client = self._trust.wrap_socket(client, server_side=True)
            self._open.add(client)
            with client, client.makefile("rb") as stream:
                while request := read_request(stream, self.keeps_bodies):
                    self.requests.append(request)
                    told = self.answers(request, client)
                    if told is None:
                        return
                    client.sendall(told)
        except (OSError, ValueError):
            pass
        finally:
            self._open.discard(client)

    def asked(self):
        """The lines of all requests so far."""
        return [request.line for request in self.requests]

    def close(self):
        self._listener.close()
        for client in list(self._open):
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- WebSockets

    def take_stream(self, request, connection, then=b""):
        """Answers an upgrade, sends `then`, and keeps what comes in `after_upgrade`."""
        offered = ", ".join(request.all("sec-websocket-protocol")).split(", ")
        key = request.all("sec-websocket-key")[0].encode()
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_KEY_SUFFIX).digest()).decode()
        connection.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n"
            f"Sec-WebSocket-Protocol: {offered[0]}\r\n\r\n".encode() + then)
        while data := connection.recv(65536):
            self.after_upgrade += data


def read_request(stream, keeps_bodies=True):
    """The next request, or None at the end. Malformed ones are errors: a gateway sends none."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline(1 << 20)
        if not line:
            if head:
                raise ValueError(f"the connection ended in a head: {head!r}")
            return None
        head += line
    request = Request(head[:-4], b"")
    coding, lengths = request.all("transfer-encoding"), request.all("content-length")
    if coding and lengths:
        raise ValueError(f"two framings: {request}")
    if coding:
        pieces = read_chunks(stream)
    elif lengths:
        pieces = [stream.read(int(lengths[0]))]
    else:
        pieces = []
    for piece in pieces:
        request.body_bytes += len(piece)
        if keeps_bodies:
            request.body += piece
    return request


def read_chunks(stream):
    while True:
        size = int(re.match(rb"[0-9a-fA-F]+", stream.readline())[0], 16)
        yield stream.read(size)
        stream.readline()
        if size == 0:
            return
