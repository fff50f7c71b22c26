#!/usr/bin/env python3
"""What telling processes apart costs and does: time for each connection beside one with a token,
executors recognised of fifty that were forked on one token, sessions left when planner or wrapper
are killed."""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
os.environ.setdefault("CORRAL_BIN", str(TARGET / "corral"))
sys.path.insert(0, str(ROOT / "tests"))

from harness.postgres import RealPostgres  # noqa: E402
from harness.shop import Shop  # noqa: E402

FORKS = 50
ALIVE_AFTER_S = 5

# Opens connections by turns: through the wrapper, and with the token at the listener.
CONNECTS = """
import json, os, socket, sys, time, psycopg
rounds, direct = int(sys.argv[1]), sys.argv[2]
def timed(dsn):
    started = time.perf_counter()
    connection = psycopg.connect(dsn)
    took = time.perf_counter() - started
    connection.close()
    return took * 1000
def asked():
    # Whose this connection is, and nothing more: it is answered without the gateway.
    started = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(os.environ["CORRAL_CONTROL"])
        assert control.recv(4096).startswith(b"token ")
    return (time.perf_counter() - started) * 1000
timed(direct)
first = timed("")
attributed = [asked() for _ in range(rounds)]
pairs = [(timed(""), timed(direct)) for _ in range(rounds)]
print(json.dumps({"first": first, "attributed": attributed, "pairs": pairs}))
"""

EXECUTORS = """
import os, sys, psycopg
ready = os.pipe()
for n in range(int(sys.argv[1])):
    if os.fork() == 0:
        connection = psycopg.connect("", autocommit=True)
        connection.execute("select 1")
        os.write(ready[1], b".")
        sys.stdin.read()
        os._exit(0)
seen = b""
while len(seen) < int(sys.argv[1]):
    seen += os.read(ready[0], 100)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def quantile(values, part):
    return statistics.quantiles(values, n=100, method="inclusive")[part - 1]


def wrapped(shop, name, script, *arguments, below=()):
    """`below`: names of runs that it is started in, each by a wrapper of its own."""
    words = [word for each in (*below, name) for word in
             (shop.gateway.program, "run", "--name", each, "--target", "plain-db", "--")]
    return subprocess.Popen(
        [*words, sys.executable, "-c", script, *map(str, arguments)],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=shop.gateway.client_env(shop.workload()) | {"RUST_LOG": "debug"},
        start_new_session=True)


def connections(shop, rounds, starts):
    """Milliseconds: until it is known whose a connection is (a round trip to the wrapper, upper
    bound of attribution itself), what a whole connection takes more through the wrapper than one
    with a token, and what a process's first one takes, for which its run is made."""
    # Where the listener is; the token is in the environment already.
    host, port = shop.gateway.address()
    direct = f"host={host} port={port} dbname=plain-db"
    added, through, by_token, attributed, firsts = [], [], [], [], []
    for n in range(starts):
        process = wrapped(shop, f"connects-{n}", CONNECTS, rounds if n == 0 else 1, direct)
        found = json.loads(process.communicate(timeout=300)[0])
        firsts.append(found["first"])
        if n == 0:
            through = [one for one, _ in found["pairs"]]
            by_token = [other for _, other in found["pairs"]]
            attributed = found["attributed"]
            added = [one - other for one, other in found["pairs"]]
    return {
        "connections": rounds,
        "attribution_ms_p50": quantile(attributed, 50),
        "attribution_ms_p99": quantile(attributed, 99),
        "added_ms_p50": quantile(added, 50), "added_ms_p99": quantile(added, 99),
        "through_wrapper_ms_p50": quantile(through, 50),
        "through_wrapper_ms_p99": quantile(through, 99),
        "with_token_ms_p50": quantile(by_token, 50), "with_token_ms_p99": quantile(by_token, 99),
        "first_of_process_ms_p50": quantile(firsts, 50),
        "first_of_process_ms_max": max(firsts),
    }


def tree_of(shop, name):
    return next(run for run in shop.gateway.json("runs", "tree") if run["name"] == name)


def recognised(shop, forks=FORKS):
    """Executors that are active runs of their own, with one session each."""
    process = wrapped(shop, "planner", EXECUTORS, forks, below=["job"])
    process.stdout.readline()
    [planner] = tree_of(shop, "job")["children"]
    children = planner["children"]
    pids = {run["process"]["pid"] for run in children
            if run["state"] == "active" and run["sessions"] == 1}
    process.communicate(timeout=60)
    return len(pids)


def verified(shop):
    """Of all sessions that were opened in runs of executors: those whose path has root, planner
    and executor."""
    opened = [event for event in shop.gateway.events("--event", "session.opened", "--limit", "10000")
              if (event.get("run_path") or "").startswith("job/")]
    whole = [event for event in opened
             if event.get("principal") and event.get("sponsor")
             and event["run_path"].startswith("job/planner/")
             and len(event["run_path"].split("/")) == 3]
    return {"sessions": len(opened), "whole": len(whole)}


def alive_after_kill(shop, whom, forks=FORKS):
    """Sessions that are open five seconds after the planner or the wrapper was killed."""
    process = wrapped(shop, f"killed-{whom}", EXECUTORS, forks)
    planner = int(process.stdout.readline())
    before = len(shop.gateway.json("sessions", "list"))
    started = time.monotonic()
    os.kill(planner if whom == "planner" else process.pid, signal.SIGKILL)
    gone = None
    while time.monotonic() - started < ALIVE_AFTER_S:
        if gone is None and not shop.gateway.json("sessions", "list"):
            gone = time.monotonic() - started
        time.sleep(0.02)
    left = len(shop.gateway.json("sessions", "list"))
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(10)
    return {"before": before, "alive_after_5_s": left, "all_gone_after_s": gone}


def measure(quick):
    with RealPostgres() as server, Shop(server, rows="none") as shop:
        return {
            "connection": connections(shop, 200 if quick else 2000, 10 if quick else 50),
            "executors_recognised": recognised(shop),
            "sessions_with_root_planner_executor": verified(shop),
            "kill_planner": alive_after_kill(shop, "planner"),
            "kill_wrapper": alive_after_kill(shop, "wrapper"),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    print(json.dumps(measure(parser.parse_args().quick), indent=2))


if __name__ == "__main__":
    main()
