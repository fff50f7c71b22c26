"""A gateway before a target of Kubernetes that only records, spoken to on bare sockets."""

import pathlib
import secrets
import socket
import ssl
import struct

from .certificates import Authority
from .gateway import Gateway
from .recording_https import RecordingServer

READ_DEADLINE_S = 20
MEBIBYTE = 1 << 20
MEMORY_GROWTH_MIB_MAX = 48

MANIFEST = """
kind: Target
name: cluster
protocol: kubernetes
address: 127.0.0.1:{port}
tls: {{mode: verify-full, ca_file: {ca_file}}}
credential: {{token: {{value: the-clusters-own-token}}}}
---
kind: User
name: ada@example.com
groups: [agents]
password: {{env: PASSWORD}}
---
kind: Policy
name: agents
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write",
                     Corral::Action::"define", Corral::Action::"administer",
                     Corral::Action::"shell", Corral::Action::"unmask"],
          resource in Corral::Target::"cluster");
"""


class Stage:
    """A gateway with one cluster that only records."""

    def __init__(self, folder):
        authority = Authority(folder, "ca")
        self.target = RecordingServer(*authority.issue("cluster", "IP:127.0.0.1"))
        self.gateway = Gateway()
        self.password = secrets.token_urlsafe(12)
        self.manifest = MANIFEST.format(port=self.target.port, ca_file=authority.file)
        self.apply()
        self.ada = self.gateway.login("ada@example.com", self.password)
        self.run = self.gateway.start_run("bad-input", self.ada, "--ttl", "1h")

    def apply(self, **keys):
        """The whole configuration, with more keys of the target."""
        more = "".join(f"{key}: {value}\n" for key, value in keys.items())
        manifest = self.manifest.replace("---\n", f"{more}---\n", 1)
        self.gateway.apply(manifest, env={"PASSWORD": self.password})

    def close(self):
        self.gateway.close()
        self.target.close()

    def connect(self, alpn=("http/1.1",)):
        trust = ssl.create_default_context(cafile=self.gateway.ready["ca_file"])
        trust.set_alpn_protocols(list(alpn))
        plain = socket.create_connection(self.gateway.address("https"), READ_DEADLINE_S)
        return trust.wrap_socket(plain, server_hostname="127.0.0.1")

    def open_stream(self, path):
        """A client's connection after its 101."""
        connection = self.connect()
        connection.sendall(self.head("GET", path, *WEBSOCKET))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = connection.recv(1)
            assert piece, head
            head += piece
        assert status_of(head) == 101, head
        return connection

    def head(self, method, path, *headers, token=None, prefix="/k8s/cluster", version="1.1"):
        lines = [f"{method} {prefix}{path} HTTP/{version}", "Host: 127.0.0.1",
                 f"Authorization: Bearer {token or self.run['token']}", *headers]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def say(self, *data, silence_s=None):
        """Sends bytes and gives all that comes back until the gateway closes, or is silent."""
        with self.connect() as connection:
            if silence_s:
                connection.settimeout(silence_s)
            for piece in data:
                try:
                    connection.sendall(piece)
                except OSError:
                    break
            return read_to_end(connection, is_silence_fine=silence_s is not None)

    def ask(self, method, path, *headers, body=b"", **more):
        """One well-framed request on a connection of its own: `(status, body)`."""
        framing = [f"Content-Length: {len(body)}"] if body else []
        data = self.say(self.head(method, path, *headers, *framing, "Connection: close", **more)
                        + body)
        head, _, answered = data.partition(b"\r\n\r\n")
        return status_of(head), answered

    def events(self, *filters):
        return self.gateway.events("--run", self.run["run_id"], *filters)

    def decided(self, text):
        return [event for event in self.events("--event", "statement.decided")
                if text in event["statement"]]


def read_to_end(connection, is_silence_fine=False):
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLError):
        pass
    except TimeoutError as error:
        if is_silence_fine:
            return received
        raise AssertionError(f"the gateway neither closed nor went on after {received!r}") from error
    return received


def status_of(head):
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and head.startswith(b"HTTP/") else None


def statuses(data):
    return [int(piece[:3]) for piece in data.split(b"HTTP/1.1 ")[1:]]


def rss_mib(gateway):
    for line in pathlib.Path(f"/proc/{gateway.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the gateway is gone")


# -- frames

WEBSOCKET = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
             "Sec-WebSocket-Protocol: v5.channel.k8s.io"]


def websocket_frame(opcode, payload, is_masked=True, length=None, first=0x80):
    """`length` lies about the payload's."""
    size = len(payload) if length is None else length
    mask = 0x80 if is_masked else 0
    head = bytes([first | opcode])
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", size)
    if not is_masked:
        return head + payload
    key = b"\x01\x02\x03\x04"
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


BINARY, TEXT, CLOSE, PING = 2, 1, 8, 9
STDIN = b"\x00"


def unmasked(data):
    """The payloads of a gateway's own frames, one after another."""
    text, at = b"", 0
    while at + 2 <= len(data):
        size, start = data[at + 1] & 127, at + 2
        if size == 126:
            size, start = struct.unpack(">H", data[start:start + 2])[0], start + 2
        elif size == 127:
            size, start = struct.unpack(">Q", data[start:start + 8])[0], start + 8
        key = b"\0\0\0\0"
        if data[at + 1] & 128:
            key, start = data[start:start + 4], start + 4
        text += bytes(byte ^ key[n % 4] for n, byte in enumerate(data[start:start + size]))
        at = start + size
    return text
