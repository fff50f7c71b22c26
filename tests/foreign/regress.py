#!/usr/bin/env python3
"""PostgreSQL 15's own regression and isolation tests, directly and through the gateway, file by file.

What is compared is what each test printed, not whether it is what PostgreSQL expects: the installed
server and psql may be newer than the tests.
"""

import argparse
import os
import pathlib
import re
import shutil
import sys
import tempfile

from both_ways import WAYS, as_printed, compare, way
from places import CACHE, DEBIANS, DEBIANS_PROGRAMS

SOURCES = CACHE / "postgresql"
RUNNERS = DEBIANS_PROGRAMS.parent / "lib" / "pgxs" / "src" / "test"
# A line of a runner for each test, alone or within a group.
VERDICT = re.compile(r"^(?:test | {5})(\S+) +\.\.\. (ok|FAILED|failed)", re.MULTILINE)

# By suite and test: why it differs through the gateway.
DIFFERS = {"regress": {}, "isolation": {}}
# By suite and test: why it differs now and then. Any further hop does the same to these.
REORDERED = "a session's notice may come before or after another session's answer"
SOMETIMES = {"regress": {}, "isolation": {
    "eval-plan-qual": REORDERED,
    "eval-plan-qual-trigger": REORDERED,
    "insert-conflict-specconflict": REORDERED,
}}


def suite_folder(suite, folder):
    """A copy of the tests that the server's account may read."""
    copy = folder / suite
    shutil.copytree(SOURCES / "src" / "test" / suite, copy)
    shutil.copytree(SOURCES / "lib", folder / "lib")
    # The runner makes them as its own otherwise, and the server writes into them.
    for name in ("results", "testtablespace"):
        (copy / name).mkdir(exist_ok=True)
    folder.chmod(0o755)
    return copy


def run(suite, one_way, tests):
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"corral-{suite}-", dir="/tmp"))
    try:
        copy = suite_folder(suite, folder)
        if one_way.server.user:
            # COPY to files is the server's.
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, one_way.server.user.pw_uid, one_way.server.user.pw_gid)
        runner = {"regress": RUNNERS / "regress" / "pg_regress",
                  "isolation": RUNNERS / "isolation" / "pg_isolation_regress"}[suite]
        schedule = {"regress": "parallel_schedule", "isolation": "isolation_schedule"}[suite]
        wanted = tests or [f"--schedule={copy / schedule}"]
        _, output = one_way.run(
            [runner, f"--inputdir={copy}", f"--outputdir={copy}", f"--dlpath={folder / 'lib'}",
             f"--bindir={DEBIANS_PROGRAMS}", "--host=127.0.0.1", f"--port={one_way.env['PGPORT']}",
             "--user=postgres", "--dbname=regression", "--max-connections=10", *wanted],
            cwd=copy)
        one_way.keep(suite, output)
        results = {}
        for name, _ in VERDICT.findall(output):
            printed = copy / "results" / f"{name}.out"
            text = printed.read_bytes().decode(errors="replace") if printed.exists() else "nothing"
            # Each way has a folder of its own, which errors name.
            text = text.replace(str(folder), "FOLDER")
            results[name] = text
            one_way.keep(f"{suite}-{name}", text)
        if not results:
            sys.exit(f"{suite} said nothing to compare:\n{output[-3000:]}")
        return results
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("suite", choices=DIFFERS)
    arguments.add_argument("tests", nargs="*", help="tests to run instead of the whole schedule")
    options = arguments.parse_args()
    if not SOURCES.exists():
        sys.exit(f"PostgreSQL's tests are missing in {SOURCES}: run .ci/setup suites")
    results = {}
    for name in WAYS:
        settings = {"max_prepared_transactions": "10"} if options.suite == "isolation" else {}
        with way(name, settings=settings, version=DEBIANS) as one_way:
            results[name] = run(options.suite, one_way, options.tests)
    differs = {} if options.tests else DIFFERS[options.suite]
    sometimes = {} if options.tests else SOMETIMES[options.suite]
    return compare(options.suite, *as_printed(*(results[name] for name in WAYS)), differs,
                   sometimes)


if __name__ == "__main__":
    sys.exit(main())
