#!/usr/bin/env python3
"""An executor: one task, with stock psql, ssh, scp and kubectl that know nothing of Corral.

Where to connect and with what stands in the environment (PGHOST, PGPASSWORD, SSH_AUTH_SOCK, …).
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

# On the host: look around, then what the rules forbid.
HOST = """
ssh web-1 'echo "disk: $(df -h / | tail -n 1)"'; echo "exit $?"
ssh web-1 'sudo reboot'; echo "exit $?"
scp -q web-1:$DEMO_HOST/notes.txt "$DEMO_OUT/notes.txt"; echo "exit $?"
scp -q web-1:$DEMO_HOST/secrets/database.env "$DEMO_OUT/database.env"; echo "exit $?"
"""

# On the cluster: look around, read a secret, then what the rules forbid.
CLUSTER = """
kubectl get deployments; echo "exit $?"
kubectl get secret door -o jsonpath={.data.password}; echo; echo "exit $?"
kubectl exec deployment/web -- cat /etc/passwd; echo "exit $?"
kubectl delete namespace default; echo "exit $?"
"""


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
elif task == "host":
    os.execvp("sh", ["sh", "-c", HOST])
elif task == "cluster":
    os.execvp("sh", ["sh", "-c", CLUSTER])
elif task == "scale":
    os.execvp("kubectl", ["kubectl", "scale", "deployment/web", "--replicas=2"])
elif task == "logs":
    os.execvp("kubectl", ["kubectl", "logs", "-f", "deployment/web"])
elif task == "follow":
    os.execvp("ssh", ["ssh", "web-1", "tail -f /dev/null"])
else:
    os.execvp("psql", ["psql", "-X", "-v", "VERBOSITY=verbose", "-c", STATEMENTS[task]])
