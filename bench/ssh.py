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
import statistics
import subprocess
import sys
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


def report(runs, idle):
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
    print(f"idle shell: {idle:.0f} KiB")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer rounds, less data")
    options = arguments.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    bench = Bench(options.quick)
    try:
        idle = asyncio.run(bench.idle())
        runs = bench.bulk()
    finally:
        bench.close()
    report(runs, idle)
    out = ROOT / "target" / "bench-ssh.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "idle_kib": idle, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
