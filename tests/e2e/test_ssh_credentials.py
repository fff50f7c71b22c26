"""How the gateway logs in to a host: certificates of its own authority, and passwords."""

import pytest

from harness.account import Account
from harness.hosts import Hosts
from harness.sshd import RealSshd

POLICY = """
---
kind: Policy
name: also-{name}
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"shell"],
          resource in Corral::Target::"{name}");
"""
REFUSED = b"the target refused the gateway's credential"


def reached(hosts, name, credential, options=""):
    """The host as one more target."""
    hosts.gateway.apply(hosts.target(name, options, credential) + POLICY.format(name=name))
    return name


@pytest.fixture(scope="module")
def account():
    with Account() as made:
        yield made


# -- certificates

@pytest.fixture(scope="module")
def issued():
    with Hosts() as hosts:
        # The key that it would log in with otherwise is known no more.
        (hosts.sshd.folder / "authorized_keys").write_text("")
        reached(hosts, "web-2", f"username: {hosts.user}, issued: true")
        yield hosts


def test_a_certificate_of_an_authority_that_the_host_does_not_trust_is_refused(issued):
    run = issued.run()
    result = issued.ssh("id -un", target="web-2", token=run["token"], expect=255)
    assert REFUSED in result.stderr
    (closed,) = issued.events("--run", run["run_id"], "--event", "session.closed")
    assert closed["reason"] == "target"
    assert not issued.events("--run", run["run_id"], "--event", "statement.decided")
    # Nor is the gateway's key for its clients an authority for hosts.
    line = issued.gateway.run("published", "ssh", "--for", "clients").stdout
    issued.sshd.trust(line[line.index("ssh-ed25519"):])
    assert REFUSED in issued.ssh("id", target="web-2", expect=255).stderr


def test_a_certificate_of_the_gateways_own_authority_logs_in(issued):
    issued.sshd.trust(issued.gateway.run("published", "ssh", "--for", "targets").stdout)
    run = issued.run()
    result = issued.ssh("id -un", target="web-2", token=run["token"])
    assert result.stdout.decode().strip() == issued.user
    (decided,) = issued.events("--run", run["run_id"], "--event", "statement.decided")
    named = f'ID corral session={decided["session"]} run={run["run_id"]} sponsor=ada@example.com'
    # The host's own log says whose session it was.
    (line,) = [line for line in issued.sshd.log().splitlines()
               if "Accepted publickey" in line and decided["session"] in line]
    assert named in line and "ED25519-CERT" in line


def test_a_certificate_is_for_the_login_that_was_asked_for(issued, account):
    issued.sshd.trust(issued.gateway.run("published", "ssh", "--for", "targets").stdout)
    reached(issued, "web-3", f"username: {issued.user}, issued: true",
            f"  logins: [{account.name}]\n")
    for user in (issued.user, account.name):
        result = issued.ssh("id -un", target="web-3", user=user)
        assert result.stdout.decode().strip() == user


# -- passwords

@pytest.mark.parametrize("asks", [
    "PasswordAuthentication yes\nKbdInteractiveAuthentication no\nUsePAM no",
    "PasswordAuthentication no\nKbdInteractiveAuthentication yes\nUsePAM yes",
], ids=["password", "keyboard-interactive"])
def test_a_password_logs_in_and_a_wrong_one_does_not(account, asks):
    with Hosts(sshd=RealSshd(asks)) as hosts:
        for name, password in [("right", account.password), ("wrong", "another")]:
            credential = f'username: {account.name}, password: {{value: "{password}"}}'
            reached(hosts, name, credential)
        result = hosts.ssh("id -un", target="right", user=account.name)
        assert result.stdout.decode().strip() == account.name
        result = hosts.ssh("id -un", target="wrong", user=account.name, expect=255)
        assert REFUSED in result.stderr
        assert account.password not in hosts.gateway.log() + str(hosts.events())
