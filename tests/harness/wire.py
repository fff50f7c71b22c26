"""PostgreSQL's messages by hand, for what no well-behaved client would send."""

import socket
import struct

PROTOCOL_3_0 = 196608
SSL_REQUEST = struct.pack(">ii", 8, 80877103)
GSSENC_REQUEST = struct.pack(">ii", 8, 80877104)
CANCEL_CODE = 80877102


def message(kind, body=b""):
    return kind + struct.pack(">i", len(body) + 4) + body


def text(value):
    return value.encode() + b"\0"


def startup(options, version=PROTOCOL_3_0):
    words = b"".join(text(key) + text(value) for key, value in options.items()) + b"\0"
    return struct.pack(">ii", len(words) + 8, version) + words


def parse(name, sql, types=()):
    numbers = struct.pack(">h", len(types)) + b"".join(struct.pack(">I", one) for one in types)
    return message(b"P", text(name) + text(sql) + numbers)


def bind(portal, statement, values=()):
    given = b"".join(struct.pack(">i", len(value)) + value.encode() for value in values)
    counts = struct.pack(">hh", 0, len(values))
    return message(b"B", text(portal) + text(statement) + counts + given + struct.pack(">h", 0))


def execute(portal, rows=0):
    return message(b"E", text(portal) + struct.pack(">i", rows))


def describe(kind, name):
    return message(b"D", kind.encode() + text(name))


def close(kind, name):
    return message(b"C", kind.encode() + text(name))


def query(sql):
    data = sql if isinstance(sql, bytes) else sql.encode()
    return message(b"Q", data + b"\0")


class Refused(Exception):
    """The other side answered with an ErrorResponse."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('C')}: {fields.get('M')}")
        self.state = fields.get("C")
        self.text = fields.get("M")


class Wire:
    """A raw connection that speaks only when told to."""

    def __init__(self, address, timeout=20, source=None):
        source_address = (source, 0) if source else None
        self.socket = socket.create_connection(address, timeout, source_address)
        self.stream = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def read(self):
        """The next message as (kind, body); None when the connection has ended."""
        kind = self.stream.read(1)
        if not kind:
            return None
        header = self.stream.read(4)
        assert len(header) == 4, "the connection ended within a message"
        body = self.stream.read(struct.unpack(">i", header)[0] - 4)
        return kind, body

    def read_until(self, *kinds):
        """Messages up to and with the first of these kinds."""
        seen = []
        while True:
            got = self.read()
            assert got, f"the connection ended; before it: {seen}"
            seen.append(got)
            if got[0] in kinds:
                return seen

    def is_closed(self):
        """Reads to the end: true when the other side closes, an error when it does not."""
        try:
            while self.socket.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass
        return True

    def login(self, token, target, user="agent", version=PROTOCOL_3_0, **options):
        """Up to ReadyForQuery; raises Refused."""
        self.send(startup({"user": user, "database": target} | options, version))
        seen = []
        while True:
            got = self.read()
            assert got, "the connection ended without a word"
            kind, body = got
            seen.append(got)
            if kind == b"R" and body == struct.pack(">i", 3):
                self.send(message(b"p", text(token)))
            elif kind == b"E":
                raise Refused(error_fields(body))
            elif kind == b"Z":
                return seen

    def query(self, sql):
        """All messages of a simple query's answer."""
        self.send(query(sql))
        return self.read_until(b"Z")

    def close(self):
        self.stream.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def error_fields(body):
    return {field[:1].decode(): field[1:].decode(errors="replace")
            for field in body.split(b"\0") if field}


def errors(messages):
    return [error_fields(body) for kind, body in messages if kind == b"E"]


def states(messages):
    return [fields["C"] for fields in errors(messages)]
