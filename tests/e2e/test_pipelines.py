"""Whatever order of messages a client sends: what runs was decided, and the record is true.

Several sessions send random pipelines through the gateway at once. Then the server's own log is
compared with the gateway's record.
"""

import collections
import itertools
import os
import random
import threading
import time

import pytest

from harness import server_log, wandering
from harness.postgres import RealPostgres
from harness.shop import Shop
from harness.wire import Wire, error_fields

SESSIONS = 3
ANSWER_DEADLINE_S = 90
APPROVER_PAUSE_S = 0.3
TARGET = """
kind: Target
name: maze
protocol: postgres
address: 127.0.0.1:{port}
database: {database}
credential: {{username: {username}, password: {{env: TARGET_PASSWORD}}}}
record: {{rows: none}}
classify:
  - columns: [public.p.ssn]
    class: pii
---
kind: Policy
name: maze
cedar: |
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"maze");
  @id("no-delete")
  forbid (principal, action == Corral::Action::"delete", resource in Corral::Target::"maze");
  @id("no-unknown")
  forbid (principal, action in Corral::Action::"unknown", resource in Corral::Target::"maze");
  @id("no-admin")
  forbid (principal, action in Corral::Action::"administer", resource in Corral::Target::"maze");
  @id("no-unmask")
  forbid (principal, action == Corral::Action::"unmask", resource in Corral::Target::"maze");
  @id("no-x")
  forbid (principal, action, resource in Corral::Schema::"maze/x");
  @id("held") @approval("dba") @expires("2s")
  forbid (principal, action == Corral::Action::"truncate", resource in Corral::Target::"maze");
"""


@pytest.fixture
def maze():
    # A lock that two sessions wait for must not end the test's patience.
    settings = server_log.SETTINGS | {"lock_timeout": "2s", "deadlock_timeout": "200ms"}
    with RealPostgres(settings) as server, Shop(server) as shop:
        with shop.owner() as owner:
            owner.execute(wandering.SCHEMA)
        manifest = TARGET.format(port=server.port, database=shop.plain, username=shop.username)
        shop.gateway.apply(manifest, env=shop.env)
        yield shop


class Walk:
    """One session after the other, until `bursts` are sent or the time is over."""

    def __init__(self, shop, token, seed, marks, bursts, ends_at):
        self.address = shop.gateway.address()
        self.token = token
        self.random = random.Random(seed)
        self.marks = marks
        self.left = bursts
        self.ends_at = ends_at
        self.states = collections.Counter()
        self.sent = collections.deque(maxlen=3)
        self.failure = None

    def run(self):
        try:
            while self.left > 0 and time.monotonic() < self.ends_at:
                self._session()
        except Exception as error:  # noqa: BLE001: whatever it is, the test shows it
            self.failure = f"{error!r} after {list(self.sent)}"

    def _session(self):
        writer = wandering.Wanderer(self.random, self.marks)
        self.sent.append("a session")
        with Wire(self.address, timeout=ANSWER_DEADLINE_S) as wire:
            wire.login(self.token, "maze")
            for _ in range(self.random.randint(2, 9)):
                self.left -= 1
                if not self._burst(wire, writer):
                    return

    def _burst(self, wire, writer):
        """Whether the session goes on."""
        word = f"end-{next(self.marks)}"
        messages = [*writer.burst(), *writer.end(word)]
        self.sent.append(messages)
        for part in self._cut(messages):
            try:
                wire.send(part)
            except (BrokenPipeError, ConnectionResetError):
                break  # It was ended for what came before; the answer says why.
        state = None
        while True:
            try:
                got = wire.read()
            except ConnectionResetError:
                got = None
            if got is None:
                # A message that does not belong into a COPY.
                assert state == "08P01", f"it ended after {state}"
                return False
            kind, body = got
            assert wandering.SECRET.encode() not in body, f"a secret: {got}"
            if kind == b"E":
                state = error_fields(body)["C"]
                self.states[state] += 1
                assert state not in ("08006", "XX000"), f"{error_fields(body)}"
            if kind == b"D" and word.encode() in body:
                wire.read_until(b"Z")
                return True

    def _cut(self, messages):
        """In one piece, message by message, or in pieces that no message ends with."""
        whole = b"".join(messages)
        way = self.random.random()
        if way < 0.6:
            return [whole]
        if way < 0.8:
            return messages
        places = sorted(self.random.sample(range(len(whole)), k=min(len(whole), 12)))
        return [whole[a:b] for a, b in itertools.pairwise([0, *places, len(whole)])]


def decide_what_is_held(shop, is_over):
    """Of three, two are approved."""
    token = shop.login("grace")
    words = itertools.cycle(("approve", "approve", "deny"))
    while not is_over.wait(APPROVER_PAUSE_S):
        for held in shop.gateway.json("approvals", "list"):
            if held["state"] == "pending":
                # It may expire, or its client leave, in front of us.
                shop.gateway.run("approvals", next(words), held["id"], "--reason", "a test",
                                 token=token, expect=None)


class Recorded:
    """What the record says was decided and done."""

    def __init__(self, shop):
        self.allowed = collections.Counter()
        self.parameters = collections.Counter()
        self.denied = 0
        self.done = collections.Counter()
        self.completed = collections.Counter()
        self.texts = {}
        for event in shop.gateway.export("--target", "maze"):
            if event["event"] == "statement.decided":
                self._decided(event)
            elif event["event"] == "statement.completed":
                self.completed[event["decision"]] += 1
                if event["code"] == "00000" and event.get("tag"):
                    self.done[self.texts[event["decision"]]] += 1

    def _decided(self, event):
        sql = event["statement"]
        if event["outcome"] != "allow":
            self.denied += 1
            return
        self.allowed[sql] += 1
        self.texts[event["decision"]] = sql
        if given := event.get("parameters"):
            self.parameters[sql, tuple(str(one["value"]) for one in given)] += 1


def walk_and_compare(shop, seed, bursts, seconds):
    token = shop.run("walker", "--ttl", "1h")["token"]
    marks = itertools.count(1)
    ends_at = time.monotonic() + seconds
    walks = [Walk(shop, token, f"{seed}-{number}", marks, bursts, ends_at)
             for number in range(SESSIONS)]
    is_over = threading.Event()
    approver = threading.Thread(target=decide_what_is_held, args=(shop, is_over))
    walkers = [threading.Thread(target=walk.run) for walk in walks]
    for thread in (approver, *walkers):
        thread.start()
    for thread in walkers:
        thread.join()
    is_over.set()
    approver.join()
    assert not [walk.failure for walk in walks if walk.failure]

    ran = server_log.Executions(shop.server.folder / "log", wandering.MARK)
    recorded = Recorded(shop)
    undecided = {sql: times for sql, times in ran.texts.items() if times > recorded.allowed[sql]}
    assert not undecided, "these ran, and nobody had decided it"
    assert not [sql for sql in ran.continued if not recorded.allowed[sql]]
    foreign = {key for key, times in ran.parameters.items() if times > recorded.parameters[key]}
    assert not foreign, "these ran with parameters of which the record does not know"
    ends = {recorded.texts[decision]: recorded.completed[decision] for decision in recorded.texts}
    assert not {sql: times for sql, times in ends.items() if times != 1}, "each ends once"
    untrue = {sql: times for sql, times in recorded.done.items()
              if wandering.MARK.search(sql) and times > ran.texts[sql] + ran.continued[sql]}
    assert not untrue, "the record says that these were done"
    planted = f"select count(*) from x.a where m = '{wandering.PLANTED}'"
    assert shop.server.execute(planted, shop.plain) == [(0,)]
    states = sum((walk.states for walk in walks), collections.Counter())
    return ran, recorded, states


@pytest.mark.deadline(180)
def test_what_ran_was_decided_in_whatever_order_it_was_sent(maze):
    ran, recorded, states = walk_and_compare(maze, "one", bursts=500, seconds=100)
    # It went where it was to go.
    assert ran.texts.total() > 200 and ran.parameters and ran.continued
    assert recorded.denied > 50 and {"42501", "26000", "34000", "25P02"} <= set(states)


@pytest.mark.long
@pytest.mark.deadline(600)
def test_what_ran_was_decided_in_twelve_thousand_bursts(maze):
    """`CORRAL_SEED` sends again what a failure shows, as far as the sessions' timing lets it."""
    seed = os.environ.get("CORRAL_SEED") or str(random.randrange(2**32))
    print(f"CORRAL_SEED={seed}")
    walk_and_compare(maze, seed, bursts=4_000, seconds=400)
