#!/usr/bin/env python3
"""What people run beside drivers: psql's backslash commands, pg_dump, pg_restore, pgbench, ORMs that
look at a schema, libpq's pipeline mode. Both ways have to print the same."""

import argparse
import re
import sys

from both_ways import WAYS, as_printed, compare, way
from places import DEBIANS, DEBIANS_PROGRAMS, PYTHON, VERSIONS
from psql_keys import completions, watch

# By test: why it differs through the gateway, for servers up to 17.
DIFFERS_OLD = {"cancel latest": "the gateway speaks protocol 3.2, whichever its target speaks"}

DESCRIBE = [
    r"\l", r"\d", r"\d+", r"\dt shop.*", r"\dt+ shop.*", r"\d shop.people", r"\d+ shop.people",
    r"\d+ shop.orders", r"\d+ shop.events", r"\d shop.events_2026", r"\d+ shop.spenders",
    r"\d+ shop.moods", r'\d shop."Größe"', r"\d shop.orders_by_person", r"\d shop.numbers",
    r"\df shop.*", r"\df+ shop.*", r"\sf shop.twice", r"\sv shop.spenders", r"\dn+", r"\dT+ shop.*",
    r"\dD shop.*", r"\di+ shop.*", r"\ds shop.*", r"\dv shop.*", r"\dm shop.*", r"\dX shop.*",
    r"\du", r"\dg+", r"\dp shop.*", r"\ddp", r"\dx+", r"\do shop.*", r"\da shop.*", r"\dc shop.*",
    r"\dC", r"\dO", r"\dF", r"\dFd", r"\dL+", r"\db+", r"\dy", r"\dRp", r"\dRs", r"\det", r"\dew",
    r"\des", r"\dconfig work_mem", r"\drds", r"\dP+ shop.*", r"\dAc", r"\dd shop.*", r"\lo_list",
    r"\encoding", r"\timing off", r"\z shop.people", r"\crosstabview",
]
PIPELINE = """
import logging, psycopg
# Whether a pipeline's end meets its error a second time is a matter of time.
logging.getLogger("psycopg").setLevel(logging.ERROR)
with psycopg.connect("", autocommit=True) as connection:
    with connection.pipeline() as pipeline, connection.cursor() as cursor:
        cursors = [connection.execute("select %s::int, %s::text", (n, "x" * n)) for n in range(200)]
        pipeline.sync()
        print(sum(cursor.fetchone()[0] for cursor in cursors))
    try:
        with connection.pipeline():
            connection.execute("select 1 / %s", (0,))
            connection.execute("select 2")
    except psycopg.errors.DivisionByZero as error:
        print("division", error.sqlstate)
    print(connection.execute("select 3").fetchone())
    with connection.transaction(), connection.cursor("c") as cursor:
        cursor.execute("select n from generate_series(1, 1000) n")
        print(cursor.fetchmany(3), cursor.scroll(10), cursor.fetchone())
    with connection.cursor() as cursor, cursor.copy("copy (select generate_series(1, 3)) to stdout") as out:
        print([row for row in out.rows()])
"""
PARAMETERS = """
import psycopg
NAMES = ("application_name client_encoding DateStyle default_transaction_read_only in_hot_standby "
         "integer_datetimes IntervalStyle is_superuser scram_iterations search_path server_encoding "
         "server_version session_authorization standard_conforming_strings TimeZone").split()
with psycopg.connect("", autocommit=True, application_name="reported") as connection:
    def show():
        for name in NAMES:
            print(name, connection.pgconn.parameter_status(name.encode()))
    show()
    for change in ("search_path = shop, public", "datestyle = 'sql, dmy'", "timezone = 'Asia/Tokyo'",
                   "application_name = 'other'", "default_transaction_read_only = on"):
        connection.execute(f"set {change}")
    show()
    with connection.transaction(force_rollback=True):
        connection.execute("set search_path = nowhere")
        print(connection.pgconn.parameter_status(b"search_path"))
    print(connection.pgconn.parameter_status(b"search_path"))
"""
CANCEL = """
import threading, psycopg
with psycopg.connect("", autocommit=True) as connection:
    print(connection.pgconn.full_protocol_version)
    print(connection.execute("select pg_backend_pid()").fetchone()[0] == connection.pgconn.backend_pid)
    for how in (connection.cancel, connection.cancel_safe):
        timer = threading.Timer(0.5, how)
        timer.start()
        try:
            connection.execute("select pg_sleep(60)")
        except psycopg.errors.QueryCanceled as error:
            print(error.sqlstate, error)
        timer.join()
    print(connection.execute("select 1").fetchone())
"""
REFLECT = """
import os, sqlalchemy as sa
engine = sa.create_engine("postgresql+psycopg://")
inspector = sa.inspect(engine)
print(engine.dialect.server_version_info, engine.dialect.default_schema_name)
print(sorted(inspector.get_schema_names()))
for name in sorted(inspector.get_table_names("shop")):
    print(name, [(c["name"], str(c["type"]), c["nullable"], c["default"])
                 for c in inspector.get_columns(name, "shop")])
    print(inspector.get_pk_constraint(name, "shop"), inspector.get_foreign_keys(name, "shop"))
    print(inspector.get_indexes(name, "shop"), inspector.get_unique_constraints(name, "shop"),
          inspector.get_check_constraints(name, "shop"), inspector.get_table_comment(name, "shop"))
print(sorted(inspector.get_view_names("shop")), inspector.get_view_definition("spenders", "shop"))
print(inspector.get_enums("shop"))
metadata = sa.MetaData()
metadata.reflect(engine, schema="shop")
print(sorted(metadata.tables))
"""
# Last: it fills tables with random words and the time.
DJANGO = """
import os, django
from django.conf import settings
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"], "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"],
    "OPTIONS": {"options": "-c search_path=shop,public", "sslmode": os.environ["PGSSLMODE"],
                "sslrootcert": os.environ["PGSSLROOTCERT"]}}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()
from django.core.management import call_command
call_command("inspectdb", "people", "orders", "events")
call_command("migrate", verbosity=1)
from django.contrib.auth.models import User
from django.db import transaction
with transaction.atomic():
    User.objects.create_user("ada", password=None)
print(User.objects.filter(username__startswith="a").count(), User.objects.get().username)
for user in User.objects.all().iterator(chunk_size=1):
    print(user.username)
"""


def psql(one_way, *words, stdin=None):
    return one_way.run([one_way.clients / "psql", "-X", "-v", "ON_ERROR_STOP=0", *words])[1]


def descriptions(one_way):
    for command in DESCRIBE:
        yield f"psql {command}", psql(one_way, "-c", command)
    yield "psql -E", psql(one_way, "-E", "-c", r"\d shop.people")
    yield r"psql \copy", psql(
        one_way, "-c", r"\copy shop.orders to pstdout csv", "-c", "create table public.again (like shop.orders)",
        "-c", r"\copy public.again from program 'seq -f %g,1,5,2026-01-01 1 100' csv",
        "-c", "select count(*), sum(total) from public.again")
    yield r"psql \gexec", psql(one_way, "-c", r"select 'select ' || n from generate_series(1, 3) n \gexec")
    yield r"psql \gdesc", psql(one_way, "-c", r"select 1 as a, 'x'::text as b \gdesc")
    yield "psql FETCH_COUNT", psql(one_way, "-v", "FETCH_COUNT=7", "-c", "select id from shop.people order by 1")
    yield "psql AUTOCOMMIT", psql(one_way, "-v", "AUTOCOMMIT=off", "-v", "ON_ERROR_ROLLBACK=on",
                                  "-c", "select 1; select 1/0; select 2")
    yield r"psql \lo", psql(one_way, "-c", r"\lo_export 4242 /dev/null", "-c", r"\lo_unlink 4242",
                            "-c", r"\lo_list", "-c", r"\lo_import /etc/hostname 4243", "-c", r"\lo_list")


def parameters(one_way):
    """What the server reports at the start and after a change, by the newest and the oldest protocol."""
    for version in ("3.0", "latest"):
        yield f"parameters {version}", one_way.run(
            [PYTHON, "-c", PARAMETERS], more={"PGMAXPROTOCOLVERSION": version})[1]


def cancels(one_way):
    """The key is longer in protocol 3.2."""
    for version in ("3.0", "latest"):
        yield f"cancel {version}", one_way.run(
            [PYTHON, "-c", CANCEL], more={"PGMAXPROTOCOLVERSION": version})[1]


def dumps(one_way):
    folder = one_way.server.folder

    def plain(text):
        # Newer versions write a random word against injections.
        return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)

    for words in (["--schema-only"], ["--inserts", "--data-only"], ["--blobs"], ["--clean", "--create"]):
        yield f"pg_dump {' '.join(words)}", plain(one_way.run([one_way.clients / "pg_dump", *words])[1])
    archive = folder / "archive"
    yield "pg_dump -j4", one_way.run([one_way.clients / "pg_dump", "-Fd", "-j4", "-f", archive])[1]
    one_way.server.execute("create database copy")
    yield "pg_restore -j4", one_way.run([one_way.clients / "pg_restore", "-j4", "-d", "copy", archive])[1]
    yield "pg_dump of the copy", plain(
        one_way.run([one_way.clients / "pg_dump", "copy"])[1])
    globals_ = one_way.run([one_way.clients / "pg_dumpall", "--globals-only"])[1]
    yield "pg_dumpall", re.sub(r"SCRAM-SHA-256\$[^']*", "A VERIFIER", plain(globals_))


def pgbench(one_way):
    yield "pgbench -i", str(one_way.run([one_way.clients / "pgbench", "-i", "-s1", "-q"])[0])
    for mode in ("simple", "extended", "prepared"):
        code, output = one_way.run(
            [one_way.clients / "pgbench", "-M", mode, "-c4", "-j2", "-t50", "-n"])
        done = re.search(r"actually processed: (\d+/\d+)", output)
        yield f"pgbench -M {mode}", f"{code} {done and done.group(1)}"


def scripts(one_way):
    for name, script in (("libpq pipeline mode", PIPELINE), ("SQLAlchemy reflection", REFLECT)):
        yield name, one_way.run([PYTHON, "-c", script])[1]


def django(one_way):
    yield "Django", one_way.run([PYTHON, "-c", DJANGO])[1]


def blurred(text, one_way):
    """Without what is another in each run: the port, sizes that vacuum changes, times."""
    return text.replace(f"port {one_way.env['PGPORT']}", "port PORT")


def run(one_way):
    one_way.env["PGCLIENTENCODING"] = "UTF8"
    one_way.make_schema()
    results = {}
    parts = [descriptions, parameters, cancels, scripts, watch, dumps, pgbench, django]
    if one_way.clients == DEBIANS_PROGRAMS:
        parts.insert(0, completions)
    for part in parts:
        for name, text in part(one_way):
            text = blurred(text, one_way)
            results[name] = text
            one_way.keep("clients-" + re.sub(r"\W+", "_", name), text)
    return results


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--server", type=int, default=DEBIANS, choices=VERSIONS,
                           help="the server's major version")
    options = arguments.parse_args()
    results = {}
    for name in WAYS:
        with way(name, version=options.server) as one_way:
            results[name] = run(one_way)
    differs = DIFFERS_OLD if options.server < 18 else {}
    return compare("clients", *as_printed(*(results[name] for name in WAYS)), differs)


if __name__ == "__main__":
    sys.exit(main())
