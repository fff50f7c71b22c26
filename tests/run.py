#!/usr/bin/env python3
"""Runs every check and test of a change, in order, and sums them up in one closing line.

A step that fails does not stop the others, but for a build that fails: nothing can be run then.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
BANNED_CRATES = ("ring", "openssl-sys", "native-tls")
# Files side by side: they wait for servers more than they compute. Each worker has its own servers.
E2E_WORKERS = 3
# The half hour is `make soak`.
SOAK_S = 180
OTHER_TESTS = ("a Kubernetes cluster (make test-k8s, test-k8s-oldest)",
               "agent frameworks (make test-agents)",
               "OpenSSH's own scripts and its version 10 (make test-ssh)",
               "half an hour of mixed load (make soak)",
               "the suites of PostgreSQL and its drivers (make test-foreign)")
PYTEST_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)\b")


class Sum:
    """What passed, failed and was skipped, over all steps."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.left_out = []
        self.failed_steps = []

    def add(self, name, passed, failed, skipped, is_good):
        # A step that ends badly without naming a failed test is itself one.
        if not is_good and failed == 0:
            failed = 1
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        if failed:
            self.failed_steps.append(name)


def stream(command):
    """Runs a command, passes its output through, and gives its lines and exit code."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = []
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        lines.append(line.rstrip("\n"))
    return process.wait(), lines


def count_cargo(lines):
    counts = [0, 0, 0]
    for line in lines:
        match = CARGO_RESULT.match(line)
        if match:
            counts = [have + int(more) for have, more in zip(counts, match.groups())]
    return counts


def count_pytest(lines):
    summary = next((line for line in reversed(lines) if PYTEST_COUNT.search(line)), "")
    counts = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
    for number, word in PYTEST_COUNT.findall(summary):
        counts[word.rstrip("s") if word.startswith("error") else word] += int(number)
    return [counts["passed"], counts["failed"] + counts["error"], counts["skipped"]]


def run_step(total, name, command, count=None):
    """Runs one step. Without `count` the step is one check of its own."""
    print(f"\n=== {name}: {' '.join(command)}", flush=True)
    started = time.monotonic()
    code, lines = stream(command)
    passed, failed, skipped = count(lines) if count else [int(code == 0), 0, 0]
    total.add(name, passed, failed, skipped, code == 0)
    print(f"=== {name}: {'ok' if code == 0 else 'FAILED'}, {time.monotonic() - started:.0f} s")
    return code == 0


def check_bans(total):
    """One TLS library, one crypto library: nothing that is built may bring another."""
    for banned in BANNED_CRATES:
        words = ["cargo", "tree", "--workspace", "-e", "normal,build", "-i", banned]
        result = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
                                text=True)
        is_absent = not result.stdout.strip()
        print(f"=== {banned} is {'built by nothing' if is_absent else 'built:'}")
        if not is_absent:
            print(result.stdout)
        total.add(f"ban of {banned}", int(is_absent), 0, 0, is_absent)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--long", action="store_true", help="the long tests too")
    arguments.add_argument("--cluster", action="store_true",
                           help="only the tests with a Kubernetes cluster")
    arguments.add_argument("--agents", action="store_true",
                           help="only the tests with agent frameworks")
    options = arguments.parse_args()
    python = os.environ["CORRAL_PYTHON"]
    total = Sum()
    if options.cluster:
        run_step(total, "cluster", [python, "-m", "pytest", "-q", "-rs", "tests/k8s"],
                 count_pytest)
    elif options.agents:
        run_step(total, "agents", [python, "-m", "pytest", "-q", "-rs", "tests/agents"],
                 count_pytest)
    else:
        run_change(total, python, options)

    print()
    if total.failed_steps:
        print(f"failed: {', '.join(total.failed_steps)}")
    if total.skipped:
        print(f"{total.skipped} skipped, each named with its reason above")
    if total.left_out:
        print(f"left out: {', '.join(total.left_out)}")
    print(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed else 0


def run_change(total, python, options):
    """All that a change must pass."""
    run_step(total, "formatting", ["cargo", "fmt", "--check"])
    if run_step(total, "build", ["cargo", "build", "--workspace", "--bins"]):
        clippy = ["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]
        run_step(total, "clippy", clippy)
        check_bans(total)
        run_step(total, "tidy", ["cargo", "xtask", "tidy"])
        test = ["cargo", "test", "--workspace", "--no-fail-fast"]
        run_step(total, "unit and crate tests", test, count_cargo)
        # The documentation is for those who work here: links to private items are welcome.
        os.environ["RUSTDOCFLAGS"] = "-D warnings -A rustdoc::private_intra_doc_links"
        document = ["cargo", "doc", "--workspace", "--no-deps", "--document-private-items"]
        run_step(total, "documentation", document)
        side_by_side = ["-n", str(E2E_WORKERS), "--dist", "loadfile"]
        end_to_end = [python, "-m", "pytest", "-q", "-rs", *side_by_side, "tests/e2e"]
        if not options.long:
            end_to_end += ["-m", "not long"]
            total.left_out.append("tests that take long (make test-all)")
        total.left_out += OTHER_TESTS
        run_step(total, "end to end", end_to_end, count_pytest)
        run_step(total, "foreign suites, a part", [python, "tests/foreign/all.py", "--short"],
                 count_pytest)
        if options.long:
            run_step(total, "soak", [python, "tests/soak/soak.py", "--seconds", str(SOAK_S)],
                     count_pytest)
        run_step(total, "demo", [python, "demo/demo.py"])


if __name__ == "__main__":
    sys.exit(main())
