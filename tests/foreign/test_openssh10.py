"""OpenSSH 10.0 on both sides of the gateway: its clients, and its server as the target."""

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness import openssh10  # noqa: E402
from harness.hosts import Hosts  # noqa: E402
from harness.sshd import RealSshd  # noqa: E402

POST_QUANTUM = "mlkem768x25519-sha256"


@pytest.fixture(scope="module")
def programs():
    assert openssh10.exists(), "OpenSSH 10 is missing; run .ci/setup foreign"
    with tempfile.TemporaryDirectory(prefix="corral-openssh10-", dir="/tmp") as folder:
        yield openssh10.OpenSsh10(folder)


@pytest.fixture(scope="module")
def hosts(programs):
    with Hosts(sshd=RealSshd(program=programs.sshd())) as running:
        yield running


@pytest.fixture
def call(hosts, programs):
    def call(name, *words, stdin=b"", expect=0, options=(), token=None):
        port = {"ssh": "-p", "scp": "-P", "sftp": "-P"}[name]
        # A batch file turns prompts off; the password comes by askpass all the same.
        own = [] if name == "ssh" else ["-S", programs["ssh"], "-o", "BatchMode=no"]
        result = subprocess.run(
            [programs[name], *own, *hosts.options(), port, str(hosts.address[1]), *options,
             *map(str, words)],
            input=stdin, capture_output=True, timeout=45,
            env=hosts.env(token or hosts.run()["token"]))
        if expect is not None:
            assert result.returncode == expect, (result.returncode, result.stdout, result.stderr)
        return result
    return call


def test_both_connections_are_post_quantum(hosts, call):
    result = call("ssh", "-v", hosts.destination(), "true")
    said = result.stderr.decode()
    assert "OpenSSH_10.0" in said
    assert f"kex: algorithm: {POST_QUANTUM}" in said
    log = hosts.sshd.log()
    assert "Server listening" in log and "remote software version Corral" in log
    assert f"kex: algorithm: {POST_QUANTUM}" in log


def test_commands_have_their_streams_and_exit_status(hosts, call):
    result = call("ssh", hosts.destination(), "cat; echo err >&2; exit 7", stdin=b"in", expect=7)
    assert result.stdout == b"in" and result.stderr.endswith(b"err\n")
    result = call("ssh", hosts.destination(), "reboot", expect=126)
    assert b"Hosts are rebooted by their owners." in result.stderr
    # As when it is connected directly: what a signal ended is 255.
    call("ssh", hosts.destination(), "kill -TERM $$", expect=255)


def test_a_megabyte_passes_both_ways(hosts, call):
    data = os.urandom(1 << 20)
    assert call("ssh", hosts.destination(), "cat", stdin=data).stdout == data


def test_a_shell_has_a_terminal(hosts, call):
    result = call("ssh", "-tt", hosts.destination(), stdin=b"tty; exit 3\n", expect=3)
    assert b"/dev/pts/" in result.stdout


def test_sftp_writes_reads_renames_and_lists(hosts, call, tmp_path):
    data = os.urandom(300_000)
    (tmp_path / "up").write_bytes(data)
    far = hosts.work("sftp10")
    batch = f"put {tmp_path}/up {far}\nrename {far} {far}.2\nget {far}.2 {tmp_path}/down\n" \
            f"ls -l {far}.2\nrm {far}.2\n"
    result = call("sftp", "-b", "-", hosts.destination(), stdin=batch.encode())
    assert (tmp_path / "down").read_bytes() == data
    assert b"300000" in result.stdout
    assert not pathlib.Path(f"{far}.2").exists()


@pytest.mark.parametrize("way", [[], ["-O"]], ids=["sftp", "scp-protocol"])
def test_scp_copies_both_ways(hosts, call, tmp_path, way):
    data = os.urandom(300_000)
    (tmp_path / "up").write_bytes(data)
    far = hosts.work("scp10")
    call("scp", *way, tmp_path / "up", f"{hosts.destination()}:{far}")
    assert far.read_bytes() == data
    call("scp", *way, f"{hosts.destination()}:{far}", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data


def test_each_channel_of_a_master_is_decided_for_itself(hosts, call, programs):
    # A socket's path is at most 108 bytes.
    control = ["-o", f"ControlPath={programs.folder}/master"]
    call("ssh", "-fN", hosts.destination(), options=["-M", *control])
    try:
        assert call("ssh", hosts.destination(), "echo one", options=control).stdout == b"one\n"
        call("ssh", hosts.destination(), "reboot", options=control, expect=126)
        assert call("ssh", hosts.destination(), "echo two", options=control).stdout == b"two\n"
    finally:
        call("ssh", "-O", "exit", hosts.destination(), options=control)
