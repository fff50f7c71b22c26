#!/usr/bin/env python3
"""Measures the run tree: how fast a signal ends everything below somebody, and that nothing stays.

Prints the table of issue 5 and writes target/bench-runs.json. Clients are raw sockets, so that
what is measured is the gateway and the target. Build first: cargo build --release -p corral
"""

import argparse
import importlib
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
os.environ.setdefault("CORRAL_BIN", str(TARGET / "corral"))
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(HERE))

from harness.cut import Network  # noqa: E402
from harness.postgres import RealPostgres  # noqa: E402
from harness.shop import Shop  # noqa: E402
from harness.waiting import wait_until  # noqa: E402
from harness.wire import Wire, message  # noqa: E402

SESSIONS = 500
SIBLINGS = 50
STREAMING = 10
DEPTH = 5
# What is left this long after a parent ended is counted as a survivor.
GRACE_S = 5
DEADLINE_S = 60
# Of a run whose time passes while its gateway is away: long enough to open its sessions.
TTL_S = 8
SLEEP = "select pg_sleep(3600) /* bench-runs */"
# Paced, so that what is still read when the kill arrives was sent after it.
STREAM = ("select repeat('x', 1000), pg_sleep(0.05) from generate_series(1, 100000000) "
          "/* bench-runs */")


def note(text):
    print(f"bench-runs: {text}", file=sys.stderr, flush=True)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Clients:
    """Many sessions, watched by one selector: when each one heard its last byte."""

    def __init__(self, shop, tokens, statement, target="plain-db"):
        address = shop.gateway.address()
        self.selector = selectors.DefaultSelector()

        def connect(token):
            wire = Wire(address, DEADLINE_S)
            wire.login(token, target)
            wire.send(message(b"Q", statement.encode() + b"\0"))
            return wire

        with ThreadPoolExecutor(16) as pool:
            self.wires = list(pool.map(connect, tokens))
        for wire in self.wires:
            wire.socket.setblocking(False)
            self.selector.register(wire.socket, selectors.EVENT_READ)

    def wait_closed(self, began, deadline_s=DEADLINE_S):
        """Seconds from `began` to the end of each session, and to its last byte."""
        closed, last = [], {}
        while self.selector.get_map():
            left = began + deadline_s - time.monotonic()
            if left <= 0:
                break
            for key, _ in self.selector.select(min(left, 0.5)):
                now = time.monotonic() - began
                try:
                    data = key.fileobj.recv(262144)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if data:
                    last[key.fd] = now
                else:
                    closed.append(now)
                    self.selector.unregister(key.fileobj)
        return closed, list(last.values())

    def alive(self):
        """Sessions whose connection is still open."""
        self.wait_closed(time.monotonic(), 0.5)
        return len(self.selector.get_map())

    def close(self):
        for wire in self.wires:
            wire.close()
        self.selector.close()


class Bench:
    def __init__(self, quick):
        self.quick = quick
        self.rounds = 1 if quick else 5
        # A target notices a gateway that was killed when it is told to look (docs/runs.md).
        self.server = RealPostgres({"max_connections": "800", "shared_buffers": "32MB",
                                    "client_connection_check_interval": "1s"})
        self.figures = {}

    def shop(self):
        return Shop(self.server)

    def running(self, shop, text="bench-runs"):
        return self.server.execute(
            "select count(*) from pg_stat_activity where state = 'active' "
            f"and datname = '{shop.plain}' and query like '%{text}%'")[0][0]

    def wait_cancelled(self, shop, began, found):
        """Notes when the target had nothing of ours running any more."""
        wait_until(lambda: self.running(shop) == 0, "the target stopped working", DEADLINE_S)
        found.append(time.monotonic() - began)

    @staticmethod
    def start(shop, name, token=None, *more):
        return shop.gateway.json("runs", "start", "--name", name, "--ttl", "1h", *more,
                                 token=token or shop.workload())

    # -- the figures

    def offboarding(self):
        """`users disable` of the sponsor: 500 sessions, each with a query that runs."""
        closed, cancelled = [], []
        for round_number in range(self.rounds):
            with self.shop() as shop:
                root = self.start(shop, "root")
                planners = [self.start(shop, f"planner-{n}", root["token"]) for n in range(5)]
                tokens = [planners[n % 5]["token"] for n in range(SESSIONS)]
                clients = Clients(shop, tokens, SLEEP)
                wait_until(lambda: self.running(shop) == SESSIONS, "all queries run", DEADLINE_S)
                began = time.monotonic()
                watcher = threading.Thread(target=self.wait_cancelled,
                                           args=(shop, began, cancelled))
                signal_sent = subprocess.Popen(
                    [shop.gateway.program, "users", "disable", "ada@example.com"],
                    env=shop.gateway.client_env(), stdout=subprocess.DEVNULL)
                watcher.start()
                mine, _ = clients.wait_closed(began)
                watcher.join()
                signal_sent.wait()
                assert len(mine) == SESSIONS, f"{SESSIONS - len(mine)} sessions stay"
                closed += mine
                clients.close()
                note(f"offboarding {round_number + 1}: sockets {max(mine):.2f} s, "
                     f"queries {cancelled[-1]:.2f} s")
        worst = max(max(closed), max(cancelled))
        p99 = max(percentile(closed, 0.99), percentile(cancelled, 0.99))
        self.figures["offboarding"] = {
            "sessions": SESSIONS, "rounds": self.rounds, "p50_s": percentile(closed, 0.5),
            "p99_s": p99, "max_s": worst, "queries_cancelled_max_s": max(cancelled)}

    def subtree(self):
        """One subtree of five levels is killed; its sibling goes on."""
        closed, last, hurt = [], [], 0
        for round_number in range(self.rounds):
            with self.shop() as shop:
                root = self.start(shop, "root")
                level = top = self.start(shop, "level-1", root["token"])
                levels = [top]
                for number in range(2, DEPTH + 1):
                    level = self.start(shop, f"level-{number}", level["token"])
                    levels.append(level)
                sibling = self.start(shop, "sibling", root["token"])
                quiet = Clients(shop, [levels[n % DEPTH]["token"]
                                       for n in range(SESSIONS - STREAMING)], SLEEP)
                siblings = Clients(shop, [sibling["token"]] * SIBLINGS, SLEEP)
                loud = Clients(shop, [level["token"]] * STREAMING, STREAM)
                began = time.monotonic()
                kill = subprocess.Popen(
                    [shop.gateway.program, "runs", "kill", top["run_id"]],
                    env=shop.gateway.client_env(), stdout=subprocess.DEVNULL)
                results = []
                watch = threading.Thread(
                    target=lambda: results.append(loud.wait_closed(began)))
                watch.start()
                mine, words = quiet.wait_closed(began)
                watch.join()
                kill.wait()
                closed += mine + results[0][0]
                last += words + results[0][1]
                assert len(mine) + len(results[0][0]) == SESSIONS
                hurt += SIBLINGS - siblings.alive()
                for clients in (quiet, siblings, loud):
                    clients.close()
                note(f"subtree {round_number + 1}: closed {max(closed):.2f} s, {hurt} hurt")
        self.figures["subtree_kill"] = {
            "sessions": SESSIONS, "depth": DEPTH, "rounds": self.rounds,
            "p50_s": percentile(last, 0.5), "p99_s": percentile(last, 0.99), "max_s": max(last),
            "closed_p99_s": percentile(closed, 0.99), "siblings_hurt": hurt}

    def survivors(self):
        """What lives five seconds after its parent ended, however that came about."""
        found = {}
        for name, end in (("planner kill -9", self.planner_killed),
                          ("wrapper kill -9", self.wrapper_killed),
                          ("gateway restart", self.gateway_restarted),
                          ("network cut", self.network_cut)):
            with self.shop() as shop:
                found[name] = end(shop)
            note(f"alive {GRACE_S} s after: {name}: {found[name]}")
        self.figures["survivors"] = found

    def left(self, shop, clients):
        """Sessions alive, or backends at the target, after the time of grace."""
        time.sleep(GRACE_S)
        alive = max(clients.alive(), self.running(shop))
        clients.close()
        return alive

    def wrapped(self, shop, more=None):
        """A planner under `corral run`, with executors of child runs that hold 50 sessions."""
        # The planner prints its token, which its executors' runs are started with.
        process = shop.gateway.background(
            "run", "--name", "planner", "--", "sh", "-c",
            "echo $$ $CORRAL_TOKEN; exec sleep 600", token=shop.workload(),
            start_new_session=True, env=more)
        pid, token = process.stdout.readline().split()
        children = [self.start(shop, f"executor-{n}", token) for n in range(10)]
        clients = Clients(shop, [children[n % 10]["token"] for n in range(50)], SLEEP)
        wait_until(lambda: self.running(shop) == 50, "the queries run")
        return process, int(pid), clients

    def planner_killed(self, shop):
        process, pid, clients = self.wrapped(shop)
        os.kill(pid, signal.SIGKILL)
        left = self.left(shop, clients)
        process.wait()
        return left

    def wrapper_killed(self, shop):
        process, pid, clients = self.wrapped(shop)
        process.kill()
        left = self.left(shop, clients)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        return left

    def gateway_restarted(self, shop):
        """The parent's time passes while the gateway is away; its children must not come back."""
        root = shop.gateway.json("runs", "start", "--name", "root", "--ttl", f"{TTL_S}s",
                                 token=shop.workload())
        started = time.monotonic()
        child = self.start(shop, "child", root["token"])
        clients = Clients(shop, [child["token"]] * 50, SLEEP)
        shop.gateway.kill_hard()
        time.sleep(max(0, started + TTL_S - time.monotonic()))
        shop.gateway.start()
        time.sleep(GRACE_S)
        alive = clients.alive() + self.running(shop)
        clients.close()
        try:
            Clients(shop, [child["token"]], SLEEP).close()
            alive += 1
        except Exception as error:
            assert "28P01" in str(error), error
        return alive

    def network_cut(self, shop):
        """Between the wrapper and the gateway: no end of a connection reaches either."""
        api = urllib.parse.urlsplit(shop.gateway.ready["api"])
        with Network((api.hostname, api.port)) as network:
            through = f"https://{api.hostname}:{network.address[1]}"
            process, pid, clients = self.wrapped(shop, {"CORRAL_GATEWAY": through})
            network.cut()
            left = self.left(shop, clients)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return left

    # -- figures of others

    def other(self, module, what):
        """`measure(quick)` of a file beside this one: a dictionary of figures."""
        try:
            self.figures[what] = importlib.import_module(module).measure(self.quick)
        except (OSError, AssertionError, subprocess.SubprocessError) as error:
            self.figures[what] = {"failed": str(error)[:300]}

    def close(self):
        self.server.stop()


def attribution_rows(found):
    added = found["connection"]["attribution_ms_p99"]
    yield ("added to a connection by attribution", "p99 ≤ 1 ms", f"p99 {added:.2f} ms", added <= 1)
    seen = found["executors_recognised"]
    yield ("executors recognised of 50 forked on one token", "50", str(seen), seen == 50)
    sessions = found["sessions_with_root_planner_executor"]
    share = f"{sessions['whole']} of {sessions['sessions']}"
    yield ("sessions with a verified root, planner and executor", "all", share,
           0 < sessions["whole"] == sessions["sessions"])
    for whom in ("planner", "wrapper"):
        alive = found[f"kill_{whom}"]["alive_after_5_s"]
        yield (f"alive 5 s after: {whom} of 50 forks kill -9", "0", str(alive), alive == 0)


def exchange_rows(found):
    for case, figures in found.items():
        yield (f"token exchange, {case}, {figures['rate']:.0f} a second", "p99 ≤ 5 ms",
               f"p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms",
               figures["p99_ms"] <= 5)


OTHER_ROWS = {"attribution": attribution_rows, "token_exchange": exchange_rows}


def table(figures):
    rows = []
    if (offboarding := figures.get("offboarding")):
        rows.append((f"offboarding to last socket and last query, {SESSIONS} sessions", "p99 ≤ 5 s",
                     f"p50 {offboarding['p50_s']:.2f} s, p99 {offboarding['p99_s']:.2f} s",
                     offboarding["p99_s"] <= 5))
    if (subtree := figures.get("subtree_kill")):
        rows.append((f"subtree kill to last byte, depth {DEPTH}, {SESSIONS} sessions",
                     "p99 ≤ 1 s, 0 hurt",
                     f"p50 {subtree['p50_s']:.2f} s, p99 {subtree['p99_s']:.2f} s, "
                     f"{subtree['siblings_hurt']} hurt",
                     subtree["p99_s"] <= 1 and subtree["siblings_hurt"] == 0))
    for name, alive in figures.get("survivors", {}).items():
        rows.append((f"alive {GRACE_S} s after the parent ended: {name}", "0", str(alive),
                     alive == 0))
    for what in ("attribution", "token_exchange"):
        found = figures.get(what)
        if found and "failed" in found:
            rows.append((what, "", f"failed: {found['failed']}", False))
        elif found:
            rows += OTHER_ROWS[what](found)
    width = max(len(row[0]) for row in rows)
    goal = max(len(row[1]) for row in rows)
    for name, wanted, shown, is_good in rows:
        print(f"{name:<{width}}  {wanted:<{goal}}  {shown}{'' if is_good else '  MISSED'}")
    return all(row[3] for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of each")
    parser.add_argument("--only", action="append", choices=["offboarding", "subtree", "survivors",
                                                            "attribution", "token_exchange"])
    arguments = parser.parse_args()
    bench = Bench(arguments.quick)
    wanted = arguments.only or ["offboarding", "subtree", "survivors", "attribution",
                                "token_exchange"]
    try:
        for name in wanted:
            if name in ("attribution", "token_exchange"):
                bench.other(name, name)
            else:
                getattr(bench, name)()
    finally:
        bench.close()
    is_good = table(bench.figures)
    out = ROOT / "target" / "bench-runs.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"figures": bench.figures, "cores": os.cpu_count()}, indent=1) + "\n")
    print(f"written to {out}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
