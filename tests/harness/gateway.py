"""A real `corral up` with its own data directory, and its command line."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading

import psycopg

from .waiting import wait_until

START_DEADLINE_S = 30
STOP_DEADLINE_S = 20
COMMAND_DEADLINE_S = 60


def binary():
    """The built `corral`; CORRAL_BIN chooses another one."""
    chosen = os.environ.get("CORRAL_BIN")
    if chosen:
        return pathlib.Path(chosen)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    target = os.environ.get("CARGO_TARGET_DIR", cache / "corral" / "target")
    return pathlib.Path(target) / "debug" / "corral"


class CommandFailed(AssertionError):
    """A command ended with another exit code than expected."""

    def __init__(self, arguments, result):
        super().__init__(f"corral {' '.join(map(str, arguments))} exited {result.returncode}\n"
                         f"stdout: {result.stdout}\nstderr: {result.stderr}")
        self.result = result


class Gateway:
    """A running gateway. `with Gateway() as gateway:` stops it and removes its files."""

    def __init__(self, data=None, config=None, env=None, start=True, prefix=()):
        self.program = binary()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-gw-"))
        self.data = pathlib.Path(data) if data else self.folder / "data"
        self.config = config
        self.env = env or {}
        self.prefix = list(prefix)
        self.log_file = self.folder / "log"
        self.process = None
        self.ready = None
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    # -- the process

    def start(self):
        arguments = [*self.prefix, self.program, "up", "--data", self.data]
        if self.config:
            config_file = self.folder / "corral.yaml"
            config_file.write_text(self.config)
            arguments += ["--config", config_file]
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=self._clean_env() | self.env, start_new_session=True,
            )
        wait_until(self._is_ready, "the gateway is ready", START_DEADLINE_S)
        return self

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway exited {self.process.returncode}:\n{self.log()}")
        try:
            ready = json.loads((self.data / "ready.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        if ready["pid"] != self.process.pid:
            return False
        self.ready = ready
        return True

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def kill_hard(self):
        """As a crash would: no chance to clean up."""
        self.process.kill()
        self.process.wait(STOP_DEADLINE_S)

    def stop(self, how=signal.SIGTERM):
        """Asks it to stop and gives its exit code."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                return self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the gateway did not stop:\n{self.log()}") from None
        return self.process.returncode if self.process else None

    def close(self):
        if self.process and self.process.poll() is None:
            # A second SIGTERM ends at once.
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(0.5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- the command line

    def _clean_env(self):
        """Our own environment without what would point clients elsewhere."""
        env = {key: value for key, value in os.environ.items()
               if not key.startswith(("CORRAL_", "PG"))}
        env["XDG_CONFIG_HOME"] = str(self.folder / "config")
        return env

    def admin_token(self):
        return pathlib.Path(self.ready["admin_token_file"]).read_text().strip()

    def client_env(self, token=None):
        """The environment of a client of this gateway; as its administrator without a token."""
        return self._clean_env() | {
            "CORRAL_GATEWAY": self.ready["api"],
            "CORRAL_CA_FILE": self.ready["ca_file"],
            "CORRAL_TOKEN": token or self.admin_token(),
        }

    def run(self, *arguments, token=None, stdin=None, env=None, expect=0,
            deadline_s=COMMAND_DEADLINE_S):
        """Runs a command and checks its exit code (None: any)."""
        result = subprocess.run(
            [self.program, *map(str, arguments)], text=True, capture_output=True,
            env=(env if env is not None else self.client_env(token)),
            input=stdin if stdin is not None else "", timeout=deadline_s, cwd=self.folder,
        )
        if expect is not None and result.returncode != expect:
            raise CommandFailed(arguments, result)
        return result

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, "-o", "json", **options).stdout)

    def background(self, *arguments, token=None, env=None, **options):
        return subprocess.Popen(
            [self.program, *map(str, arguments)], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.client_env(token) | (env or {}), cwd=self.folder, **options,
        )

    def apply(self, manifest, env=None, **options):
        """Applies YAML given as text."""
        file = self.folder / f"manifest-{threading.get_ident()}.yaml"
        file.write_text(manifest)
        environment = self.client_env() | (env or {})
        return self.run("apply", "-f", file, env=environment, **options)

    def login(self, name, password):
        """A person's login token."""
        answer = self.json("login", "--user", name, "--password-stdin", stdin=password + "\n")
        return answer["token"]

    def login_workload(self, name, secret):
        answer = self.json("login", "--workload", name, "--secret-stdin", stdin=secret + "\n")
        return answer["token"]

    def start_run(self, name, token=None, *more):
        """A run as whoever the token is; `{"run_id","token",…}`."""
        return self.json("runs", "start", "--name", name, *more, token=token)

    # -- sessions

    def address(self, listener="postgres"):
        host, port = self.ready["listeners"][listener].rsplit(":", 1)
        return host, int(port)

    def https(self, timeout_s=20):
        """A connection to the `https` listener, which trusts the gateway's own authority."""
        host, port = self.address("https")
        context = ssl.create_default_context(cafile=self.ready["ca_file"])
        return http.client.HTTPSConnection(host, port, context=context, timeout=timeout_s)

    def dsn(self, token, target, **more):
        host, port = self.address()
        options = {"host": host, "port": port, "user": "agent", "password": token,
                   "dbname": target, "sslmode": "verify-full",
                   "sslrootcert": self.ready["ca_file"], "connect_timeout": 20}
        return psycopg.conninfo.make_conninfo(**options | more)

    def connect(self, token, target, autocommit=True, **more):
        return psycopg.connect(self.dsn(token, target, **more), autocommit=autocommit)

    def psql_env(self, token, target):
        host, port = self.address()
        return self._clean_env() | {
            "PGHOST": host, "PGPORT": str(port), "PGUSER": "agent", "PGPASSWORD": token,
            "PGDATABASE": target, "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": self.ready["ca_file"], "PGCONNECT_TIMEOUT": "20",
        }

    def psql(self, token, target, *commands, expect=0, arguments=()):
        """Unmodified psql with one `-c` for each command."""
        words = ["psql", "-X", "-A", "-t", "-q", *arguments]
        for command in commands:
            words += ["-c", command]
        result = subprocess.run(
            words, text=True, capture_output=True, stdin=subprocess.DEVNULL,
            env=self.psql_env(token, target), timeout=COMMAND_DEADLINE_S,
        )
        if expect is not None and result.returncode != expect:
            raise CommandFailed(words, result)
        return result

    def events(self, *filters):
        return self.json("audit", "search", *filters)

    def export(self, *filters):
        """As `events`, without a limit."""
        lines = self.run("audit", "export", *filters).stdout.splitlines()
        return [json.loads(line) for line in lines]
