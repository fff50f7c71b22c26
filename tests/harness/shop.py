"""A small shop: one database server, two targets on one gateway, its people and its rules.

`orders-db` holds customers with classified columns. `plain-db` holds nothing classified, and its
rules permit everything: clients are compared with a direct connection there.
"""

import secrets

import psycopg

from .gateway import Gateway

SCHEMA = """
create table customers (
    id int primary key, name text not null, email text, ssn text not null,
    card_number bigint not null, city text, created date not null default '2026-01-02'
);
insert into customers (id, name, email, ssn, card_number, city) values
    (1, 'Ada', 'ada@shop.example', '123-45-6789', 4111111111111111, 'London'),
    (2, 'Grace', 'grace@shop.example', '987-65-4321', 5500005555555559, 'New York'),
    (3, 'Edsger', null, '555-55-5555', 340000000000009, 'Rotterdam');
create table orders (
    id int primary key, customer_id int not null references customers, total numeric(10, 2),
    placed timestamptz not null default '2026-02-03 04:05:06+00'
);
insert into orders select n, 1 + n % 3, n * 1.5 from generate_series(1, 30) n;
create view customer_names as select id, name, city from customers;
"""
SECRETS_OF_CUSTOMERS = ("123-45-6789", "987-65-4321", "555-55-5555",
                        "4111111111111111", "5500005555555559", "340000000000009")

POLICY = """
kind: Policy
name: shop
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write",
                     Corral::Action::"define"],
          resource in Corral::Target::"orders-db");
  permit (principal in Corral::Group::"fraud",
          action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"unmask"],
          resource in Corral::Target::"orders-db");
  permit (principal in Corral::Group::"agents", action,
          resource in Corral::Target::"plain-db");
"""

# Apart from the rest, so that a test can do without it.
HOLD = """
kind: Policy
name: holds
cedar: |
  @id("schema-changes") @approval("dba") @reason("Schema changes need a DBA's approval.")
  forbid (principal, action in Corral::Action::"define",
          resource in Corral::Target::"orders-db");
"""

PEOPLE = """
kind: User
name: ada@example.com
groups: [agents, platform, dba]
password: {env: ADA_PASSWORD}
---
kind: User
name: grace@example.com
groups: [dba]
password: {env: GRACE_PASSWORD}
---
kind: User
name: frances@example.com
groups: [fraud]
password: {env: FRANCES_PASSWORD}
---
kind: User
name: nobody@example.com
password: {env: NOBODY_PASSWORD}
---
kind: Workload
name: nightly-report
sponsor: ada@example.com
groups: [agents]
secret: {env: NIGHTLY_SECRET}
"""

TARGET = """
kind: Target
name: {name}
protocol: postgres
address: 127.0.0.1:{port}
database: {database}
credential: {{username: {username}, password: {{env: TARGET_PASSWORD}}}}
labels: {{env: test}}
record: {{rows: {rows}}}
"""
CLASSIFY = """classify:
  - columns: [public.customers.ssn, public.customers.card_number]
    class: pii
"""


class Shop:
    """One gateway in front of one server, with databases of its own."""

    def __init__(self, server, more="", rows="full", config=None):
        self.server = server
        suffix = secrets.token_hex(4)
        self.orders = f"orders_{suffix}"
        self.plain = f"plain_{suffix}"
        self.username = f"svc_agents_{suffix}"
        self.env = {"ADA_PASSWORD": "ada's password", "GRACE_PASSWORD": "grace's password",
                    "FRANCES_PASSWORD": "frances's password", "NOBODY_PASSWORD": "nobody's",
                    "NIGHTLY_SECRET": "the nightly job's secret",
                    "TARGET_PASSWORD": "the password of a service account"}
        self._create_databases()
        self.gateway = Gateway(config=config)
        try:
            self.gateway.apply(self.manifest(rows) + more, env=self.env)
        except BaseException:
            self.close()
            raise
        self._tokens = {}

    def manifest(self, rows):
        fields = {"port": self.server.port, "username": self.username, "rows": rows}
        orders = TARGET.format(name="orders-db", database=self.orders, **fields) + CLASSIFY
        plain = TARGET.format(name="plain-db", database=self.plain, **fields)
        return "---".join([orders, plain, PEOPLE, POLICY, HOLD]) + "---\n"

    def _create_databases(self):
        password = self.env["TARGET_PASSWORD"]
        self.server.execute(f"create role {self.username} login password '{password}'")
        for database in (self.orders, self.plain):
            self.server.execute(f"create database {database} owner {self.username}")
        with self.owner(self.orders) as connection:
            connection.execute(SCHEMA)

    def owner(self, database=None, **options):
        """A direct connection with the credential that the gateway uses."""
        dsn = self.server.dsn(database or self.plain, self.username, self.env["TARGET_PASSWORD"])
        return psycopg.connect(dsn, **{"autocommit": True} | options)

    def login(self, name):
        """A login token of ada, grace, frances or nobody; one for each shop."""
        if name not in self._tokens:
            password = self.env[f"{name.upper()}_PASSWORD"]
            self._tokens[name] = self.gateway.login(f"{name}@example.com", password)
        return self._tokens[name]

    def workload(self):
        if "workload" not in self._tokens:
            secret = self.env["NIGHTLY_SECRET"]
            self._tokens["workload"] = self.gateway.login_workload("nightly-report", secret)
        return self._tokens["workload"]

    def run(self, name="job", *more, token=None):
        """A root run of the nightly job: its sponsor ada does not approve what it holds."""
        return self.gateway.start_run(name, token or self.workload(), *more)

    def connect(self, target="plain-db", token=None, **options):
        return self.gateway.connect(token or self.run()["token"], target, **options)

    def psql(self, target, *commands, token=None, **options):
        return self.gateway.psql(token or self.run()["token"], target, *commands, **options)

    def close(self):
        if hasattr(self, "gateway"):
            self.gateway.close()
        for database in (self.orders, self.plain):
            self.server.execute(f"drop database if exists {database} with (force)")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
