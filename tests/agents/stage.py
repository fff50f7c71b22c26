"""Where the planners work: two databases and a host behind one gateway, and a job that may use
all of them."""

import os
import pathlib
import secrets
import subprocess
import sys

from harness.gateway import Gateway
from harness.postgres import RealPostgres
from harness.sshd import RealSshd

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "agents"
TASK = "restock report"
PLANNER_DEADLINE_S = 45
SECRET = "the nightly job's secret"
PASSWORD = "the password of a service account"
SECRETS_OF_CUSTOMERS = ("123-45-6789", "987-65-4321")
SCHEMA = """
create table customers (id int primary key, name text not null, ssn text not null);
insert into customers values (1, 'Ada', '123-45-6789'), (2, 'Grace', '987-65-4321');
create table shelves (id int primary key);
insert into shelves values (1);
"""

MANIFEST = """
kind: Target
name: orders-db
protocol: postgres
address: 127.0.0.1:{port}
database: orders
credential: {{username: svc_agents, password: {{value: "{password}"}}}}
classify: [{{columns: [public.customers.ssn], class: pii}}]
record: {{rows: full}}
---
kind: Target
name: payroll-db
protocol: postgres
address: 127.0.0.1:{port}
database: payroll
credential: {{username: svc_agents, password: {{value: "{password}"}}}}
---
kind: Target
name: web-1
protocol: ssh
address: 127.0.0.1:{ssh_port}
credential: {{username: {user}, private_key: {{file: {folder}/user_key}}}}
options: {{host_keys: ["{host_key}"]}}
---
kind: User
name: ada@example.com
groups: [platform]
---
kind: Workload
name: nightly-report
sponsor: ada@example.com
groups: [agents]
secret: {{value: "{secret}"}}
---
kind: Policy
name: agents
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write",
                     Corral::Action::"exec"],
          resource);
  @id("no-schema-changes") @reason("Agents change no schema.")
  forbid (principal, action in Corral::Action::"define", resource);
  @id("no-reboot") @reason("Hosts are rebooted by their owners.")
  forbid (principal, action == Corral::Action::"exec", resource in Corral::Target::"web-1")
  when {{ context has command && context.command like "*reboot*" }};
"""


class Stage:
    """`with Stage() as stage:` stops everything that it started."""

    def __init__(self):
        self.server = self.host = self.gateway = None
        try:
            self.server = RealPostgres({"log_statement": "all"})
            self.server.execute(f"create role svc_agents login password '{PASSWORD}'")
            for database in ("orders", "payroll"):
                self.server.execute(f"create database {database} owner svc_agents")
            with self.server.connect("orders") as connection:
                connection.execute("set role svc_agents")
                connection.execute(SCHEMA)
            self.host = RealSshd()
            self.gateway = Gateway()
            self.gateway.apply(MANIFEST.format(
                port=self.server.port, ssh_port=self.host.port, user=self.host.user,
                folder=self.host.folder, host_key=self.host.host_key, password=PASSWORD,
                secret=SECRET))
            self.job = self.gateway.login_workload("nightly-report", SECRET)
        except BaseException:
            self.close()
            raise

    def start(self, framework, model):
        """The example of a framework under `corral run`; gives its process and its run's name."""
        name = f"planner-{secrets.token_hex(4)}"
        env = self.gateway.client_env(self.job) | {
            "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none is needed",
            # What would leave the machine.
            "OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGSMITH_TRACING": "false",
            "NO_PROXY": "127.0.0.1", "EXECUTOR_LOGIN": self.host.user}
        program = EXAMPLES / f"{framework}_planner.py"
        process = subprocess.Popen(
            [self.gateway.program, "run", "--name", name, "--target", "orders-db", "--target",
             "web-1", "--", sys.executable, program, TASK],
            env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        return process, name

    def play(self, framework, model):
        """The example from its start to its end: what it printed, its exit code, its run."""
        process, name = self.start(framework, model)
        try:
            output, _ = process.communicate(timeout=PLANNER_DEADLINE_S)
        finally:
            self.end(process)
        return output, process.returncode, self.root(name)

    def end(self, process):
        if process.poll() is None:
            # `corral run` and its planner are one process group.
            os.killpg(process.pid, 9)
            process.wait()

    def root(self, name):
        """The planner's node of the tree, or None where there is none yet."""
        return next((run for run in self.gateway.json("runs", "tree") if run["name"] == name),
                    None)

    def events(self, root, *filters):
        """What is recorded of a run and those below it."""
        return self.gateway.events("--run", root["run_id"], *filters)

    def server_log(self):
        return (self.server.folder / "log").read_text(errors="replace")

    def close(self):
        for part, stop in ((self.gateway, "close"), (self.host, "close"), (self.server, "stop")):
            if part:
                getattr(part, stop)()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
