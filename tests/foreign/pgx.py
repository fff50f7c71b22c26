#!/usr/bin/env python3
"""What a Go application does by way of pgx prints the same both ways, line by line."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from both_ways import HERE, WAYS, as_printed, compare, way

SOURCES = HERE / "pgx"
# By line: why it differs through the gateway.
DIFFERS = {}


def build(folder):
    program = folder / "pgx"
    done = subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCES, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          env=os.environ | {"GOFLAGS": "-mod=readonly"})
    if done.returncode:
        sys.exit(f"pgx cannot be built:\n{done.stderr}")
    return program


def main():
    if not shutil.which("go"):
        sys.exit("Go is missing: pgx cannot be built")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-pgx-"))
    try:
        program, results = build(folder), {}
        for name in WAYS:
            with way(name) as one_way:
                code, output = one_way.run([program])
                one_way.keep("pgx", output)
                lines = output.splitlines() + [f"exit code {code}"]
                results[name] = {f"line {number}": line for number, line in enumerate(lines, 1)}
        return compare("pgx", *as_printed(*(results[name] for name in WAYS)), DIFFERS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
