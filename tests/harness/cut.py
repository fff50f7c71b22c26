"""A network between two programs that can be cut: nothing passes any more, and nobody is told."""

import contextlib
import socket
import threading

BYTES = 65536


class Network:
    """Forwards to one address until `cut()`: from then on bytes lie where they are, and both sides
    keep their open sockets, as when a cable is pulled."""

    def __init__(self, address):
        self.target = address
        self.is_cut = threading.Event()
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(near)
            if self.is_cut.is_set():
                continue
            far = socket.create_connection(self.target)
            self.sockets.append(far)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(BYTES):
                if self.is_cut.is_set():
                    return
                sink.sendall(data)
            if not self.is_cut.is_set():
                sink.shutdown(socket.SHUT_WR)

    def cut(self):
        self.is_cut.set()

    def close(self):
        for each in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
