#!/usr/bin/env python3
"""The suites of psycopg2, pg8000, asyncpg and SQLAlchemy, directly and through the gateway."""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import urllib.parse

from both_ways import HERE, WAYS, compare, run_pytest, way
from places import CACHE, VERSIONS

RERUNS = 2

# By suite and test: why it differs through the gateway.
TOKEN = "makes an account at the server and logs in as that: the gateway takes tokens"
DIFFERS = {
    "psycopg2": {},
    "pg8000": {
        "test.dbapi.test_connection::test_password_bytes": TOKEN,
        "test.legacy.test_connection::testBytesPassword": TOKEN,
        "test.native.test_connection::test_bytes_password": TOKEN,
    },
    "asyncpg": {},
    "sqlalchemy": {},
}
# By suite and test: why it differs when one side is faster than the other.
LARGER = "sends larger and larger statements until one has to wait: none above 8 MiB is taken"
SOMETIMES = {
    "psycopg2": {
        "tests.test_async.AsyncTests::test_flush_on_write": LARGER,
        "tests.test_green.GreenTestCase::test_flush_on_write": LARGER,
    },
    "asyncpg": {
        "tests.test_execute.TestExecuteMany::test_executemany_server_failure_during_writes":
            "counts what it could send before the error came: there is room on one more way",
    },
}


def psycopg2(one_way, folder, words):
    one_way.server.execute("create database psycopg2_test")
    one_way.server.execute("create extension hstore", "psycopg2_test")
    return run_pytest(one_way, words or ["tests"], folder)


def pg8000(one_way, folder, words):
    one_way.server.execute("create extension hstore")
    shutil.copy(HERE / "pg8000_tls.py", folder)
    # The folders `auth` want servers that are set up for each way to log in.
    words = words or ["test", *(f"--ignore=test/{part}/auth"
                                for part in ("dbapi", "legacy", "native"))]
    return run_pytest(one_way, ["-p", "pg8000_tls", *words], folder, {"PYTHONPATH": str(folder)})


def asyncpg(one_way, folder, words):
    # The built package is the installed one.
    shutil.rmtree(folder / "asyncpg", ignore_errors=True)
    return run_pytest(one_way, words or ["tests"], folder)


def sqlalchemy(one_way, folder, words):
    for extension in ("hstore", "citext"):
        one_way.server.execute(f"create extension {extension}")
    for schema in ("test_schema", "test_schema_2"):
        one_way.server.execute(f"create schema {schema}")
    password = urllib.parse.quote(one_way.env["PGPASSWORD"], safe="")
    uri = f"postgresql+psycopg://postgres:{password}@127.0.0.1:{one_way.env['PGPORT']}/postgres"
    words = words or ["test/dialect/postgresql", "test/engine/test_reflection.py",
                      "test/engine/test_transaction.py", "test/sql/test_returning.py"]
    return run_pytest(one_way, ["--dburi", uri, *words], folder)


SUITES = {"psycopg2": psycopg2, "pg8000": pg8000, "asyncpg": asyncpg,
          "sqlalchemy": sqlalchemy}


def run(suite, words, version):
    results = {}
    for name in WAYS:
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"corral-{suite}-"))
        try:
            shutil.copytree(CACHE / suite, folder, dirs_exist_ok=True)
            with way(name, version=version) as one_way:
                results[name] = SUITES[suite](one_way, folder, words)
                one_way.keep(suite, json.dumps(results[name], indent=1))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return results


def files_of(names):
    """The suite's files that these tests are in."""
    found = set()
    for name in names:
        parts = name.split("::")[0].split(".")
        found |= {"/".join(parts[:count]) + ".py" for count in range(1, len(parts) + 1)
                  if parts[count - 1].startswith("test_")}
    return sorted(found)


def rerun(suite, results, differs, version):
    """What differs and is not listed runs again, twice at most: some tests fail now and then on a
    busy machine, in either way. What was the same once counts as the same."""
    for _ in range(RERUNS):
        names = [name for name, found in results["direct"].items()
                 if name not in differs and found[0] != results["corral"].get(name, ("",))[0]]
        if not names:
            return
        print(f"{suite}: again, to see whether it differs always: {', '.join(names)}")
        again = run(suite, files_of(names), version)
        for name in names:
            if all(name in again[way_name] for way_name in WAYS):
                for way_name in WAYS:
                    results[way_name][name] = again[way_name][name]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("suite", choices=SUITES)
    arguments.add_argument("tests", nargs="*", help="what pytest is to run instead of all")
    arguments.add_argument("--server", type=int, choices=VERSIONS,
                           help="the server's major version; the newest that is installed otherwise")
    options = arguments.parse_args()
    if not (CACHE / options.suite).exists():
        sys.exit(f"the suite of {options.suite} is missing in {CACHE}")
    results = run(options.suite, options.tests, options.server)
    differs = {} if options.tests else DIFFERS[options.suite]
    sometimes = {} if options.tests else SOMETIMES.get(options.suite, {})
    rerun(options.suite, results, differs | sometimes, options.server)
    return compare(options.suite, results["direct"], results["corral"], differs, sometimes)


if __name__ == "__main__":
    sys.exit(main())
