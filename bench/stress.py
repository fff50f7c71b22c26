#!/usr/bin/env python3
"""Measures what a crowded gateway does: a record that is synced, two thousand sessions that open at
once, memory while one client pulls gigabytes and another never reads.

Prints each figure beside its goal and writes all of them to target/bench-stress.json. Client,
gateway and PostgreSQL share the machine; how long a bare copy proxy with TLS takes for the same
openings says what of it is theirs. Build first: cargo build --release -p corral -p corral-testkit
--bins.
"""

import argparse
import asyncio
import datetime
import json
import math
import os
import pathlib
import re
import ssl
import statistics
import struct
import subprocess
import sys
import threading
import time

import bench
from bench import (PASSWORD, PEOPLE, ROOT, Way, fetch_raw, git, log_in, machine, note, policy,
                   rss_kib, start_floor)
from harness.gateway import Gateway
from harness.postgres import RealPostgres
from harness.waiting import wait_until
from harness.wire import SSL_REQUEST, message, startup, text

PARTS = ("synced", "opening", "flat")
WRITERS = 16
OPENING = 2000
OPENING_DEADLINE_S = 10
# Sessions that are open before, and what each asks every time.
SETTLED = 8
SETTLED_PAUSE_S = 0.02
FLAT_ROW_BYTES = 1000
FLAT_GROWTH_MIB = 64
SAMPLE_S = 0.05
# A server that keeps what it was told, as those that people depend on do.
SERVER_SETTINGS = {"shared_buffers": "128MB", "max_connections": "2300", "autovacuum": "off",
                   "jit": "off", "fsync": "on", "synchronous_commit": "on"}
TARGET = """
kind: Target
name: {name}
protocol: postgres
address: 127.0.0.1:{port}
database: bench
credential: {{username: bench, password: {{env: BENCH_PASSWORD}}}}
record: {{durability: {durability}}}
classify: [{{columns: [public.elsewhere.ssn], class: pii}}]
---"""


class Stress:
    def __init__(self, quick):
        self.quick = quick
        self.seconds = 3 if quick else 10
        self.rounds = 1 if quick else 3
        self.flat_bytes = 1_000_000_000 if quick else 10_000_000_000
        self.rows = []
        self.figures = {}

    def set_up(self):
        self.server = RealPostgres(SERVER_SETTINGS)
        self.server.execute(f"create role bench login password '{PASSWORD}'")
        self.server.execute(f"create role {bench.BULK_ROLE} login")
        self.server.trust(bench.BULK_ROLE)
        self.server.execute("create database bench owner bench")
        direct = Way("direct", ("127.0.0.1", self.server.port), PASSWORD, "bench")
        with direct.connect() as connection:
            connection.execute("create table elsewhere (ssn text)")
            connection.execute("create table journal (at timestamptz default now(), who int)")
        self.gateway = Gateway()
        targets = "".join(TARGET.format(name=name, port=self.server.port, durability=name)
                          for name in ("written", "synced"))
        self.gateway.apply(targets + PEOPLE.format(policy=policy()),
                           env={"BENCH_PASSWORD": PASSWORD})
        run = self.gateway.json("runs", "start", "--name", "bench", "--for", "ben@example.com",
                                "--ttl", "4h")
        self.ways = {name: Way(name, self.gateway.address(), run["token"], name, tls=True,
                               pid=self.gateway.pid) for name in ("written", "synced")}
        self.floor_process, address = start_floor(self.server.port, "--tls")
        self.floor = Way("floor tls", address, PASSWORD, "bench", tls=True,
                         pid=self.floor_process.pid)
        # The copy proxy's clients log in by themselves; this one's cannot.
        self.server.trust("bench")

    def tear_down(self):
        if hasattr(self, "floor_process"):
            self.floor_process.kill()
            self.floor_process.wait()
        if hasattr(self, "gateway"):
            self.gateway.close()
        if hasattr(self, "server"):
            self.server.stop()

    def row(self, what, goal, measured, is_met):
        self.rows.append((what, goal, measured, is_met))

    # -- the record is synced

    def synced(self):
        """Writing clients on one disk, with a record that is written and with one that is synced
        before each statement."""
        script = self.gateway.folder / "insert.sql"
        script.write_text("insert into journal (who) values (:client_id);\n")
        found = {name: [] for name in self.ways}
        for number in range(self.rounds):
            for name, way in self.ways.items():
                note(f"round {number + 1} of {self.rounds}: {WRITERS} writers, record {name}")
                result = subprocess.run(
                    ["pgbench", "-n", "-f", script, "-M", "prepared", "-c", str(WRITERS), "-j",
                     "2", "-T", str(self.seconds)], env=way.env(), text=True,
                    capture_output=True, stdin=subprocess.DEVNULL)
                if result.returncode != 0:
                    raise RuntimeError(f"pgbench, record {name}: {result.stderr}")
                found[name].append(float(re.search(r"tps = ([\d.]+)", result.stdout)[1]))
        self.figures["synced"] = found
        written, synced = (statistics.median(found[name]) for name in ("written", "synced"))
        self.row(f"record synced, {WRITERS} writers: throughput of written", "≥ 0.50",
                 f"{synced / written:.2f} ({synced:.0f} of {written:.0f} a second)",
                 synced >= written / 2)

    # -- many open at once

    def opening(self):
        floor, corral = (self.open_through(way) for way in (self.floor, self.ways["written"]))
        self.figures["opening"] = {"floor tls": floor, "corral": corral}
        told = corral["served"] + corral["refused"]
        self.row(f"{OPENING} sessions open at once: told within", f"{OPENING_DEADLINE_S} s, all",
                 f"{corral['last_s']:.1f} s, {corral['served']} served, {corral['refused']} "
                 f"refused, {corral['broken']} broken (copy proxy: {floor['last_s']:.1f} s)",
                 told == OPENING and corral["last_s"] <= OPENING_DEADLINE_S)
        before, during = corral["settled_p99_s"]
        of_floor = floor["settled_p99_s"][1] / floor["settled_p99_s"][0]
        self.row("p99 of sessions already open meanwhile", "≤ 2 ×",
                 f"{during / before:.1f} × ({before * 1e3:.1f} ms, then {during * 1e3:.1f} ms; "
                 f"copy proxy: {of_floor:.1f} ×)", during <= 2 * before)

    def open_through(self, way):
        before, during = Latencies(way), Latencies(way)
        note(f"{way.name}: {SETTLED} open sessions, alone")
        before.start()
        time.sleep(self.seconds)
        before.stop()
        note(f"{way.name}: {OPENING} sessions open at once")
        during.start()
        with subprocess.Popen([sys.executable, __file__, "--open"], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as opener:
            print(json.dumps([*way.address, way.password, way.database, OPENING]),
                  file=opener.stdin, flush=True)
            report = json.loads(opener.stdout.readline())
            during.stop()
        active = "select 1 from pg_stat_activity where usename = 'bench'"
        wait_until(lambda: not self.server.execute(active), "the sessions have ended", 60)
        p99 = percentile(before.seconds, 99), percentile(during.seconds, 99)
        return report | {"settled_p99_s": p99}

    # -- memory stays

    def flat(self):
        way = self.ways["written"]
        rows = self.flat_bytes // FLAT_ROW_BYTES
        sql = f"select repeat('x', {FLAT_ROW_BYTES}) from generate_series(1, {rows})"
        log_in(way).socket.close()
        before = rss_kib(way.pid)
        memory = Memory(way.pid)
        memory.start()
        note(f"one client never reads, another pulls {self.flat_bytes / 1e9:.0f} GB")
        deaf = log_in(way)
        deaf.send(message(b"Q", text(sql)))
        with log_in(way) as wire:
            started = time.monotonic()
            received = fetch_raw(wire, sql)
            elapsed = time.monotonic() - started
        deaf.socket.close()
        memory.stop()
        growth_mib = (memory.most_kib - before) / 1024
        assert received >= self.flat_bytes, received
        self.figures["flat"] = {"before_kib": before, "most_kib": memory.most_kib,
                                "bytes": received, "seconds": elapsed}
        self.row(f"memory while {received / 1e9:.1f} GB pass and a client never reads",
                 f"< {FLAT_GROWTH_MIB} MiB more",
                 f"{growth_mib:.1f} MiB more, {received / elapsed / 1e6:.0f} MB/s",
                 growth_mib < FLAT_GROWTH_MIB)

    # -- what came out

    def print_table(self):
        width = max(len(row[0]) for row in self.rows)
        for what, goal, measured, is_met in self.rows:
            print(f"{what:{width}}  {goal:14}  {'met   ' if is_met else 'MISSED'}  {measured}")

    def write(self):
        file = ROOT / "target" / "bench-stress.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": git("rev-parse", "HEAD"), "is_dirty": bool(git("status", "--porcelain")),
            "machine": machine(), "is_quick": self.quick,
            "rows": [dict(zip(("what", "goal", "measured", "is_met"), row)) for row in self.rows],
            "figures": self.figures}, indent=1) + "\n")
        print(f"every figure: {file.relative_to(ROOT)}")


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)]


class Latencies:
    """Sessions that ask something small again and again, and how long each answer took."""

    def __init__(self, way):
        self.connections = [way.connect() for _ in range(SETTLED)]
        self.seconds = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(connection,))
                        for connection in self.connections]

    def ask(self, connection):
        while not self.ended.wait(SETTLED_PAUSE_S):
            started = time.monotonic()
            connection.execute("select 1")
            self.seconds.append(time.monotonic() - started)

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        for connection in self.connections:
            connection.close()


class Memory(threading.Thread):
    """The most resident memory that a process was seen with."""

    def __init__(self, pid):
        super().__init__()
        self.pid = pid
        self.most_kib = 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(SAMPLE_S):
            self.most_kib = max(self.most_kib, rss_kib(self.pid))

    def stop(self):
        self.ended.set()
        self.join()


async def open_session(address, token, database, context):
    """How one session's opening ended: served, refused or broken; it stays open until the end."""
    loop = asyncio.get_running_loop()
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(SSL_REQUEST)
        assert await reader.readexactly(1) == b"S"
        await writer.start_tls(context)
        writer.write(startup({"user": "bench", "database": database}))
        while True:
            kind, length = struct.unpack(">ci", await reader.readexactly(5))
            body = await reader.readexactly(length - 4)
            if kind == b"R" and body[:4] == b"\0\0\0\3":
                writer.write(message(b"p", text(token)))
            elif kind == b"Z":
                return "served", loop.time(), writer
            elif kind == b"E":
                return "refused", loop.time(), writer
    except (OSError, asyncio.IncompleteReadError, AssertionError):
        return "broken", loop.time(), None


async def open_many(host, port, token, database, count):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    started = asyncio.get_running_loop().time()
    ends = await asyncio.gather(*(open_session((host, port), token, database, context)
                                  for _ in range(count)))
    outcomes = [end[0] for end in ends]
    print(json.dumps({name: outcomes.count(name) for name in ("served", "refused", "broken")} | {
        "last_s": max(at for _, at, _ in ends) - started}), flush=True)
    # What is measured is over. The sessions stay open until then.
    await asyncio.to_thread(sys.stdin.read)
    for _, _, writer in ends:
        if writer:
            writer.transport.abort()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short round, and 1 GB")
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=PARTS,
                           help="measure these parts alone")
    # A process of its own for the many clients; whereto and with what token is on its input.
    arguments.add_argument("--open", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.open:
        asyncio.run(open_many(*json.loads(sys.stdin.readline())))
        return 0
    stress = Stress(options.quick)
    try:
        stress.set_up()
        for part in options.only:
            getattr(stress, part)()
        stress.print_table()
        stress.write()
    finally:
        stress.tear_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
