#!/usr/bin/env python3
"""Measures a tunnel to a relay beside `ssh -L` through an OpenSSH server, interleaved.

CPU is user plus system time of both ends of the tunnel: for ssh the client and the sshd process
of its connection, for the relay the gateway's end (`forward near`, a bare copy into a relayed
stream) and the relay. The client that reads or writes and the target are the same on both ways
and are not counted. `make bench-relay` builds and runs it.
"""

import argparse
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
FORWARD = TARGET / "examples" / "forward"
sys.path.insert(0, str(ROOT / "tests"))

from harness.postgres import free_port  # noqa: E402
from harness.sshd import RealSshd  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

CHUNK = bytes(256 * 1024)
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def descendants(pid):
    found = []
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


class Target:
    """Sends zeros to whoever says b'd' and a number of bytes; swallows after b'u'."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    @staticmethod
    def _serve(client):
        with client:
            head = client.recv(9, socket.MSG_WAITALL)
            if len(head) < 9:
                return
            left = int.from_bytes(head[1:], "big")
            if head[:1] == b"d":
                move_out(client, left)
            else:
                move_in(client, left)
                client.sendall(b"!")


def move_out(sock, left):
    while left:
        part = min(left, len(CHUNK))
        sock.sendall(memoryview(CHUNK)[:part])
        left -= part


def move_in(sock, left):
    buffer = bytearray(len(CHUNK))
    while left:
        count = sock.recv_into(buffer, min(left, len(buffer)))
        assert count, "the tunnel ended early"
        left -= count


def move(address, kind, count):
    with socket.create_connection(address) as sock:
        sock.sendall(kind + count.to_bytes(8, "big"))
        if kind == b"d":
            move_in(sock, count)
        else:
            move_out(sock, count)
            assert sock.recv(1) == b"!"


class Ssh:
    """`ssh -L` with one cipher; None is what both sides choose by themselves."""

    def __init__(self, target, cipher=None):
        self.sshd = RealSshd()
        self.address = ("127.0.0.1", free_port())
        key = self.sshd.folder / "bench_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (self.sshd.folder / "authorized_keys").write_text(
            key.with_suffix(".pub").read_text())
        words = ["ssh", "-F", "none", "-N", "-i", key, "-p", self.sshd.port,
                 "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                 "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR",
                 "-L", f"127.0.0.1:{self.address[1]}:127.0.0.1:{target[1]}"]
        words += ["-c", cipher] if cipher else []
        self.process = subprocess.Popen([*map(str, words), f"{self.sshd.user}@127.0.0.1"])
        wait_until(self._answers, "ssh forwards", 20)

    def _answers(self):
        try:
            move(self.address, b"d", 1)
            return True
        except (OSError, AssertionError):
            return False

    def pids(self):
        return [self.process.pid, *descendants(self.sshd.process.pid)]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.sshd.close()


class Relay:
    def __init__(self, target):
        self.folder = tempfile.TemporaryDirectory(prefix="corral-bench-relay-")
        self.near = subprocess.Popen([FORWARD, "near", self.folder.name, f"127.0.0.1:{target[1]}"],
                                     stdout=subprocess.PIPE, text=True)
        wait_until(lambda: (pathlib.Path(self.folder.name) / "relay.json").exists(), "identity")
        # The file is written first and made private right after.
        time.sleep(0.2)
        self.relay = subprocess.Popen([FORWARD, "relay", self.folder.name],
                                      stderr=subprocess.DEVNULL)
        host, port = self.near.stdout.readline().strip().rsplit(":", 1)
        self.address = (host, int(port))

    def pids(self):
        return [self.near.pid, self.relay.pid]

    def close(self):
        for process in (self.near, self.relay):
            process.kill()
            process.wait()
        self.folder.cleanup()


def measure(way, kind, count):
    pids = way.pids()
    before = sum(map(cpu, pids))
    started = time.monotonic()
    move(way.address, kind, count)
    seconds = time.monotonic() - started
    return (sum(map(cpu, pids)) - before) / (count / 1e9), count / 1e9 / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rounds, count = (3, 1 << 29) if quick else (7, 1 << 30)
    target = Target()
    ways = {"ssh -L": Ssh(target.address),
            "ssh -L aes128-gcm": Ssh(target.address, "aes128-gcm@openssh.com"),
            "relay": Relay(target.address)}
    runs = []
    try:
        for way in ways.values():
            for kind in (b"d", b"u"):
                measure(way, kind, count // 8)
        for _ in range(rounds):
            for name in random.sample(list(ways), len(ways)):
                for kind, word in ((b"d", "from target"), (b"u", "to target")):
                    spent, speed = measure(ways[name], kind, count)
                    runs.append({"way": name, "direction": word, "cpu_s_per_gb": spent,
                                 "gb_per_s": speed})
    finally:
        for way in ways.values():
            way.close()
    medians = {}
    print(f"{'way':20} {'direction':12} {'CPU s/GB':>9} {'least':>7} {'most':>7} {'GB/s':>6}")
    for name in ways:
        for word in ("from target", "to target"):
            mine = [run for run in runs if (run["way"], run["direction"]) == (name, word)]
            spent = [run["cpu_s_per_gb"] for run in mine]
            medians[name, word] = statistics.median(spent)
            speed = statistics.median(run["gb_per_s"] for run in mine)
            print(f"{name:20} {word:12} {medians[name, word]:9.3f} {min(spent):7.3f} "
                  f"{max(spent):7.3f} {speed:6.2f}")
    for word in ("from target", "to target"):
        for name in ("ssh -L", "ssh -L aes128-gcm"):
            ratio = medians["relay", word] / medians[name, word]
            print(f"relay against {name}, {word}: {ratio:.2f} (goal: at most 1.3)")
    out = ROOT / "target" / "bench-relay.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"load": os.getloadavg(), "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
