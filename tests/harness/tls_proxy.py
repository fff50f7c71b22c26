"""Somebody in the middle of a PostgreSQL connection who ends TLS on both sides."""

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
        try:
            client.settimeout(DEADLINE_S)
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                client.close()
                return
            client.sendall(b"S")
            client = self._inside.wrap_socket(client, server_side=True)
            target = socket.create_connection(self.target, DEADLINE_S)
            target.sendall(SSL_REQUEST)
            assert target.recv(1) == b"S"
            target = self._outside.wrap_socket(target)
        except OSError:
            client.close()
            return
        back = threading.Thread(target=self._copy, args=(target, client, None), daemon=True)
        back.start()
        self._copy(client, target, self.seen)

    @staticmethod
    def _copy(source, sink, seen):
        try:
            while data := source.recv(65536):
                if seen is not None:
                    seen += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
