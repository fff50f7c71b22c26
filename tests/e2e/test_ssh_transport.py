"""What is below the channels: algorithms that are offered or refused, and somebody on the way who
changes the beginning."""

import subprocess

import pytest

from harness.hosts import Hosts
from harness.sshd import RealSshd
from harness.terrapin import Middle
from harness.waiting import wait_until

WEAK = {
    "key exchange": ["KexAlgorithms=diffie-hellman-group14-sha1"],
    "cipher": ["Ciphers=aes128-cbc"],
    # A cipher of its own kind has no MAC.
    "MAC": ["Ciphers=aes128-ctr", "MACs=hmac-sha1"],
    "host key": ["HostKeyAlgorithms=ssh-rsa"],
}
NO_ALGORITHM = b"the target shows no host key of a kind that is pinned, or offers no algorithm " \
               b"that is not weak"


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as running:
        yield running


def refusals(hosts):
    return hosts.events("--event", "session.refused")


def one_more(hosts, before):
    """The only refusal behind those."""
    found = wait_until(lambda: refusals(hosts)[len(before):], "the refusal is recorded")
    assert len(found) == 1
    return found[0]


# -- algorithms

@pytest.mark.parametrize("kind", WEAK)
def test_a_client_that_offers_only_a_weak_algorithm_is_refused_with_one_event(hosts, kind):
    before = refusals(hosts)
    options = [word for option in WEAK[kind] for word in ("-o", option)]
    result = hosts.ssh("true", *options, expect=255)
    assert b"Unable to negotiate" in result.stderr
    assert one_more(hosts, before)["reason"] == "the connection ended before the login"
    assert hosts.ssh("echo fine").stdout == b"fine\n"


@pytest.mark.parametrize("kind", WEAK)
def test_a_target_that_offers_only_a_weak_algorithm_is_refused(hosts, kind, tmp_path):
    key = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", key],
                   check=True, stdin=subprocess.DEVNULL)
    lines = [option.replace("=", " ", 1) for option in WEAK[kind]]
    with RealSshd("\n".join([f"HostKey {key}", *lines])) as sshd:
        pinned = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        host_key = pinned if kind == "host key" else sshd.host_key
        hosts.gateway.apply(hosts.target("web-1", port=sshd.port, host_key=host_key))
        run = hosts.run()
        result = hosts.ssh("true", token=run["token"], expect=255)
        hosts.gateway.apply(hosts.target("web-1"))
        assert NO_ALGORITHM in result.stderr
        assert "no matching" in sshd.log()
    (closed,) = hosts.events("--run", run["run_id"], "--event", "session.closed")
    assert closed["reason"] == "target"


# -- Terrapin

def test_a_packet_slipped_in_before_a_clients_keys_ends_its_connection(hosts):
    before = refusals(hosts)
    accepted = hosts.sshd.log().count("Accepted")
    with Middle(hosts.address[1], to="server") as middle:
        result = hosts.ssh("true", port=middle.port, expect=255)
        assert middle.was_inserted and b"Permission denied" not in result.stderr
    assert one_more(hosts, before)["reason"] == "the connection ended before the login"
    assert hosts.sshd.log().count("Accepted") == accepted
    assert hosts.ssh("echo fine").stdout == b"fine\n"


def test_a_packet_slipped_in_before_a_targets_keys_ends_its_session(hosts):
    log = len(hosts.sshd.log())
    with Middle(hosts.sshd.port, to="client") as middle:
        credential = f'username: {hosts.user}, password: {{value: "never sent"}}'
        hosts.gateway.apply(hosts.target("web-1", credential=credential, port=middle.port))
        run = hosts.run()
        result = hosts.ssh("true", token=run["token"], expect=255)
        assert b"the target does not answer as an SSH server" in result.stderr
        assert middle.was_inserted
    (closed,) = hosts.events("--run", run["run_id"], "--event", "session.closed")
    assert closed["reason"] == "target"
    # No request of a login came to the host.
    assert "for root" not in hosts.sshd.log()[log:] and "Failed" not in hosts.sshd.log()[log:]
    hosts.gateway.apply(hosts.target("web-1"))
    assert hosts.ssh("echo fine").stdout == b"fine\n"
