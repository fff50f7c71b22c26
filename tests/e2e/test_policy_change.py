"""What is open while the policies change."""

import pytest

from harness.hosts import Hosts
from harness.waiting import wait_until

NO_SHELLS = """
kind: Policy
name: no-shells
cedar: |
  @id("no-shells") @reason("Nobody has a shell.")
  forbid (principal, action in Corral::Action::"shell", resource in Corral::Target::"web-1")
  unless { context has command };
"""


@pytest.fixture
def hosts():
    with Hosts() as open_hosts:
        yield open_hosts


def test_a_shell_that_is_no_longer_allowed_ends_and_a_command_goes_on(hosts):
    token = hosts.run()["token"]
    shell = hosts.start_ssh(None, "-T", token=token)
    command = hosts.start_ssh("echo started; cat", token=token)
    try:
        shell.stdin.write(b"echo open\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"open\n"
        assert command.stdout.readline() == b"started\n"
        hosts.gateway.apply(NO_SHELLS)
        _, told = shell.communicate(timeout=20)
        assert shell.returncode != 0 and b"Nobody has a shell." in told, told
        command.stdin.write(b"still here\n")
        command.stdin.close()
        assert command.stdout.read() == b"still here\n"
        assert command.wait(20) == 0
    finally:
        for client in (shell, command):
            if client.poll() is None:
                client.kill()
                client.wait()
    denied = [event for event in hosts.events("--event", "statement.decided")
              if event["outcome"] == "deny"]
    assert [event["verbs"] for event in denied] == [["shell"]]
    wait_until(lambda: len(hosts.events("--event", "statement.completed")) == 2, "both are accounted")
    refused = hosts.ssh(None, "-T", token=token, stdin=b"echo again\n", expect=None)
    assert refused.returncode != 0 and b"again" not in refused.stdout
