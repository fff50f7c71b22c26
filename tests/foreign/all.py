#!/usr/bin/env python3
"""Every foreign suite of PostgreSQL, one after the other, and their sum."""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SUITES = [
    ["drivers.py", "psycopg2"],
    ["drivers.py", "pg8000"],
    ["drivers.py", "asyncpg"],
    ["clients.py"],
]
RESULT = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


def main():
    sums, bad = [0, 0], []
    for script, *words in SUITES:
        print(f"== {' '.join([script, *words])}", flush=True)
        done = subprocess.run([sys.executable, HERE / script, *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True, errors="replace")
        print(done.stdout, end="", flush=True)
        found = RESULT.findall(done.stdout)
        for passed, failed in found[-1:]:
            sums = [sums[0] + int(passed), sums[1] + int(failed)]
        if done.returncode or not found:
            bad.append(" ".join([script, *words]))
    print(f"{sums[0]} passed, {sums[1]} failed" + (f" in {', '.join(bad)}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
