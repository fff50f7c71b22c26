"""Clients that keep to no window and no measure: each is bounded, and nobody else is harmed."""

import contextlib

import paramiko
import pytest
from paramiko import common

from harness.hosts import Hosts
from harness.ssh_raw import PACKET, RawClient
from harness.waiting import wait_until

CHANNELS_MAX = 100
RSS_MAX = 32_000_000


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as running:
        running.ssh("true")
        yield running


@pytest.fixture
def bystander(hosts):
    """Somebody else, who is there before and after; and the gateway's memory."""
    client = hosts.start_ssh("cat", token=hosts.run()["token"])
    says(client, b"before\n")
    before = resident_bytes(hosts)
    yield client
    says(client, b"after\n")
    client.stdin.close()
    assert client.wait(20) == 0
    client.stdout.close()
    client.stderr.close()
    grown = resident_bytes(hosts) - before
    assert grown < RSS_MAX, grown
    assert hosts.ssh("echo fine").stdout == b"fine\n"


def says(client, line):
    client.stdin.write(line)
    client.stdin.flush()
    assert client.stdout.readline() == line


def resident_bytes(hosts):
    with open(f"/proc/{hosts.gateway.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def events(hosts, run, name):
    return hosts.events("--run", run["run_id"], "--event", name)


def ended_once(hosts, run):
    (closed,) = wait_until(lambda: events(hosts, run, "session.closed"), "the session has ended")
    assert not [event for event in events(hosts, run, "statement.decided")
                if event["outcome"] == "deny"]
    return closed


# paramiko says in its own thread what became of its connection.
GONE = (paramiko.SSHException, EOFError, OSError)


def test_data_past_the_window_ends_its_connection(hosts, bystander):
    run = hosts.run()
    with RawClient(hosts, run["token"]) as raw:
        channel, window = raw.open()
        raw.exec(channel, "sleep 60")
        wait_until(lambda: events(hosts, run, "statement.decided"), "it runs")
        with contextlib.suppress(*GONE):
            # What the host takes for a command that does not read comes back as window.
            for _ in range(8 * window // PACKET):
                raw.send(common.cMSG_CHANNEL_DATA, channel, bytes(PACKET))
        wait_until(lambda: not raw.is_alive, "the connection has ended")
    assert ended_once(hosts, run)["reason"] == "client"


def test_windows_without_end_move_no_more_than_is_read(hosts, bystander):
    run = hosts.run()
    with RawClient(hosts, run["token"]) as raw:
        channel, _ = raw.open(window=2**32 - 1)
        for _ in range(3):
            raw.send(common.cMSG_CHANNEL_WINDOW_ADJUST, channel, 2**32 - 1)
        raw.exec(channel, "yes")
        assert raw.data.get(timeout=20)[1].startswith(b"y\ny\n")
        raw.tap.may_read.clear()
        ((pid, _),) = [child for child in hosts.sshd.children() if child[1] == "yes"]
        wait_until(is_stuck(pid), "yes can write no more", 20)
        assert raw.is_alive
    ended_once(hosts, run)


def is_stuck(pid, looks=15):
    """A condition: it wrote bytes, and stopped."""
    seen = []

    def condition():
        with open(f"/proc/{pid}/io") as account:
            seen.append(dict(line.split(": ") for line in account)["wchar"])
        return len(seen) > looks and len(set(seen[-looks:])) == 1
    return condition


def test_signals_that_nobody_takes_end_their_connection(hosts, bystander):
    run = hosts.run()
    with RawClient(hosts, run["token"]) as raw:
        channel, _ = raw.open()
        raw.exec(channel, "echo restart")
        wait_until(lambda: pending(hosts, run), "it waits for people")
        for _ in range(64):
            raw.send(common.cMSG_CHANNEL_REQUEST, channel, "signal", False, "INT")
        other, _ = raw.open()
        assert raw.is_alive
        with contextlib.suppress(*GONE):
            raw.send(common.cMSG_CHANNEL_REQUEST, channel, "signal", False, "INT")
        wait_until(lambda: not raw.is_alive, "the connection has ended")
    ended_once(hosts, run)
    wait_until(lambda: not pending(hosts, run), "nobody is asked any more")


def pending(hosts, run):
    return [approval for approval in hosts.gateway.json("approvals", "list")
            if approval["state"] == "pending" and approval["run_id"] == run["run_id"]]


def test_channels_over_the_limit_are_refused_with_one_event(hosts, bystander):
    run = hosts.run()
    with RawClient(hosts, run["token"]) as raw:
        for _ in range(150):
            raw.ask_to_open()
        opened = [raw.opened.get(timeout=20)[1] for _ in range(CHANNELS_MAX)]
        for _ in range(150 - CHANNELS_MAX):
            raw.refused.get(timeout=20)
        assert raw.opened.empty()
        # One that is closed makes room for one.
        raw.close_channel(opened[0])
        channel, _ = raw.open()
        raw.exec(channel, "echo still here")
        assert raw.data.get(timeout=20)[1] == b"still here\n"
    (denied,) = [event for event in events(hosts, run, "statement.decided")
                 if event["outcome"] == "deny"]
    assert denied["statement"] == "open a channel" and denied["rules"] == ["limits"]


def test_ten_thousand_channels_one_after_another_leave_nothing(hosts, bystander):
    run = hosts.run()
    with RawClient(hosts, run["token"]) as raw:
        before = resident_bytes(hosts)
        for _ in range(10_000 // 50):
            for _ in range(50):
                raw.ask_to_open()
            for _ in range(50):
                raw.close_channel(raw.opened.get(timeout=20)[1])
        assert resident_bytes(hosts) - before < 8_000_000
        assert raw.refused.empty()
        channel, _ = raw.open()
        raw.exec(channel, "echo still here")
        assert raw.data.get(timeout=20)[1] == b"still here\n"
    ended_once(hosts, run)
