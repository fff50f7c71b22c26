#!/usr/bin/env python3
"""The founding story, played with a real PostgreSQL, a real sshd, a real OpenID provider, a
CI system that signs tokens for its jobs, stock clients and real agent processes.

Every step prints what happens and what Corral did about it, and checks that it did. The demo
exits non-zero when a step does not happen, and leaves nothing running unless --keep is given.
"""

import argparse
import os
import pathlib
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from harness.ci import GitHubActions  # noqa: E402
from harness.gateway import CommandFailed, Gateway, binary  # noqa: E402
from harness.oidc import RealProvider  # noqa: E402
from harness.postgres import RealPostgres  # noqa: E402
from harness.sshd import RealSshd  # noqa: E402
from harness.waiting import DeadlinePassed, wait_until  # noqa: E402
from people import Person  # noqa: E402

CUSTOMERS_SECRETS = ("123-45-6789", "987-65-4321", "555-44-3333", "222-33-4444",
                     "4111111111111111", "5500005555555559", "340000000000009",
                     "6011000000000004")
SESSIONS_MAX = 8
WATCHERS = 3
LINES_SHOWN = 40
# Who pushed: the name may change, the number is the account's for ever.
SAM = {"actor": "sam-codes", "actor_id": "90125"}
ADA = {"actor": "ada", "actor_id": "583231"}

COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


def heading(number, text):
    print(f"\n{paint('1;36', f'━━ {number}. {text} ')}{paint('36', '━' * max(3, 74 - len(text)))}")


def tell(text):
    print(text)


def command(text):
    print(paint("1", f"  $ {text}"))


def show(text, lines=LINES_SHOWN):
    all_lines = text.rstrip().splitlines()
    for line in all_lines[:lines]:
        print(paint("90", "  │ ") + line)
    if len(all_lines) > lines:
        print(paint("90", f"  │ … {len(all_lines) - lines} more lines"))


class StepFailed(Exception):
    """Something that the story promises did not happen."""


def check(condition, what):
    if not condition:
        raise StepFailed(what)
    print(f"  {paint('32', '✔')} {what}")


class Demo:
    def __init__(self):
        self.out = pathlib.Path(tempfile.mkdtemp(prefix="corral-demo-"))
        self.secrets = {"DEMO_DATABASE_PASSWORD": secrets.token_urlsafe(16)}
        self.ci = None
        self.server = None
        self.host = None
        self.gateway = None
        self.provider = None
        self.planner = None
        self.targets = ["orders-db", "web-1"]
        # What an executor holds open, beside the watchers at the database.
        self.followers = 1

    # -- the stage

    def set_up(self):
        heading(0, "A database and a host, and a gateway in front of them")
        self.server = RealPostgres()
        password = self.secrets["DEMO_DATABASE_PASSWORD"]
        self.server.execute(f"create role svc_agents login password '{password}'")
        self.server.execute("create database orders owner svc_agents")
        with self.server.connect("orders") as connection:
            connection.execute("set role svc_agents")
            connection.execute((HERE / "schema.sql").read_text())
        self.ci = GitHubActions()
        self.host = RealSshd()
        files = self.host.folder / "files"
        (files / "secrets").mkdir(parents=True)
        (files / "notes.txt").write_text("restock on Monday\n")
        (files / "secrets" / "database.env").write_text("PASSWORD=hunter2\n")
        self.gateway = Gateway()
        # Who somebody is, the company's provider knows: that grace is a DBA, too.
        self.provider = RealProvider(self.gateway.ready["api"], groups=("dba",))
        self.provider.start(self.gateway.ready["ca_file"])
        (self.out / "provider.yaml").write_text(self.provider.manifest())
        shutil.copy(self.host.folder / "user_key", self.out)
        for name in ("shop.yaml", "shop.cedar"):
            self.fill_in(name, {
                "@PORT@": self.server.port, "@SSH_PORT@": self.host.port,
                "@SSH_USER@": self.host.user, "@HOST_KEY@": self.host.host_key,
                "@HOST_FOLDER@": files, "@CI@": self.ci.url})
        command("corral apply -f shop.yaml -f provider.yaml")
        env = self.gateway.client_env() | self.secrets
        show(self.gateway.run("apply", "-f", self.out / "shop.yaml",
                              "-f", self.out / "provider.yaml", env=env).stdout)
        listeners = self.gateway.ready["listeners"]
        tell(f"  PostgreSQL on 127.0.0.1:{self.server.port}, sshd on port {self.host.port}, "
             f"Corral on {listeners['postgres']} and {listeners['ssh']}. "
             "Agents know only Corral.\n"
             f"  People sign in at an OpenID provider on {self.provider.issuer}; a CI system on "
             f"{self.ci.url} signs for each of its jobs what the job is and who started it.")

    def fill_in(self, name, places):
        text = (HERE / name).read_text()
        for place, value in places.items():
            text = text.replace(place, str(value))
        (self.out / name).write_text(text)

    def corral(self, *arguments, token=None, expect=0, lines=LINES_SHOWN):
        """Runs a command in front of everybody."""
        command("corral " + " ".join(shlex.quote(str(word)) for word in arguments))
        result = self.gateway.run(*arguments, token=token, expect=expect)
        show(result.stdout + result.stderr, lines)
        return result

    # -- agents

    def job_env(self, job):
        env = self.gateway.client_env() | job
        # All that a job has is what its CI system signs for it.
        del env["CORRAL_TOKEN"]
        env["DEMO_PYTHON"] = sys.executable
        env["PATH"] = f"{binary().parent}:{env['PATH']}"
        env["DEMO_OUT"] = str(self.out)
        env["DEMO_HOST"] = str(self.host.folder / "files")
        return env

    def start_job(self, job):
        """The workflow's one step, in the environment that the CI system gives this job."""
        chosen = [word for target in self.targets for word in ("--target", target)]
        command('CORRAL_TOKEN=$(curl "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=corral" …)')
        command(f"corral run --name planner {' '.join(chosen)} -- planner.py")
        return subprocess.Popen(
            [HERE / "job.sh", *chosen], env=self.job_env(job), text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def plan(self, name, task, target="orders-db"):
        """The planner's next idea."""
        self.planner.stdin.write(f"{name} {target} {task}\n")
        self.planner.stdin.flush()

    def output(self, name):
        file = self.out / f"{name}.out"
        return file.read_text(errors="replace") if file.exists() else ""

    def is_done(self, name):
        return (self.out / f"{name}.done").exists()

    def finish(self, name, deadline_s=20):
        """What an executor printed and its exit code, when it has ended."""
        wait_until(lambda: self.is_done(name), f"{name} has ended", deadline_s)
        return self.output(name), int((self.out / f"{name}.done").read_text())

    def sessions(self):
        found = self.gateway.json("sessions", "list")
        return [session for session in found if session.get("state", "open") == "open"]

    def tree(self):
        return self.gateway.json("runs", "tree")

    # -- the story

    def play(self):
        self.set_up()
        self.step_1_offboarded()
        self.step_2_executors()
        self.step_3_masked()
        self.step_4_evasion()
        self.step_5_approval()
        self.step_6_host()
        self.step_7_too_many()
        self.step_8_offboarding()
        self.step_9_account()

    def step_1_offboarded(self):
        heading(1, "A contractor has left; the CI job that he started still runs")
        self.corral("users", "disable", "sam@contractor.example")
        tell("  The CI system does not know that, and signs for his job as it always did.")
        job = self.start_job(self.ci.start_job(**SAM))
        output, _ = job.communicate(timeout=20)
        show(output)
        check(job.returncode == 3 and "sam@contractor.example" in output,
              "the job's root run is refused: who answers for it is disabled")
        check(self.tree() == [], "no run exists, and no planner was started")
        (refused,) = self.gateway.events("--event", "run.refused")
        check(refused["principal"] == "nightly-report"
              and refused["sponsor"] == "sam@contractor.example",
              "the refusal is on record, with the job and the person")

    def step_2_executors(self):
        heading(2, "An active sponsor's job starts a planner, which starts executors")
        command("corral login")
        self.ada = Person("ada", self.provider, self.gateway)
        self.corral("whoami", token=self.ada.sign_in())
        job = self.ci.start_job(**ADA)
        self.planner = self.start_job(job)
        for number in range(1, WATCHERS + 1):
            self.plan(f"executor-{number}", "watch")
        try:
            wait_until(lambda: len(self.sessions()) == WATCHERS, "the executors are connected", 20)
        except DeadlinePassed:
            show("".join(self.output(f"executor-{n}") for n in range(1, WATCHERS + 1)))
            raise
        self.corral("sessions", "list")
        accounts = self.server.execute("select usename, count(*) from pg_stat_activity "
                                       "where datname = 'orders' and query ~ 'pg_sleep.300' "
                                       "and pid <> pg_backend_pid() group by 1")
        check(accounts == [("svc_agents", WATCHERS)],
              f"the database sees one account {WATCHERS} times: svc_agents")
        (root,) = [run for run in self.tree() if run["state"] == "active"]
        # The planner's process, seen by `corral run`; its executors are below it.
        (planner,) = root["children"]
        names = sorted(child["name"] for child in planner["children"])
        check(names == [f"executor-{n}" for n in range(1, WATCHERS + 1)],
              f"Corral sees {', '.join(names)} below {planner['name']}, for {root['sponsor']}")
        self.root = root["run_id"]
        copy = self.start_job(job)
        output, _ = copy.communicate(timeout=20)
        show(output)
        check(copy.returncode == 3, "another token of the same job starts nothing: one job, one root")

    def step_3_masked(self):
        heading(3, "An executor reads the customers")
        self.plan("reader", "read")
        output, code = self.finish("reader")
        show(output)
        check(code == 0 and "Ada Osei" in output and "4 rows" in output, "it reads the rows")
        check(not any(secret in output for secret in CUSTOMERS_SECRETS),
              "SSN and card number arrive masked")

    def step_4_evasion(self):
        heading(4, "One tries to read around the mask")
        self.plan("curious", "evade")
        output, code = self.finish("curious")
        show(output)
        check(code != 0 and "42501" in output and "corral:" in output,
              "a predicate on a masked column is denied, with the reason")
        check("Ada Osei" not in output, "and it learns nothing")

    def step_5_approval(self):
        heading(5, "One changes a table")
        self.plan("migrator", "alter")
        waiting = wait_until(
            lambda: [a for a in self.gateway.json("approvals", "list")
                     if a["state"] == "pending"], "the statement waits for approval", 20)
        check(not self.has_note() and not self.is_done("migrator"),
              "the statement is held: psql waits, the table is as it was")
        self.corral("approvals", "list")
        command("corral login")
        grace = Person("grace", self.provider, self.gateway).sign_in()
        check(self.gateway.json("whoami", token=grace)["groups"] == ["dba"],
              "grace signs in; that she is a DBA, the provider says")
        self.corral("approvals", "approve", waiting[0]["id"], "--reason", "reviewed, additive",
                    token=grace)
        output, code = self.finish("migrator")
        show(output)
        check(code == 0 and "ALTER TABLE" in output, "grace approves, and psql goes on")
        check(waiting[0]["statement"] == "alter table orders add column note text"
              and self.has_note(), "exactly the approved text ran")
        done = [event for event in self.gateway.events("--event", "statement.completed")
                if event.get("tag") == "ALTER TABLE"]
        check(len(done) == 1, "it ran once")

    def has_note(self):
        return bool(self.server.execute(
            "select 1 from pg_attribute where attrelid = 'orders'::regclass and attname = 'note' "
            "and not attisdropped", "orders"))

    def step_6_host(self):
        heading(6, "Another works on the host, with plain ssh and scp")
        self.plan("operator", "host", "web-1")
        output, _ = self.finish("operator")
        show(output)
        check("disk:" in output and "exit 0" in output, "its command runs")
        check("corral: no-reboot: Hosts are rebooted by their owners." in output
              and "exit 126" in output, "a reboot is denied, with the reason")
        check((self.out / "notes.txt").read_text() == "restock on Monday\n",
              "it fetches a file")
        check("host-secrets" in output and not (self.out / "database.env").exists(),
              "the directory with the secrets is closed to it")
        check("PRIVATE KEY" not in output and not list(self.out.glob("*/user_key")),
              "it never saw the key that the gateway logs in with")
        self.plan("follower", "follow", "web-1")
        wait_until(lambda: any("tail -f" in line for _, line in self.host.children()),
                   "the follower's command runs", 20)

    def step_7_too_many(self):
        heading(7, "One opens too many sessions")
        self.plan("hoarder", "hoard")
        wait_until(lambda: "sessions open" in self.output("hoarder"), "the hoarder is done", 30)
        show(self.output("hoarder"))
        may = SESSIONS_MAX - WATCHERS - self.followers
        check(f"{may} sessions open" in self.output("hoarder")
              and "corral:" in self.output("hoarder"),
              f"{may} more are let in, the next is refused")
        check(len(self.sessions()) == SESSIONS_MAX,
              f"exactly {SESSIONS_MAX} sessions are open: the limit of the job")

    def step_8_offboarding(self):
        heading(8, "The sponsor leaves")
        tell("  Her session at the provider ends, and the provider tells Corral so.")
        started = time.monotonic()
        self.ada.log_out()
        wait_until(lambda: not self.sessions(), "every session has ended", 10)
        busy = ("select 1 from pg_stat_activity where datname = 'orders' and state = 'active' "
                "and usename = 'svc_agents'")
        wait_until(lambda: not self.server.execute(busy), "the database is idle", 10)
        wait_until(lambda: not any("tail -f" in line for _, line in self.host.children()),
                   "the host is idle", 10)
        seconds = time.monotonic() - started
        for number in range(1, WATCHERS + 1):
            self.finish(f"executor-{number}")
        (gone,) = self.gateway.events("--event", "principal.suspended")
        check(gone["name"] == "ada@example.com" and gone["cause"] == "logout",
              "ada is suspended; neither she nor what she answers for can act")
        output, code = self.finish("executor-1")
        show(output)
        check(code != 0 and "57P01" in output, "the executors' psql is told why it ends")
        check(True, f"{SESSIONS_MAX} sessions and what they ran at the targets ended "
                    f"in {seconds:.1f} s")

        def states(runs):
            return [state for run in runs for state in (run["state"], *states(run["children"]))]

        check("active" not in states(self.tree()), "every run of the tree has ended")
        self.finish("hoarder")
        self.plan("latecomer", "read")
        output, code = self.finish("latecomer")
        show(output)
        check(code == 3, "the planner still lives, and can start nothing more")
        self.planner.stdin.close()
        self.planner.wait(20)

    def step_9_account(self):
        heading(9, "What happened, from the record")
        tree = self.corral("runs", "tree").stdout
        check(all(name in tree for name in ("planner", "executor-1", "curious", "operator", "hoarder")),
              "the tree names everybody")
        replay = self.corral("replay", self.root).stdout
        check(all(text in replay for text in ("where ssn like", "alter table", "sudo reboot")),
              "one replay holds what was tried and what was done, on both targets")
        check(not any(secret in replay for secret in CUSTOMERS_SECRETS),
              "and no value that was masked")
        data = self.gateway.data
        result = self.corral("audit", "verify", data / "record", "--key", data / "record.pub")
        check(result.stdout.startswith("ok:"), "the record verifies, with its public key alone")

    # -- the end

    def keep(self):
        """Leaves everything up, and says how to reach it."""
        self.gateway.run("users", "enable", "ada@example.com")
        host, port = self.gateway.address()
        data = self.gateway.data
        print(f"""
Still running. Try, with `corral` from {binary().parent}:

  corral --data {data} runs tree
  corral --data {data} run --for nightly-report --name me --target orders-db -- psql
  corral --data {data} audit tail

PostgreSQL behind it: 127.0.0.1:{self.server.port}; Corral's listener: {host}:{port}
To end: kill {self.gateway.pid} {self.server.process.pid} {self.host.process.pid} {self.provider.process.pid}
        rm -r {self.gateway.folder} {self.server.folder} {self.host.folder} {self.out}""")

    def tear_down(self):
        if self.planner and self.planner.poll() is None:
            # The planner and its executors are one process group.
            os.killpg(self.planner.pid, 9)
            self.planner.wait()
        if self.gateway:
            self.gateway.close()
        if self.ci:
            self.ci.close()
        if self.provider:
            self.provider.close()
        if self.host:
            self.host.close()
        if self.server:
            self.server.stop()
        shutil.rmtree(self.out, ignore_errors=True)


def main(kind=Demo):
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keep", action="store_true", help="leave everything running")
    options = arguments.parse_args()
    started = time.monotonic()
    demo = kind()
    is_kept = False
    try:
        demo.play()
        print(f"\n{paint('1;32', 'Every step happened')}, "
              f"in {time.monotonic() - started:.0f} seconds.")
        if options.keep:
            demo.keep()
            is_kept = True
        return 0
    except (StepFailed, CommandFailed, DeadlinePassed) as failure:
        print(f"\n{paint('1;31', 'This did not happen')}: {failure}", file=sys.stderr)
        if demo.gateway:
            print("The gateway's last words:\n" + demo.gateway.log()[-2000:], file=sys.stderr)
        return 1
    finally:
        if not is_kept:
            demo.tear_down()


if __name__ == "__main__":
    sys.exit(main())
