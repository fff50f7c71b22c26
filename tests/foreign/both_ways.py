"""What every foreign suite needs: a server of its own, reached directly and behind a gateway that permits
everything, and a comparison test by test.

The gateway listens for this one target, so that a suite keeps its own database names; its record is
`written`. Both ways speak TLS to the client. The direct result is the expectation. What differs on
purpose is listed by each script with its reason; a listed test that does not differ is an error too.
"""

import contextlib
import difflib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness.gateway import Gateway  # noqa: E402
from harness.postgres import (  # noqa: E402
    RealPostgres, bin_folder, certificate, free_port, server_user)
from places import CACHE, PYTHON, client_programs, server_programs  # noqa: E402

WAYS = ("direct", "corral")
# Where the results of each test are kept for a closer look; nowhere when absent.
OUTPUT = os.environ.get("CORRAL_FOREIGN_OUT")
# Of one suite, with a debug build on a busy machine.
DEADLINE_S = 3600
# Suites write it into connection strings without quotes.
PASSWORD = "superuser"

PERMIT_EVERYTHING = """
kind: User
name: dba@example.com
groups: [dba]
password: {{env: DBA_PASSWORD}}
---
kind: Target
name: foreign
protocol: postgres
address: 127.0.0.1:{port}
database: postgres
credential: {{username: postgres, password: {{env: TARGET_PASSWORD}}}}
record: {{durability: written}}
listen: 127.0.0.1:{listen}
---
kind: Policy
name: everything
cedar: |
  permit (principal in Corral::Group::"dba", action, resource in Corral::Target::"foreign");
"""


class Way:
    """One way to a server of its own; `env` is what libpq reads, `clients` the folder of psql."""

    def __init__(self, name, server, env, clients, gateway=None):
        self.name = name
        self.server = server
        self.env = env
        self.clients = clients
        self.gateway = gateway

    def run(self, words, cwd=None, more=None):
        """Runs a command of the suite; gives its exit code and what it said."""
        process = subprocess.Popen(
            list(map(str, words)), cwd=cwd, env=self.env | (more or {}), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output = process.communicate(timeout=DEADLINE_S)[0]
        except subprocess.TimeoutExpired:
            output = b"took too long"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode, output.decode(errors="replace")

    def must_connect(self):
        """What fails in both ways would look the same."""
        code, output = self.run([self.clients / "psql", "-X", "-c", "select 1"])
        if code:
            sys.exit(f"psql cannot connect, {self.name}:\n{output}")

    def make_schema(self):
        """A schema with one of everything, made by way of none of both."""
        direct = {"PGHOST": "127.0.0.1", "PGPORT": str(self.server.port), "PGUSER": "postgres",
                  "PGPASSWORD": self.server.password, "PGSSLMODE": "disable"}
        code, output = self.run([self.clients / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f",
                                 HERE / "schema.sql"], more=direct)
        if code:
            sys.exit(f"the schema cannot be made:\n{output}")
        self.must_connect()

    def keep(self, name, text):
        """Keeps raw results where CORRAL_FOREIGN_OUT says."""
        if OUTPUT:
            folder = pathlib.Path(OUTPUT)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}-{self.name}.txt").write_text(text)


def _clean_env():
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(("PG", "CORRAL_"))}
    return env | {"PGHOST": "127.0.0.1", "PGUSER": "postgres", "PGDATABASE": "postgres",
                  "PGCONNECT_TIMEOUT": "30"}


@contextlib.contextmanager
def _reachable(programs):
    """A server's folder as the server's account can enter it, which is not root's home."""
    if not server_user() or not programs.is_relative_to(CACHE):
        yield programs
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-server-"))
    try:
        shutil.copytree(programs.parent, folder / "native", symlinks=True)
        folder.chmod(0o755)
        yield folder / "native" / programs.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def way(name, settings=None, version=None):
    """A fresh server of this major version, or the newest that is installed, and the way to it."""
    programs = server_programs(version) if version else bin_folder()
    clients = client_programs(version) if version else programs
    with _reachable(programs) as programs, certificate() as (authority, tls), RealPostgres(
            settings=(settings or {}) | tls, password=PASSWORD, programs=programs) as server:
        env = _clean_env() | {"PGSSLMODE": "verify-full"}
        if name == "direct":
            yield Way(name, server, env | {"PGPORT": str(server.port), "PGPASSWORD": PASSWORD,
                                           "PGSSLROOTCERT": str(authority)}, clients)
            return
        listen = free_port()
        with Gateway() as gateway:
            gateway.apply(PERMIT_EVERYTHING.format(port=server.port, listen=listen),
                          env={"DBA_PASSWORD": "the DBA's password", "TARGET_PASSWORD": PASSWORD})
            token = gateway.login("dba@example.com", "the DBA's password")
            yield Way(name, server, env | {"PGPORT": str(listen), "PGPASSWORD": token,
                                           "PGSSLROOTCERT": gateway.ready["ca_file"]},
                      clients, gateway)


def run_pytest(one_way, words, cwd, more=None):
    """A suite that pytest runs: each test's outcome and the end of what it said."""
    report = one_way.server.folder / "junit.xml"
    _, output = one_way.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *words],
        cwd=cwd, more=more)
    if not report.exists():
        sys.exit(f"pytest said nothing to compare:\n{output[-3000:]}")
    results = {}
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome, text = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = {"failure": "failed"}.get(child.tag, child.tag)
                text = f"{child.get('message')}\n{child.text}"
        # A test that fails and whose teardown fails, too, is there twice.
        if results.get(name, ("passed",))[0] == "passed":
            results[name] = (outcome, text)
    return results


def as_printed(direct, through):
    """For `compare`: both map a test's name to what it printed; its outcome is whether that is the
    same both ways."""
    seen = {}
    for name, text in through.items():
        expected = direct.get(name, "")
        lines = difflib.unified_diff(expected.splitlines(), text.splitlines(), "direct", "corral",
                                     lineterm="", n=1)
        seen[name] = ("same" if text == expected else "different", "\n".join(lines))
    return {name: ("same", "") for name in direct}, seen


def summary(results):
    counts = {}
    for outcome, _ in results.values():
        counts[outcome] = counts.get(outcome, 0) + 1
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))


def compare(suite, direct, through, differs, sometimes=None):
    """Prints each difference and the sum; gives the exit code.

    `direct` and `through` map a test's name to its outcome and what it said. `differs` are those
    that have to differ, `sometimes` those that do or do not by how fast both sides are: with the
    reason of each.
    """
    sometimes = sometimes or {}
    passed, failed = 0, 0
    for name in sorted(direct.keys() | through.keys()):
        expected, seen = direct.get(name, ("missing", "")), through.get(name, ("missing", ""))
        is_same, reason = expected[0] == seen[0], differs.get(name)
        if name in sometimes:
            passed += 1
            if not is_same:
                print(f"{name}: differs this time: {sometimes[name]}")
            continue
        if is_same == (reason is None):
            passed += 1
            if reason:
                print(f"{name}: differs as listed: {reason}")
            continue
        failed += 1
        if is_same:
            print(f"{name}: listed as different, and is not")
        else:
            print(f"{name}: directly {expected[0]}, through the gateway {seen[0]}\n"
                  f"--- directly:\n{expected[1][-1500:]}\n"
                  f"--- through the gateway:\n{seen[1][-3000:]}")
    for name in sorted((differs.keys() | sometimes.keys()) - direct.keys() - through.keys()):
        failed += 1
        print(f"{name}: listed as different, and is no test")
    print(f"{suite}: directly {summary(direct)}; through the gateway {summary(through)}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
