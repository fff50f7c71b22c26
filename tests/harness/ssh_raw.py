"""An SSH client that is logged in and then sends what it likes, on paramiko's transport."""

import queue
import socket
import threading

import paramiko
from paramiko import common

WINDOW = 2 * 1024 * 1024
PACKET = 32 * 1024


class Tap:
    """A socket whose owner can stop reading."""

    def __init__(self, address):
        self.socket = socket.create_connection(address)
        self.may_read = threading.Event()
        self.may_read.set()

    def recv(self, count):
        if not self.may_read.wait(0.1):
            raise socket.timeout
        return self.socket.recv(count)

    def __getattr__(self, name):
        return getattr(self.socket, name)


class RawClient:
    """`with RawClient(hosts, token) as raw:`. Channels are numbers; their answers are queued."""

    def __init__(self, hosts, token, target="web-1"):
        self.tap = Tap(hosts.address)
        self.opened, self.refused, self.data = queue.Queue(), queue.Queue(), queue.Queue()
        self.transport = paramiko.Transport(self.tap)
        # What comes for channels of its own making does not end the connection.
        self.transport._handler_table = self.transport._handler_table | {
            common.MSG_CHANNEL_OPEN_SUCCESS: self._opened,
            common.MSG_CHANNEL_OPEN_FAILURE: self._refused,
            common.MSG_CHANNEL_DATA: self._data,
        }
        self.next = 0
        self.transport.connect(username=f"{hosts.user}@{target}", password=token)

    def _opened(self, message):
        own, other = message.get_int(), message.get_int()
        self.opened.put((own, other, message.get_int()))

    def _refused(self, message):
        own, _code, text = message.get_int(), message.get_int(), message.get_text()
        self.refused.put((own, text))

    def _data(self, message):
        self.data.put((message.get_int(), message.get_binary()))

    def send(self, kind, *parts):
        message = paramiko.Message()
        message.add_byte(kind)
        for part in parts:
            if isinstance(part, bool):
                message.add_boolean(part)
            elif isinstance(part, int):
                message.add_int(part)
            else:
                message.add_string(part)
        self.transport._send_user_message(message)

    def ask_to_open(self, window=WINDOW):
        self.transport.channels_seen[self.next] = True
        self.send(common.cMSG_CHANNEL_OPEN, "session", self.next, window, PACKET)
        self.next += 1

    def open(self, window=WINDOW):
        """The gateway's number of a channel, and the window that it gives."""
        self.ask_to_open(window)
        _, other, given = self.opened.get(timeout=20)
        return other, given

    def exec(self, channel, command):
        self.send(common.cMSG_CHANNEL_REQUEST, channel, "exec", False, command)

    def close_channel(self, channel):
        self.send(common.cMSG_CHANNEL_CLOSE, channel)

    @property
    def is_alive(self):
        return self.transport.is_active()

    def close(self):
        self.tap.may_read.set()
        self.transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
