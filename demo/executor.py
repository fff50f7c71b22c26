#!/usr/bin/env python3
"""An executor: one task, with stock PostgreSQL clients that know nothing of Corral.

Where to connect and with what stands in the environment (PGHOST, PGPASSWORD, …).
"""

import os
import sys
import time

import psycopg

STATEMENTS = {
    "read": "select id, name, ssn, card_number from customers order by id",
    "evade": "select name from customers where ssn like '123%'",
    "alter": "alter table orders add column note text",
    "watch": "select pg_sleep(300)",
}


def open_many():
    """As a leaking connection pool does: twenty sessions, none ever closed."""
    connections = []
    for number in range(1, 21):
        try:
            connections.append(psycopg.connect(autocommit=True))
        except psycopg.OperationalError as error:
            print(f"session {number}: {str(error).strip().splitlines()[-1]}", flush=True)
            break
    print(f"{len(connections)} sessions open", flush=True)
    while connections:
        # Holds on to them, and notices when they are taken away.
        connections = [connection for connection in connections if is_alive(connection)]
        time.sleep(0.1)


def is_alive(connection):
    try:
        connection.execute("select 1")
        return True
    except psycopg.Error as error:
        print(f"a session ended: {str(error).strip().splitlines()[0]}", flush=True)
        return False


task = sys.argv[1]
if task == "hoard":
    open_many()
else:
    os.execvp("psql", ["psql", "-X", "-v", "VERBOSITY=verbose", "-c", STATEMENTS[task]])
