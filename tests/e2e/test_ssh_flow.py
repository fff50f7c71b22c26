"""Many bytes over SSH: new keys while they flow, and channels of one connection that do not read."""

import contextlib
import os
import subprocess
import time

import pytest

from harness.hosts import Hosts
from harness.waiting import wait_until

PROMPT_S = 5


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as running:
        yield running


# -- new keys

def test_a_client_that_asks_for_new_keys_loses_nothing(hosts):
    data = os.urandom(20_000_000)
    result = hosts.ssh("cat", "-v", "-o", "RekeyLimit=1M", stdin=data)
    assert result.stdout == data
    exchanges = result.stderr.count(b"SSH2_MSG_KEXINIT sent")
    assert exchanges > 10, exchanges


def test_a_target_that_asks_for_new_keys_loses_nothing():
    data = os.urandom(20_000_000)
    with Hosts(sshd_more="RekeyLimit 1M\nLogLevel DEBUG1") as hosts:
        assert hosts.ssh("cat", stdin=data).stdout == data
        assert hosts.sshd.log().count("SSH2_MSG_KEXINIT sent") > 10


# -- a slow channel holds up no other one of its connection

@contextlib.contextmanager
def master(hosts, run):
    """The client whose connection others share, and their options for it."""
    path = hosts.sshd.folder / f"mux-{run['name']}"
    client = hosts.start_ssh(None, "-M", "-N", "-S", str(path), token=run["token"])
    try:
        wait_until(path.exists, "the master is there")
        yield client, ["-S", str(path)]
    finally:
        client.kill()
        client.communicate()


def moved_bytes(pid):
    """Read and written so far, by the kernel's own account."""
    with open(f"/proc/{pid}/io") as account:
        values = dict(line.split(": ") for line in account)
    return int(values["rchar"]) + int(values["wchar"])


def is_stuck(pid, looks=15):
    """A condition: it moved bytes, and stopped."""
    seen = []

    def condition():
        seen.append(moved_bytes(pid))
        return seen[0] > 0 and len(seen) > looks and len(set(seen[-looks:])) == 1
    return condition


def others_are_prompt(hosts, over):
    for _ in range(3):
        started = time.monotonic()
        assert hosts.ssh("cat", *over, token="none", stdin=b"prompt").stdout == b"prompt"
        assert time.monotonic() - started < PROMPT_S
    data = os.urandom(5_000_000)
    assert hosts.ssh("cat", *over, token="none", stdin=data).stdout == data


def test_a_client_that_does_not_read_holds_up_no_other_channel(hosts):
    with master(hosts, hosts.run()) as (_, over):
        # Nobody reads the pipe: windows and buffers fill up as far as `yes`.
        slow = hosts.start_ssh("yes", *over, token="none")
        try:
            ((pid, _),) = wait_until(lambda: [child for child in hosts.sshd.children()
                                              if child[1] == "yes"], "yes runs")
            wait_until(is_stuck(pid), "yes can write no more", 20)
            others_are_prompt(hosts, over)
            assert slow.poll() is None
        finally:
            slow.kill()
            slow.communicate()


def test_a_command_that_does_not_read_holds_up_no_other_channel(hosts):
    with master(hosts, hosts.run()) as (client, over), open("/dev/zero", "rb") as zeros:
        words = hosts.ssh_words(*over, "echo here; exec sleep 60")
        slow = subprocess.Popen(words, stdin=zeros, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=hosts.env("none"))
        try:
            assert slow.stdout.readline() == b"here\n"
            # It is the master that reads the zeros.
            wait_until(is_stuck(client.pid), "the window is full", 20)
            others_are_prompt(hosts, over)
            assert slow.poll() is None
        finally:
            # The master keeps the ends of its pipes until it hears of something else.
            slow.kill()
            slow.wait()
            slow.stdout.close()
            slow.stderr.close()
