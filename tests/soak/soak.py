#!/usr/bin/env python3
"""Plays a mixed load on a gateway for some time: memory and descriptors stay flat, the record verifies,
every session is closed with a reason, every statement that was allowed has its end.

Queries, masked results, COPY, cancels, runs that are killed, statements denied and held, clients that
crash, and a target that crashes and comes back.
"""

import argparse
import collections
import json
import logging
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness.waiting import DeadlinePassed, wait_until  # noqa: E402
from loads import LOADS  # noqa: E402
from samples import (  # noqa: E402
    GROWTH_DESCRIPTORS_MAX, GROWTH_MIB_MAX, Samples, descriptors, rss_mib,
)
from stage import Stage  # noqa: E402

# Between two outages of the target.
OUTAGE_INTERVAL_S = 25
# Sessions of clients that are gone end when their target's answer or silence says so.
QUIET_DEADLINE_S = 60
# Of a command that reads the whole record of half an hour.
RECORD_DEADLINE_S = 600
# Once all are gone: a connection to the store may be kept, or opened meanwhile.
IDLE_DESCRIPTORS_MAX = 4
# How a session may end here. Anything else is a fault.
REASONS = {"client", "target", "killed"}
LOG_CHARACTERS = 8000


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, what, is_good, detail=""):
        self.passed, self.failed = self.passed + bool(is_good), self.failed + (not is_good)
        print(f"{'ok' if is_good else 'FAILED'}: {what}{': ' if detail else ''}{detail}", flush=True)


def play(stage, seconds):
    """All loads side by side, with an outage now and then."""
    players = [threading.Thread(target=stage.play, args=(load.__name__, load))
               for load, count in LOADS.items() for _ in range(count)]
    for player in players:
        player.start()
    end = time.monotonic() + seconds
    outages = [stage.crash_target, stage.crash_backend]
    try:
        while time.monotonic() < end:
            # None near the end: what is excused then could hide what is not.
            time.sleep(min(OUTAGE_INTERVAL_S, max(0, end - time.monotonic())))
            if time.monotonic() + OUTAGE_INTERVAL_S < end:
                outages[0]()
                outages.reverse()
    finally:
        stage.is_over.set()
        for player in players:
            player.join()


def sessions_are_gone(stage):
    return not stage.gateway.json("sessions", "list")


def check_record(stage, checks):
    gateway = stage.gateway
    exported = gateway.folder / "events.jsonl"
    gateway.run("audit", "export", "--out", exported, deadline_s=RECORD_DEADLINE_S)
    opened, closed, reasons = set(), collections.Counter(), collections.Counter()
    allowed, completed = collections.Counter(), collections.Counter()
    with open(exported) as lines:
        for event in map(json.loads, lines):
            session = event.get("session")
            match event["event"]:
                case "session.opened":
                    opened.add(session)
                case "session.closed":
                    closed[session] += 1
                    reasons[event["reason"]] += 1
                case "statement.completed":
                    completed[session] += 1
                case "statement.decided":
                    allowed[session] += event["outcome"] == "allow"
    checks.check("every session is closed once", opened and closed == dict.fromkeys(opened, 1),
                 f"{len(opened)} sessions")
    checks.check("with a reason that this load gives", set(reasons) <= REASONS,
                 ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())))
    checks.check("every allowed statement has its end", allowed == completed,
                 f"{sum(allowed.values())} allowed, {sum(completed.values())} ended")
    verified = gateway.run("audit", "verify", gateway.data / "record",
                           "--key", gateway.data / "record.pub", expect=None,
                           deadline_s=RECORD_DEADLINE_S)
    checks.check("the record verifies", verified.returncode == 0,
                 (verified.stdout + verified.stderr).strip())


def notable(log):
    return [line for line in log.splitlines() if " INFO " not in line]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=180)
    options = arguments.parse_args()
    # psycopg tells of connections that break, which is what this is about.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    checks = Checks()
    with Stage() as stage:
        pid = stage.gateway.pid
        before = descriptors(pid)
        with Samples(pid) as samples:
            play(stage, options.seconds)
        first, second = samples.halves()
        for what, number in sorted(stage.done.items()):
            print(f"{number} {what}")
        print(f"lost with the target and played again: {sum(stage.excused.values())}")
        for load, _ in LOADS.items():
            checks.check(f"{load.__name__} were played", load.__name__ in stage.finished)
        checks.check("nothing failed that nobody caused", not stage.faults,
                     "\n  ".join(["", *stage.faults]) if stage.faults else "")
        checks.check(f"memory is flat (+{GROWTH_MIB_MAX} MiB)",
                     second[0] - first[0] <= GROWTH_MIB_MAX,
                     f"{first[0]:.1f} MiB, then {second[0]:.1f} MiB")
        checks.check(f"descriptors are flat (+{GROWTH_DESCRIPTORS_MAX})",
                     second[1] - first[1] <= GROWTH_DESCRIPTORS_MAX,
                     f"{first[1]:.0f}, then {second[1]:.0f}")
        try:
            wait_until(lambda: sessions_are_gone(stage), "no session is left", QUIET_DEADLINE_S)
            wait_until(lambda: descriptors(pid) <= before + IDLE_DESCRIPTORS_MAX,
                       "descriptors are as before", QUIET_DEADLINE_S)
        except DeadlinePassed as error:
            print(error)
        checks.check("nothing is left of clients that are gone",
                     sessions_are_gone(stage) and descriptors(pid) <= before + IDLE_DESCRIPTORS_MAX,
                     f"{before} descriptors before, {descriptors(pid)} after, "
                     f"{rss_mib(pid):.1f} MiB")
        checks.check("the gateway is the one that was started", stage.gateway.process.poll() is None)
        check_record(stage, checks)
        if checks.failed:
            print("the gateway's log, but for what it tells of each run, ends with")
            print("\n".join(notable(stage.gateway.log()))[-LOG_CHARACTERS:])
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
