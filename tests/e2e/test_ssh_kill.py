"""What a kill ends at a host, and what the record says of it: for an account, and for root."""

import contextlib
import os
import signal

import pytest

from harness.account import Account
from harness.hosts import Hosts
from harness.waiting import wait_until

POLICY = """
---
kind: Policy
name: account
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"shell"],
          resource in Corral::Target::"account");
"""


@pytest.fixture(scope="module")
def account():
    with Account() as made:
        yield made


@pytest.fixture(scope="module")
def hosts(account):
    with Hosts() as running:
        credential = f"username: {account.name}, issued: true"
        running.gateway.apply(running.target("account", credential=credential) + POLICY)
        running.sshd.trust(running.gateway.run("published", "ssh", "--for", "targets").stdout)
        yield running


@contextlib.contextmanager
def killed(hosts, command, target, user, started, *options):
    """Runs a command until `started`, kills its run, and gives what the client was told."""
    run = hosts.run()
    client = hosts.start_ssh(command, *options, token=run["token"], target=target, user=user)
    try:
        wait_until(started, "the command runs")
        hosts.gateway.run("runs", "kill", run["run_id"])
        _, told = client.communicate(timeout=15)
        assert client.returncode == 255 and b"corral: " in told
        wait_until(lambda: hosts.events("--run", run["run_id"], "--event", "statement.completed"),
                   "it is accounted")
        (cut,) = hosts.events("--run", run["run_id"], "--event", "stream.cut")
        yield cut["detail"]
    finally:
        if client.poll() is None:
            client.kill()
            client.communicate()


def running_as(account, part):
    return [pid for pid, line in account.processes() if part in line and "ssh" not in line]


@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_a_command_of_an_account_is_gone_and_the_record_says_so(hosts, account, terminal):
    def started():
        return running_as(account, "sleep 3601")
    with killed(hosts, "sleep 3601", "account", account.name, started, terminal) as said:
        assert said.startswith(("the target ended it by signal ", "it ended with status "))
        assert said.endswith("; what it started apart may go on")
        wait_until(lambda: not started(), "the command is gone")


def test_what_left_its_group_goes_on_and_the_record_warns_of_it(hosts, account):
    def started():
        return running_as(account, "sleep 3602") and running_as(account, "sleep 3603")
    command = "setsid sleep 3602 </dev/null >/dev/null 2>&1 & exec sleep 3603"
    with killed(hosts, command, "account", account.name, started) as said:
        wait_until(lambda: not running_as(account, "sleep 3603"), "the command is gone")
        (left,) = running_as(account, "sleep 3602")
        assert said.endswith("; what it started apart may go on")
        os.kill(left, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="sessions as root")
def test_root_is_not_said_to_have_ended(hosts):
    def started():
        return [pid for pid, line in hosts.sshd.children() if line == "sleep 3604"]
    with killed(hosts, "exec sleep 3604", "web-1", None, started) as said:
        # OpenSSH carries out no signal for root; the closed channel ends some of it.
        assert said == "the channel was closed, and the target did not say that what ran on it " \
                       "ended: it may go on there"
        for pid in started():
            os.kill(pid, signal.SIGKILL)
