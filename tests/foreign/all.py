#!/usr/bin/env python3
"""Every foreign suite of PostgreSQL, one after the other, and their sum."""

import argparse
import pathlib
import re
import subprocess
import sys
import time

from places import NEWER

HERE = pathlib.Path(__file__).resolve().parent
OLDEST_SUITES = [
    ["drivers.py", "psycopg2"],
    ["drivers.py", "pg8000"],
    ["drivers.py", "asyncpg"],
    ["drivers.py", "sqlalchemy"],
    ["clients.py"],
    ["pgx.py"],
    ["tokio_postgres.py"],
    ["syntax.py", "--server", "15"],
    ["regress.py", "regress"],
    ["regress.py", "isolation"],
]
# What the gateway has to do something about: large objects, encodings, notifications, cancels,
# COPY, cursors, portals. A minute.
SHORT = [
    ["drivers.py", "psycopg2", "tests/test_lobject.py", "tests/test_quote.py",
     "tests/test_cancel.py", "tests/test_notify.py", "tests/test_copy.py", "tests/test_errcodes.py"],
    ["drivers.py", "asyncpg", "tests/test_cursor.py", "tests/test_copy.py"],
    ["drivers.py", "pg8000", "test/native/test_query.py", "test/native/test_prepared_statement.py"],
]


def on_newer(version):
    """What runs against a newer server, too."""
    parts = [*SHORT, ["clients.py"], ["tokio_postgres.py"], ["syntax.py"]]
    return [[script, "--server", str(version), *words] for script, *words in parts]


SUITES = OLDEST_SUITES + [words for version in NEWER for words in on_newer(version)]
RESULT = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--short", action="store_true", help="a part that takes a minute")
    arguments.add_argument("--server", type=int, choices=NEWER, help="what this newer server is for")
    options = arguments.parse_args()
    sums, bad = [0, 0], []
    suites = SHORT if options.short else SUITES
    if options.server:
        suites = on_newer(options.server)
    began = time.monotonic()
    for script, *words in suites:
        print(f"== {' '.join([script, *words])}", flush=True)
        done = subprocess.run([sys.executable, HERE / script, *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True, errors="replace")
        print(done.stdout, end="", flush=True)
        found = RESULT.findall(done.stdout)
        for passed, failed in found[-1:]:
            sums = [sums[0] + int(passed), sums[1] + int(failed)]
        if done.returncode or not found:
            bad.append(" ".join([script, *words]))
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    print(f"{sums[0]} passed, {sums[1]} failed" + (f" in {', '.join(bad)}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
