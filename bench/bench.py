#!/usr/bin/env python3
"""Measures the gateway beside a direct connection and a bare copy proxy, interleaved in one run.

CPU is user plus system time of the one process that is measured, from /proc. Every figure of the
table is the median over rounds whose order is shuffled; target/bench.json holds every run.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import random
import re
import ssl
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request

import psycopg

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
os.environ.setdefault("CORRAL_BIN", str(TARGET / "corral"))
sys.path.insert(0, str(ROOT / "tests"))

from harness.gateway import Gateway  # noqa: E402
from harness.postgres import RealPostgres, certificate  # noqa: E402
from harness.waiting import wait_until  # noqa: E402
from harness.wire import SSL_REQUEST, Wire, message, text  # noqa: E402

CLIENTS = 16
MODES = ("simple", "extended", "prepared")
PARTS = ("idle", "select", "bulk", "connections", "kill")
READY = b"Z\0\0\0\5I"
RECEIVE_BYTES = 1 << 20
BULK_ROLE = "bulk"
PASSWORD = "a password of the benchmark"
SERVER_SETTINGS = {"shared_buffers": "512MB", "max_connections": "1000", "max_wal_size": "4GB",
                   "autovacuum": "off", "jit": "off"}
# Nine columns, about 226 bytes a row; two of them are classified in the masked target.
WIDE = """create table wide as select n as id, 'customer number ' || n as name,
    'street ' || n % 1000 || ', house ' || n % 97 as address, md5(n::text) as token,
    lpad(n::text, 11, '7') as ssn, 4000000000000000 + n as card_number,
    now() - n * interval '1 second' as created, (n % 10000)::numeric / 100 as balance,
    repeat('note ', 12) as note from generate_series(1, {rows}) n"""
MANIFEST = """
kind: Target
name: bench
protocol: postgres
address: 127.0.0.1:{port}
database: bench
credential: {{username: bench, password: {{env: BENCH_PASSWORD}}}}
classify: [{{columns: [public.elsewhere.ssn], class: pii}}]
---
kind: Target
name: masked
protocol: postgres
address: 127.0.0.1:{port}
database: bench
credential: {{username: bench, password: {{env: BENCH_PASSWORD}}}}
classify: [{{columns: [public.wide.ssn, public.wide.card_number], class: pii}}]
---"""
# Who may use the targets, and within which limits.
PEOPLE = """
kind: User
name: ben@example.com
groups: [bench]
---
kind: Limit
name: bench
subject: {{group: bench}}
sessions_max: 5000
session_ttl: 4h
idle_timeout: 1h
run: {{ttl_max: 4h, sessions_max: 5000, statements_max: 1000000000, rows_max: 100000000000,
      bytes_max: 100000000000000}}
---
kind: Policy
name: bench
cedar: |
{policy}
"""
POLICY_RULES = 50
MASKED = ", 2 of 9 masked"


def policy():
    """Rules as a team has them: rights of groups, tables that are closed to some, approvals."""
    rules = ["""permit (principal in Corral::Group::"bench",
        action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write"],
        resource);""",
             """@id("no-schema-changes") @approval("dba")
forbid (principal, action in Corral::Action::"define", resource);"""]
    while len(rules) < POLICY_RULES:
        number = len(rules)
        if number % 2:
            rules.append(f"""@id("team-{number}")
permit (principal in Corral::Group::"team-{number}", action in Corral::Action::"read",
        resource in Corral::Schema::"bench/team_{number}");""")
        else:
            rules.append(f"""@id("closed-{number}")
forbid (principal in Corral::Group::"bench", action in Corral::Action::"write",
        resource in Corral::Table::"bench/public.closed_{number}")
unless {{ context.in_transaction && context.tls }};""")
    return textwrap.indent("\n".join(rules), "  ")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


class Way:
    """One way to the database: where it is, how to log in, and whose CPU it costs."""

    def __init__(self, name, address, password, database, tls=False, pid=None):
        self.name = name
        self.address = address
        self.password = password
        self.database = database
        self.tls = tls
        self.pid = pid

    def env(self):
        host, port = self.address
        return {"PATH": os.environ["PATH"], "PGHOST": host, "PGPORT": str(port), "PGUSER": "bench",
                "PGPASSWORD": self.password, "PGDATABASE": self.database,
                "PGSSLMODE": "require" if self.tls else "disable", "PGGSSENCMODE": "disable"}

    def connect(self):
        host, port = self.address
        return psycopg.connect(host=host, port=port, user="bench", password=self.password,
                               dbname=self.database, autocommit=True, gssencmode="disable",
                               sslmode="require" if self.tls else "disable")


def start_floor(port, *flags):
    """A bare copy proxy in front of a port: its process, and where it listens."""
    process = subprocess.Popen([TARGET / "corral-floor", f"127.0.0.1:{port}", *flags], text=True,
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    host, listening = process.stdout.readline().strip().rsplit(":", 1)
    return process, (host, int(listening))


class Bench:
    def __init__(self, quick, parts=PARTS):
        self.quick = quick
        self.parts = parts
        self.rounds = 1 if quick else 3
        self.seconds = 2 if quick else 5
        self.rows = 200_000 if quick else 1_000_000
        self.idle = 50 if quick else 200
        self.runs = []
        self.processes = []
        self.files = contextlib.ExitStack()

    def set_up(self):
        _, tls = self.files.enter_context(certificate())
        self.server = RealPostgres(SERVER_SETTINGS | tls)
        self.server.execute(f"create role bench login password '{PASSWORD}'")
        self.server.execute(f"create role {BULK_ROLE} login")
        self.server.trust(BULK_ROLE)
        self.server.execute("create database bench owner bench")
        direct = Way("direct", ("127.0.0.1", self.server.port), PASSWORD, "bench")
        note("filling the database")
        subprocess.run(["pgbench", "-i", "-q", "-s", "5" if self.quick else "20"], check=True,
                       env=direct.env(), capture_output=True, stdin=subprocess.DEVNULL)
        with direct.connect() as connection:
            connection.execute(WIDE.format(rows=self.rows))
            connection.execute("create table elsewhere (ssn text)")
            connection.execute("analyze")
            connection.execute("grant select on wide to bulk")
        self.gateway = Gateway()
        self.gateway.apply(MANIFEST.format(port=self.server.port)
                           + PEOPLE.format(policy=policy()),
                           env={"BENCH_PASSWORD": PASSWORD})
        run = self.new_run()
        corral = self.gateway.address()
        pid = self.gateway.pid
        self.ways = [
            direct,
            self.floor("floor", []),
            Way("corral", corral, run["token"], "bench", pid=pid),
            Way("direct tls", direct.address, PASSWORD, "bench", tls=True),
            self.floor("floor tls", ["--tls"], tls=True),
            Way("corral tls", corral, run["token"], "bench", tls=True, pid=pid),
        ]
        self.masked = [
            Way("corral" + MASKED, corral, run["token"], "masked", pid=pid),
            Way("corral tls" + MASKED, corral, run["token"], "masked", tls=True, pid=pid),
        ]
        self.killed = self.ways[2]

    def new_run(self):
        return self.gateway.json("runs", "start", "--name", "bench", "--for", "ben@example.com",
                                 "--ttl", "4h")

    def floor(self, name, flags, tls=False):
        process, address = start_floor(self.server.port, *flags)
        self.processes.append(process)
        return Way(name, address, PASSWORD, "bench", tls, process.pid)

    def shuffled(self, ways):
        ways = list(ways)
        random.shuffle(ways)
        return ways

    def note_run(self, what, way, **figures):
        self.runs.append({"what": what, "way": way.name} | figures)

    # -- one measurement each

    def pgbench(self, way, mode):
        before = cpu_seconds(way.pid) if way.pid else None
        result = subprocess.run(
            ["pgbench", "-n", "-S", "-M", mode, "-c", str(CLIENTS), "-j", "2", "-T",
             str(self.seconds)], env=way.env(), text=True, capture_output=True,
            stdin=subprocess.DEVNULL)
        if result.returncode != 0:
            raise RuntimeError(f"pgbench through {way.name}: {result.stderr}")
        count = int(re.search(r"actually processed: (\d+)", result.stdout)[1])
        tps = float(re.search(r"tps = ([\d.]+)", result.stdout)[1])
        figures = {"tps": tps, "transactions": count}
        if way.pid:
            figures["cpu_us"] = (cpu_seconds(way.pid) - before) / count * 1e6
        self.note_run(f"select {mode}", way, **figures)

    def bulk(self, way, what, sql):
        before = cpu_seconds(way.pid) if way.pid else None
        with log_in(way) as wire:
            started = time.monotonic()
            received = fetch_raw(wire, sql)
            elapsed = time.monotonic() - started
        figures = {"bytes": received, "seconds": elapsed}
        if way.pid:
            figures["cpu_s_per_gb"] = (cpu_seconds(way.pid) - before) / received * 1e9
        self.note_run(what, way, **figures)

    def connections(self, way):
        before = cpu_seconds(way.pid) if way.pid else None
        result = subprocess.run(
            ["pgbench", "-n", "-S", "-C", "-c", "4", "-j", "2", "-T", str(self.seconds)],
            env=way.env(), text=True, capture_output=True, stdin=subprocess.DEVNULL)
        if result.returncode != 0:
            raise RuntimeError(f"pgbench -C through {way.name}: {result.stderr}")
        count = int(re.search(r"actually processed: (\d+)", result.stdout)[1])
        figures = {"connections": count}
        if way.pid:
            figures["cpu_ms"] = (cpu_seconds(way.pid) - before) / count * 1e3
        self.note_run("connections", way, **figures)

    def memory(self):
        """What an open session holds that waits. Measured first and with all of them kept open:
        later, memory that a burst of work gave back would be taken again and not be seen."""
        ways = [way for way in self.ways if way.pid]
        for way in ways:
            way.connect().close()
        opened = []
        for way in ways:
            before = rss_kib(way.pid)
            for _ in range(self.idle):
                connection = way.connect()
                connection.execute("select 1")
                opened.append(connection)
            after = rss_kib(way.pid)
            self.note_run("idle connections", way, kib=(after - before) / self.idle,
                          connections=self.idle)
        for connection in opened:
            connection.close()

    def kill(self, way):
        run = self.new_run()
        busy = Way(way.name, way.address, run["token"], way.database, way.tls, way.pid)
        connection = busy.connect()
        ended = []

        def wait():
            try:
                connection.execute("select pg_sleep(60)")
            except psycopg.Error:
                ended.append(time.monotonic())

        worker = threading.Thread(target=wait)
        worker.start()
        active = ("select 1 from pg_stat_activity where state = 'active' "
                  "and query = 'select pg_sleep(60)'")
        wait_until(lambda: self.server.execute(active), "the statement runs")
        context = ssl.create_default_context(cafile=self.gateway.ready["ca_file"])
        request = urllib.request.Request(
            f"{self.gateway.ready['api']}/api/v1/runs/{run['run_id']}/kill", method="POST",
            data=b"", headers={"Authorization": f"Bearer {self.gateway.admin_token()}"})
        started = time.monotonic()
        urllib.request.urlopen(request, context=context).close()
        worker.join(30)
        client = ended[0] - started
        wait_until(lambda: not self.server.execute(active), "the target stopped")
        self.note_run("kill", way, client_ms=client * 1e3,
                      target_ms=(time.monotonic() - started) * 1e3)

    # -- all of it

    def measure(self):
        if "idle" in self.parts:
            note("idle connections")
            self.memory()
        for number in range(self.rounds):
            step = f"round {number + 1} of {self.rounds}"
            for mode in MODES if "select" in self.parts else ():
                note(f"{step}: pgbench -S, {mode}")
                for way in self.shuffled(self.ways):
                    self.pgbench(way, mode)
            if "bulk" in self.parts:
                note(f"{step}: bulk")
                for way in self.shuffled(self.ways + self.masked):
                    self.bulk(way, "bulk select", "select * from wide")
                for way in self.shuffled(self.ways):
                    self.bulk(way, "bulk copy", "copy wide to stdout")
            if "connections" in self.parts:
                note(f"{step}: connections")
                for way in self.shuffled(self.ways):
                    self.connections(way)
        if "kill" in self.parts:
            note("kill latency")
            for _ in range(3 if self.quick else 10):
                self.kill(self.killed)

    def tear_down(self):
        for process in self.processes:
            process.kill()
            process.wait()
        if hasattr(self, "gateway"):
            self.gateway.close()
        if hasattr(self, "server"):
            self.server.stop()
        self.files.close()

    # -- what came out

    def median(self, what, way, figure):
        found = [run[figure] for run in self.runs
                 if run["what"] == what and run["way"] == way and figure in run]
        return statistics.median(found) if found else None

    def table(self):
        """What was measured, one row each: the figure of every way, with corral's TLS beside the
        floor's."""
        rows = []

        def add(name, what, figure):
            figures = [self.median(what, way.name, figure) for way in self.ways]
            if any(figure is not None for figure in figures):
                rows.append((name, figures))

        for mode in MODES:
            what = f"select {mode}"
            add(f"pgbench -S {mode}: CPU µs per query", what, "cpu_us")
            add(f"pgbench -S {mode}: tps", what, "tps")
        for what in ("bulk select", "bulk copy"):
            add(f"{what}: CPU s/GB", what, "cpu_s_per_gb")
        masked = {way.name.removesuffix(MASKED): way.name for way in self.masked}
        names = [masked.get(way.name, way.name) for way in self.ways]
        figures = [self.median("bulk select", name, "cpu_s_per_gb") for name in names]
        if any(figure is not None for figure in figures):
            rows.append((f"bulk select{MASKED}: CPU s/GB", figures))
        add("new connection: CPU ms", "connections", "cpu_ms")
        add("idle connection: KiB", "idle connections", "kib")
        return rows

    def print_table(self):
        print(f"\n{'':38}" + "".join(f"{way.name:>12}" for way in self.ways)
              + f"{'tls ratio':>12}")
        for name, figures in self.table():
            of = dict(zip((way.name for way in self.ways), figures))
            ratio = of["corral tls"] / of["floor tls"] if of["floor tls"] else None
            print(f"{name:38}" + "".join(
                f"{'–' if figure is None else f'{figure:.2f}':>12}"
                for figure in [*figures, ratio]))
        kills = sorted(run["client_ms"] for run in self.runs if run["what"] == "kill")
        targets = sorted(run["target_ms"] for run in self.runs if run["what"] == "kill")
        if kills:
            print(f"\nkill, until the client's connection ends: median "
                  f"{statistics.median(kills):.1f} ms, worst {kills[-1]:.1f} ms; until the target "
                  f"is idle: median {statistics.median(targets):.1f} ms, worst "
                  f"{targets[-1]:.1f} ms")

    def write(self):
        file = ROOT / "target" / "bench.json"
        file.parent.mkdir(exist_ok=True)
        report = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": git("rev-parse", "HEAD"),
            "is_dirty": bool(git("status", "--porcelain")),
            "machine": machine(),
            "settings": {"clients": CLIENTS, "rounds": self.rounds, "seconds": self.seconds,
                         "rows": self.rows, "is_quick": self.quick,
                         "policy_rules": POLICY_RULES,
                         "server": self.server.execute("show server_version")[0][0]},
            "medians": [{"what": name} | {way.name: figure for way, figure
                                          in zip(self.ways, figures)}
                        for name, figures in self.table()],
            "runs": self.runs,
        }
        file.write_text(json.dumps(report, indent=1) + "\n")
        print(f"every run: {file.relative_to(ROOT)}")


def log_in(way):
    """A raw connection, ready for a query: a driver would spend more than all that is measured."""
    wire = Wire(way.address, timeout=60)
    if way.tls:
        wire.send(SSL_REQUEST)
        assert wire.stream.read(1) == b"S"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        wire.socket = context.wrap_socket(wire.socket)
        wire.stream = wire.socket.makefile("rb")
    # The server trusts this account; the gateway wants its token from everybody.
    wire.login(way.password, way.database, user=BULK_ROLE)
    return wire


def fetch_raw(wire, sql):
    """Runs SQL and counts the bytes of its answer without looking at rows."""
    wire.send(message(b"Q", text(sql)))
    buffer = bytearray(RECEIVE_BYTES)
    received, tail = 0, b""
    while tail != READY:
        count = wire.socket.recv_into(buffer)
        assert count, "the connection ended"
        received += count
        tail = (tail + bytes(buffer[max(0, count - len(READY)):count]))[-len(READY):]
    return received


def git(*words):
    result = subprocess.run(["git", *words], cwd=ROOT, text=True, capture_output=True)
    return result.stdout.strip()


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {"cpu": cpu[1] if cpu else platform.processor(), "cores": os.cpu_count(),
            "memory_mib": int(memory[1]) // 1024, "kernel": platform.release()}


def note(text_):
    print(f"bench: {text_}", file=sys.stderr, flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short round")
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=PARTS,
                           help="measure these parts alone")
    options = arguments.parse_args()
    bench = Bench(options.quick, options.only)
    try:
        bench.set_up()
        bench.measure()
        bench.print_table()
        bench.write()
    finally:
        bench.tear_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
