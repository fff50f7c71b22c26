"""What the executors of these examples can do, each as its own run: SQL with psycopg, commands
with paramiko. The run's token is the password; the clients are as everybody has them.

Whatever goes wrong is an answer for the model too: it reads why, and may try something else.
"""

import os

import paramiko
import psycopg

from corral_runs import Refused

ROWS_SHOWN = 100
OUTPUT_BYTES_SHOWN = 16 * 1024
LOGIN_DEADLINE_S = 20


def run_sql(run, target, statement):
    """The rows of a statement, or the database's or Corral's refusal, as text."""
    try:
        where = run.connection(target)
        with psycopg.connect(
            host=where["host"], port=where["port"], dbname=where["database"], user=run.name,
            password=run.token, sslmode="verify-full",
            sslrootcert=os.environ["CORRAL_CA_FILE"], connect_timeout=LOGIN_DEADLINE_S,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement)
            rows = cursor.fetchmany(ROWS_SHOWN) if cursor.description else []
            return "\n".join([cursor.statusmessage or "", *map(str, rows)])
    except (Refused, psycopg.Error) as error:
        return f"failed: {error}"


def run_command(run, target, login, command):
    """The output of a command on a host and its exit status, or why it did not run, as text."""
    try:
        where = run.connection(target)
        with paramiko.SSHClient() as client:
            for line in run.host_keys(where).splitlines():
                entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
                for name in entry.hostnames:
                    client.get_host_keys().add(name, entry.key.get_name(), entry.key)
            client.connect(
                where["host"], where["port"], username=f"{login}@{target}", password=run.token,
                allow_agent=False, look_for_keys=False, timeout=LOGIN_DEADLINE_S)
            _, output, errors = client.exec_command(command)
            text = output.read(OUTPUT_BYTES_SHOWN) + errors.read(OUTPUT_BYTES_SHOWN)
            status = output.channel.recv_exit_status()
            return f"{text.decode(errors='replace')}\nexit {status}"
    except (Refused, paramiko.SSHException, OSError) as error:
        return f"failed: {error}"
