"""A PostgreSQL server of its own: own data directory, free port, removed when stopped."""

import contextlib
import glob
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

import psycopg

from .certificates import Authority
from .waiting import DeadlinePassed, wait_until

PORT_ATTEMPTS = 5
START_DEADLINE_S = 30
STOP_DEADLINE_S = 10
PASSWORD = "the superuser's password"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
}


def bin_folder():
    """The newest installed server's programs."""
    found = [path for path in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    if not found:
        raise RuntimeError("no PostgreSQL server is installed; run .ci/setup database")
    newest = max(found, key=lambda path: int(pathlib.Path(path).parts[-3]))
    return pathlib.Path(newest).parent


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def server_user():
    """PostgreSQL refuses to run as root: whose account it gets instead."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("root cannot run PostgreSQL, and there is no user postgres or nobody")


@contextlib.contextmanager
def certificate():
    """An authority's file, and settings of a server that has a certificate of it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-tls-"))
    try:
        authority = Authority(folder, "authority")
        issued, key = authority.issue("server", "IP:127.0.0.1,DNS:localhost")
        key.chmod(0o600)
        folder.chmod(0o755)
        if user := server_user():
            os.chown(key, user.pw_uid, user.pw_gid)
        yield authority.file, {"ssl": "on", "ssl_cert_file": issued, "ssl_key_file": key}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class RealPostgres:
    """A running server. `with RealPostgres() as server:` stops it and removes its files."""

    def __init__(self, settings=None, programs=None, password=PASSWORD):
        self.bin = programs or bin_folder()
        self.password = password
        self.user = server_user()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-pg-", dir="/tmp"))
        self.process = None
        self.port = None
        self.settings = SETTINGS | (settings or {})
        try:
            self._init()
            self.start()
        except BaseException:
            self.stop()
            raise

    def _as_server(self):
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def _init(self):
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
            os.chown(password_file, self.user.pw_uid, self.user.pw_gid)
        subprocess.run(
            [self.bin / "initdb", "-D", self.folder / "data", "-U", "postgres", "-E", "UTF8", "-N",
             "--locale", "C.UTF-8", "-A", "scram-sha-256", "--pwfile", password_file],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
            **self._as_server(),
        )
        password_file.unlink()

    def start(self):
        """Starts the server; on the same port when it ran before."""
        for _ in range(PORT_ATTEMPTS):
            port = self.port or free_port()
            settings = [word for key, value in self.settings.items()
                        for word in ("-c", f"{key}={value}")]
            with open(self.folder / "log", "ab") as log:
                self.process = subprocess.Popen(
                    [self.bin / "postgres", "-D", self.folder / "data", "-p", str(port),
                     "-k", self.folder, *settings],
                    cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, **self._as_server(),
                )
            try:
                wait_until(lambda: self._is_up_or_gone(port), "PostgreSQL is up", START_DEADLINE_S)
            except DeadlinePassed:
                self._end_process(signal.SIGQUIT)
                continue
            if self.process.poll() is None:
                self.port = port
                return
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()}")

    def _is_up_or_gone(self, port):
        if self.process.poll() is not None:
            return True
        try:
            psycopg.connect(self._dsn("postgres", port), connect_timeout=2).close()
            return True
        except psycopg.OperationalError:
            return False

    def _dsn(self, database, port, user="postgres", password=None):
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=port, user=user, password=password or self.password,
            dbname=database)

    def dsn(self, database="postgres", user="postgres", password=None):
        return self._dsn(database, self.port, user, password)

    def connect(self, database="postgres", **options):
        """A direct connection as the superuser, autocommit unless told otherwise."""
        return psycopg.connect(self.dsn(database), **{"autocommit": True} | options)

    def execute(self, sql, database="postgres"):
        with self.connect(database) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def trust(self, role):
        """Lets a role in without a password."""
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 trust\n" + rules.read_text())
        self.execute("select pg_reload_conf()")

    def _end_process(self, how):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(STOP_DEADLINE_S)

    def halt(self):
        """Stops the server and keeps its files."""
        self._end_process(signal.SIGINT)

    def stop(self):
        self._end_process(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
