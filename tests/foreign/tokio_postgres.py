#!/usr/bin/env python3
"""What a Rust application does by way of tokio-postgres prints the same both ways, line by line."""

import argparse
import os
import pathlib
import subprocess
import sys

from both_ways import HERE, WAYS, as_printed, compare, way
from places import DEBIANS, VERSIONS

ROOT = HERE.parent.parent
# By line: why it differs through the gateway.
DIFFERS = {}


def build():
    done = subprocess.run(
        ["cargo", "build", "-q", "-p", "corral-testkit", "--example", "tokio_postgres"], cwd=ROOT,
        text=True, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        sys.exit(f"the example of tokio-postgres cannot be built:\n{done.stderr}")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "debug" / "examples" / "tokio_postgres"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--server", type=int, default=DEBIANS, choices=VERSIONS,
                           help="the server's major version")
    options = arguments.parse_args()
    program, results = build(), {}
    for name in WAYS:
        with way(name, version=options.server) as one_way:
            one_way.make_schema()
            code, output = one_way.run([program])
            one_way.keep("tokio_postgres", output)
            lines = output.splitlines() + [f"exit code {code}"]
            results[name] = {f"line {number}": line for number, line in enumerate(lines, 1)}
    return compare("tokio_postgres", *as_printed(*(results[name] for name in WAYS)), DIFFERS)


if __name__ == "__main__":
    sys.exit(main())
