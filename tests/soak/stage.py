"""What the soak plays on: one server that crashes now and then, one gateway, and what went wrong.

While the server is away, and shortly after, statements may fail; at all other times an error that
nobody caused is a fault of the gateway.
"""

import collections
import contextlib
import os
import signal
import threading
import time

import psycopg

from harness.postgres import RealPostgres
from harness.shop import Shop
from harness.waiting import DeadlinePassed, wait_until

# What a client may be told about a target that is away: its own last words, or the gateway's.
AWAY = {None, "08006", "57P01", "57P02", "57P03", "58000"}
# A session notices the end of its target when it is next asked or told something.
AFTERMATH_S = 5
SERVER_DEADLINE_S = 90
FAULTS_MAX = 20
RETRY_S = 0.2


class Stage:
    """`with Stage() as stage:`. Loads run until `stage.is_over`."""

    def __init__(self):
        self.is_over = threading.Event()
        self.done = collections.Counter()
        self.excused = collections.Counter()
        self.finished = set()
        self.faults = []
        self._outages = []
        self._lock = threading.Lock()
        self.server = RealPostgres()
        try:
            self.shop = Shop(self.server, rows="count")
            self.token = self.shop.run("soak", "--ttl", "3h")["token"]
            self.grace = self.shop.login("grace")
        except BaseException:
            self.server.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.shop.close()
        finally:
            self.server.stop()

    @property
    def gateway(self):
        return self.shop.gateway

    # -- outages

    def crash_target(self):
        """Ends every backend of the server at once, as a crash does, and waits until it is back."""
        with self._outage():
            self.server.process.send_signal(signal.SIGQUIT)
            self.server.process.wait(SERVER_DEADLINE_S)
            self.server.start()
        self.count("target restarts")

    def crash_backend(self):
        """Kills one backend: the server ends all others, too, and recovers by itself."""
        with self._outage():
            with self.server.connect() as connection:
                (process,) = connection.execute("select pg_backend_pid()").fetchone()
                os.kill(process, signal.SIGKILL)
            wait_until(self._answers, "the server has recovered", SERVER_DEADLINE_S)
        self.count("target crashes")

    def _answers(self):
        try:
            return self.server.execute("select 1")
        except psycopg.Error:
            return False

    @contextlib.contextmanager
    def _outage(self):
        outage = [time.monotonic(), None]
        with self._lock:
            self._outages.append(outage)
        yield
        outage[1] = time.monotonic() + AFTERMATH_S

    def is_excused(self, began):
        """Whether the target was away at any time since `began`."""
        with self._lock:
            return any(until is None or until >= began for _, until in self._outages)

    # -- what happened

    def count(self, what, number=1):
        with self._lock:
            self.done[what] += number

    def fault(self, load, error):
        with self._lock:
            if len(self.faults) < FAULTS_MAX:
                self.faults.append(f"{load}: {type(error).__name__}: {error}".strip())

    def play(self, name, load):
        """Repeats a load until the soak is over. An error is excused while the target is away."""
        while not self.is_over.is_set():
            began = time.monotonic()
            try:
                load(self)
                self.finished.add(name)
            except Exception as error:  # A load that ends would make the soak easier than it says.
                is_loss = isinstance(error, (psycopg.Error, DeadlinePassed)) and \
                    getattr(error, "sqlstate", None) in AWAY
                if is_loss and self.is_excused(began):
                    with self._lock:
                        self.excused[name] += 1
                else:
                    self.fault(name, error)
                # Do not knock all the time where nobody is.
                self.is_over.wait(RETRY_S)
