"""Somebody in the middle of a PostgreSQL connection who ends TLS on both sides."""

import contextlib
import select
import socket
import ssl
import threading

from .wire import SSL_REQUEST

DEADLINE_S = 20


class TlsProxy:
    """Serves with its own certificate, and keeps what clients send in clear inside of TLS."""

    def __init__(self, target, certificate, key):
        self.target = target
        self.seen = bytearray()
        self._inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inside.load_cert_chain(certificate, key)
        self._outside = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._outside.check_hostname = False
        self._outside.verify_mode = ssl.CERT_NONE
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
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_ends:
            open_ends.enter_context(client)
            client.settimeout(DEADLINE_S)
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                return
            client.sendall(b"S")
            client = open_ends.enter_context(self._inside.wrap_socket(client, server_side=True))
            target = open_ends.enter_context(socket.create_connection(self.target, DEADLINE_S))
            target.sendall(SSL_REQUEST)
            assert target.recv(1) == b"S"
            target = open_ends.enter_context(self._outside.wrap_socket(target))
            self._copy(client, target)

    def _copy(self, client, target):
        """Both ways in one thread: OpenSSL forbids two of them in one connection at once."""
        ready = [client, target]
        while ready and all(self._pass_on(source, client, target) for source in ready):
            ready, _, _ = select.select([client, target], [], [], DEADLINE_S)

    def _pass_on(self, source, client, target):
        """All that `source` has now; False at its end."""
        sink = target if source is client else client
        while True:
            source.setblocking(False)
            try:
                data = source.recv(65536)
            except ssl.SSLWantReadError:
                return True
            finally:
                source.settimeout(DEADLINE_S)
            if not data:
                return False
            if source is client:
                self.seen += data
            sink.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
