"""Limits over SSH: of a login, of keys, of time, and of what a run may use."""

import contextlib
import os
import signal
import socket
import subprocess
import time

import pytest

from harness.hosts import Hosts
from harness.waiting import wait_until

LOGIN_DEADLINE_S = 20
KEEP_ALIVE_S = 30 * 4
SLACK_S = 10


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as running:
        yield running


def events(hosts, run, name):
    return hosts.events("--run", run["run_id"], "--event", name)


# -- before the login

@pytest.mark.long
@pytest.mark.deadline(90)
def test_who_says_nothing_or_stops_half_way_is_disconnected_with_one_event_each(hosts):
    before = len(hosts.events("--event", "session.refused"))
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_connection(hosts.address))
        half = stack.enter_context(socket.create_connection(hosts.address))
        half.sendall(b"SSH-2.0-half\r\n\0\0\1")
        # One that has keys, and never says who it is.
        words = ["ssh", *hosts.options(), "-p", str(hosts.address[1]), hosts.destination()]
        asked = hosts.sshd.folder / "asks-nothing"
        asked.write_text("#!/bin/sh\nexec sleep 600\n")
        asked.chmod(0o700)
        mute = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                env=hosts.env("none") | {"SSH_ASKPASS": str(asked)},
                                start_new_session=True)
        stack.callback(lambda: os.killpg(mute.pid, signal.SIGKILL))
        for connection in (silent, half):
            connection.settimeout(LOGIN_DEADLINE_S + SLACK_S)
            while connection.recv(4096):
                pass
        taken = time.monotonic() - started
        assert LOGIN_DEADLINE_S - 1 < taken < LOGIN_DEADLINE_S + SLACK_S
        refused = wait_until(
            lambda: (found := hosts.events("--event", "session.refused")[before:])
            and len(found) == 3 and found, "three are recorded")
    assert sorted(event["reason"] for event in refused) == [
        "nobody logged in before the login deadline",
        "nobody logged in before the login deadline",
        "nothing was sent before the login deadline",
    ]
    assert hosts.ssh("echo fine").stdout == b"fine\n"


@contextlib.contextmanager
def agent_with(hosts, count):
    """The socket of an agent with that many keys."""
    path = hosts.sshd.folder / f"agent-{count}"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        wait_until(path.exists, "the agent is there")
        env = os.environ | {"SSH_AUTH_SOCK": str(path)}
        for number in range(count):
            key = hosts.sshd.folder / f"key-{count}-{number}"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True,
                           stdin=subprocess.DEVNULL)
            subprocess.run(["ssh-add", "-q", key], env=env, check=True)
        yield str(path)
    finally:
        agent.terminate()
        agent.wait()


@pytest.mark.parametrize(("count", "is_in"), [(10, True), (13, False)])
def test_an_agent_may_have_some_keys_that_are_nobodys(hosts, count, is_in):
    run = hosts.run()
    before = len(hosts.events("--event", "session.refused"))
    with agent_with(hosts, count) as path:
        words = ["ssh", "-o", "IdentitiesOnly=no", "-o", "PreferredAuthentications=publickey,password",
                 *hosts.options(), "-p", str(hosts.address[1]), hosts.destination(), "echo in"]
        result = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=50,
                                env=hosts.env(run["token"]) | {"SSH_AUTH_SOCK": path})
    refused = len(hosts.events("--event", "session.refused")) - before
    assert ((result.returncode, result.stdout, refused) ==
            ((0, b"in\n", 0) if is_in else (255, b"", 1))), result


# -- a client that is gone and never said so

@pytest.mark.long
@pytest.mark.deadline(200)
def test_a_client_that_stands_still_is_given_up(hosts):
    run = hosts.run()
    client = hosts.start_ssh("sleep 300", token=run["token"])
    try:
        wait_until(lambda: events(hosts, run, "statement.decided"), "it runs")
        client.send_signal(signal.SIGSTOP)
        wait_until(lambda: events(hosts, run, "session.closed"), "the session has ended",
                   KEEP_ALIVE_S + SLACK_S)
    finally:
        client.kill()
        client.communicate()


# -- what a run may use

def limited(hosts, words):
    hosts.gateway.apply(f"kind: Limit\nname: some\nsubject: {{group: agents}}\n{words}\n")


@contextlib.contextmanager
def open_command(hosts, run):
    client = hosts.start_ssh("echo here; cat", token=run["token"])
    try:
        assert client.stdout.readline() == b"here\n"
        yield client
    finally:
        client.kill()
        client.communicate()


def second_session(hosts, run):
    with open_command(hosts, run):
        return hosts.ssh("true", token=run["token"], expect=None)


def third_command(hosts, run):
    hosts.ssh("true", token=run["token"])
    hosts.ssh("true", token=run["token"])
    return hosts.ssh("true", token=run["token"], expect=None)


def files(hosts, run):
    batch = "".join(f"mkdir {hosts.work(name)}\n" for name in ("a", "b", "c", "d"))
    return hosts.sftp(batch, token=run["token"], expect=None)


def many_bytes(hosts, run):
    return hosts.ssh("head -c 5000000 /dev/zero", token=run["token"], expect=None)


def many_bytes_of_a_file(hosts, run):
    source = hosts.work("five")
    source.write_bytes(bytes(5_000_000))
    return hosts.scp(hosts.remote(source), "/dev/null", token=run["token"], expect=None)


def silence(hosts, run):
    return hosts.ssh("sleep 30", token=run["token"], expect=None)


def silent_files(hosts, run):
    return hosts.sftp("ls\n!sleep 3\nls\n", token=run["token"], expect=None)


IDLE = b"corral: nothing was sent for longer than the limit allows"
SPENT = b"corral: some: at most %s are allowed in run r-"


@pytest.mark.parametrize("words, use, sentence, codes, end", [
    ("run: {sessions_max: 1}", second_session, SPENT % b"1 sessions at once", {255}, None),
    ("run: {statements_max: 2}", third_command, SPENT % b"2 statements", {126}, "client"),
    ("run: {statements_max: 3}", files, SPENT % b"3 statements", {1}, "client"),
    ("run: {bytes_max: 1MiB}", many_bytes, SPENT % b"1048576 bytes", {255}, "budget"),
    ("run: {bytes_max: 1MiB}", many_bytes_of_a_file, b"", {1, 255}, "budget"),
    ("idle_timeout: 1s", silence, IDLE, {1, 255}, "idle"),
    ("idle_timeout: 1s", silent_files, IDLE, {1, 255, -signal.SIGPIPE}, "idle"),
], ids=lambda value: value.__name__ if callable(value) else "")
def test_what_a_run_may_use_is_told_and_ends_it(hosts, words, use, sentence, codes, end):
    limited(hosts, words)
    run = hosts.run()
    result = use(hosts, run)
    # A channel's own end and the connection's come close together; scp and sftp have their own
    # code for either, and scp may stop before it reads why.
    assert result.returncode in codes and sentence in result.stderr, result
    if end is None:
        (refused,) = events(hosts, run, "session.refused")
        assert sentence.decode() in refused["reason"]
        return
    closed = wait_until(lambda: events(hosts, run, "session.closed"), "the session has ended")
    assert closed[-1]["reason"] == end
