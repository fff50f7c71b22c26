#!/usr/bin/env python3
"""Measures SSH through the gateway beside `ssh -J` through an OpenSSH bastion, interleaved.

CPU is user plus system time of every process on the way: the client's (also the one that -J
starts), the bastion's or the gateway's, the target's. "Middle" is what the way adds: the bastion
and -J's own client, or the gateway.
"""

import argparse
import asyncio
import ctypes
import json
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import asyncssh

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
os.environ.setdefault("CORRAL_BIN", str(TARGET / "corral"))
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(HERE))

from bench import machine, note, rss_kib  # noqa: E402
from harness.hosts import Hosts  # noqa: E402
from harness.sshd import RealSshd  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

PR_SET_CHILD_SUBREAPER = 36
GIB = 1 << 30
LARGE_BYTES = 10 * 10**9
LARGE_KEPT_BYTES = GIB


def tree_cpu(pid):
    """A server and the children that it has waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def children_cpu():
    """Every client that has ended, with those that it left behind."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def give_back(file):
    """Takes from the disk what was written of a copy; its size stays."""
    written = file.stat().st_blocks * 512 if file.exists() else 0
    if written > LARGE_KEPT_BYTES:
        subprocess.run(["fallocate", "--punch-hole", "-o", "0", "-l", str(file.stat().st_size),
                        file], check=True)


class Bench:
    def __init__(self, quick):
        self.rounds = 2 if quick else 5
        self.bytes = GIB // 4 if quick else GIB
        self.shells = 50 if quick else 500
        self.hosts = Hosts(sshd_more="LoginGraceTime 600\nMaxStartups 1000")
        self.bastion = RealSshd()
        # The client's own key, for direct connections and the bastion.
        (self.bastion.folder / "authorized_keys").write_text(
            (self.hosts.sshd.folder / "user_key.pub").read_text())
        self.key = self.hosts.sshd.folder / "user_key"
        self.key.chmod(0o600)
        self.token = self.hosts.run()["token"]
        self.file = pathlib.Path(f"/dev/shm/corral-bench-{os.getpid()}")
        subprocess.run(["fallocate", "-l", str(self.bytes), self.file], check=True)

    def close(self):
        self.file.unlink(missing_ok=True)
        self.bastion.close()
        self.hosts.close()

    def config(self):
        config = self.hosts.sshd.folder / "bench_config"
        user = self.hosts.user
        config.write_text(f"""
Host direct target
  Port {self.hosts.sshd.port}
Host bastion
  Port {self.bastion.port}
Host jump
  Port {self.hosts.sshd.port}
  ProxyJump bastion
Host corral
  Port {self.hosts.address[1]}
  User {user}@web-1
  PreferredAuthentications password
Host *
  User {user}
  HostName 127.0.0.1
  IdentityFile {self.key}
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
""")
        return str(config)

    def words(self, way, what):
        config = self.config()
        if what == "download":
            return ["ssh", "-F", config, way, f"head -c {self.bytes} /dev/zero"]
        if what == "upload":
            return ["ssh", "-F", config, way, "cat >/dev/null"]
        return ["scp", "-q", "-F", config, f"{way}:{self.file}", f"{self.file}.copy"]

    def measure(self, way, what):
        middle_pid = {"jump": self.bastion.process.pid,
                      "corral": self.hosts.gateway.pid}.get(way)
        target_pid = self.hosts.sshd.process.pid
        middle = tree_cpu(middle_pid) if middle_pid else 0
        target, client = tree_cpu(target_pid), children_cpu()
        started = time.monotonic()
        stdin = open(self.file, "rb") if what == "upload" else subprocess.DEVNULL
        subprocess.run(self.words(way, what), stdin=stdin, stdout=subprocess.DEVNULL, check=True,
                       env=self.hosts.env(self.token))
        seconds = time.monotonic() - started
        pathlib.Path(f"{self.file}.copy").unlink(missing_ok=True)
        # A server has waited for its child a moment after the client is gone.
        for server in [self.hosts.sshd, *([self.bastion] if way == "jump" else [])]:
            wait_until(lambda: not server.children(), "the session has ended")
        per_gib = GIB / self.bytes
        return {"way": way, "what": what, "seconds": seconds,
                "client": (children_cpu() - client) * per_gib,
                "middle": (tree_cpu(middle_pid) - middle if middle_pid else 0) * per_gib,
                "target": (tree_cpu(target_pid) - target) * per_gib}

    def bulk(self):
        runs = []
        for number in range(self.rounds):
            turns = [(way, what) for way in ("direct", "jump", "corral")
                     for what in ("download", "upload", "scp")]
            random.shuffle(turns)
            for way, what in turns:
                note(f"round {number + 1}: {what}, {way}")
                runs.append(self.measure(way, what))
        return runs

    def large(self, size):
        """scp of one file each way: the gateway's memory before, at most and after, in KiB."""
        config, pid = self.config(), self.hosts.gateway.pid
        folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-bench-scp-", dir="/tmp"))
        source, copy = folder / "source", folder / "copy"
        with open(source, "wb") as file:
            file.truncate(size)
        ways = {"from target": [f"corral:{source}", copy], "to target": [source, f"corral:{copy}"]}
        found = []
        try:
            for way, words in ways.items():
                note(f"scp of {size} bytes, {way}")
                before, started = rss_kib(pid), time.monotonic()
                most = before
                client = subprocess.Popen(["scp", "-q", "-F", config, *words],
                                          env=self.hosts.env(self.token))
                while client.poll() is None:
                    most = max(most, rss_kib(pid))
                    give_back(copy)
                    time.sleep(0.1)
                assert client.returncode == 0, client.returncode
                assert copy.stat().st_size == size, copy.stat().st_size
                copy.unlink()
                found.append({"way": way, "bytes": size, "seconds": time.monotonic() - started,
                              "before_kib": before, "most_kib": most, "after_kib": rss_kib(pid)})
        finally:
            shutil.rmtree(folder)
        return found

    async def idle(self):
        """KiB of the gateway for each open shell that says nothing."""
        before = rss_kib(self.hosts.gateway.pid)
        connections = []

        async def one():
            connection = await asyncssh.connect(
                *self.hosts.address, username=f"{self.hosts.user}@web-1", password=self.token,
                known_hosts=None, client_keys=None, agent_path=None, login_timeout=120,
                preferred_auth="password")
            process = await connection.create_process(term_type="xterm")
            connections.append((connection, process))

        for start in range(0, self.shells, 10):
            await asyncio.gather(*(one() for _ in range(min(10, self.shells - start))))
        await asyncio.sleep(2)
        after = rss_kib(self.hosts.gateway.pid)
        for connection, process in connections:
            process.close()
            connection.close()
        return (after - before) / self.shells


def report(found):
    if "runs" in found:
        report_bulk(found["runs"])
    if "idle_kib" in found:
        print(f"idle shell: {found['idle_kib']:.0f} KiB")
    for run in found.get("large", []):
        print(f"scp of {run['bytes'] / 1e9:.0f} GB {run['way']}: {run['seconds']:.0f} s, gateway "
              f"{run['before_kib']} KiB before, {run['most_kib']} at most, "
              f"{run['after_kib']} after")


def report_bulk(runs):
    def median(way, what, *parts):
        found = [sum(run[part] for part in parts) for run in runs
                 if run["way"] == way and run["what"] == what]
        return statistics.median(found)

    print(f"{'CPU s/GiB':24}{'direct':>10}{'ssh -J':>10}{'corral':>10}{'ratio':>8}")
    for what in ("download", "upload", "scp"):
        everything = [median(way, what, "client", "middle", "target")
                      for way in ("direct", "jump", "corral")]
        print(f"{what + ', everything':24}" + "".join(f"{value:10.2f}" for value in everything)
              + f"{everything[2] / everything[1]:8.2f}")
        jump = everything[1] - everything[0]
        corral = median("corral", what, "middle")
        print(f"{what + ', what it adds':24}{'–':>10}{jump:10.2f}{corral:10.2f}"
              f"{corral / jump:8.2f}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer rounds, less data")
    arguments.add_argument("--only", choices=("idle", "bulk", "large"),
                           help="one part; large is scp of 10 GB, and part of nothing else")
    options = arguments.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    bench = Bench(options.quick)
    found = {"machine": machine()}
    try:
        # First: the host's CPU of idle shells is counted when they end.
        if options.only in (None, "bulk"):
            found["runs"] = bench.bulk()
        if options.only in (None, "idle"):
            found["idle_kib"] = asyncio.run(bench.idle())
        if options.only == "large":
            found["large"] = bench.large(LARGE_BYTES)
    finally:
        bench.close()
    report(found)
    out = ROOT / "target" / "bench-ssh.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
