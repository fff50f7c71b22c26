"""npm's ssh2, unchanged, with a run's token as its password."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from harness.hosts import Hosts

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("CORRAL_CACHE") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "corral")
MODULES = CACHE / "node" / "node_modules"


@pytest.fixture(scope="module")
def hosts():
    assert shutil.which("node") and MODULES.exists(), "npm's ssh2 is missing; run .ci/setup clients"
    with Hosts() as running:
        yield running


def ssh2(hosts, do, token=None, user="ada@example.com", **job):
    job |= {"do": do, "host": hosts.address[0], "port": hosts.address[1],
            "user": f"{hosts.user}@web-1", "password": token or hosts.run(user=user)["token"]}
    done = subprocess.run(["node", HERE / "node" / "ssh2.js"], input=json.dumps(job), text=True,
                          capture_output=True, timeout=45,
                          env=hosts.env("") | {"NODE_PATH": str(MODULES)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_commands_run_side_by_side_with_their_own_ends(hosts):
    commands = [f"cat; echo e{n} >&2; exit {n}" for n in range(4)] + ["kill -TERM $$"]
    results = ssh2(hosts, "exec", commands=commands, stdin="in")["result"]
    for number, result in enumerate(results[:4]):
        assert result == {"stdout": "in", "stderr": f"e{number}\n", "code": number, "signal": None}
    assert results[4]["code"] is None and results[4]["signal"] == "SIGTERM"


def test_a_denied_command_ends_with_126_and_its_neighbour_runs(hosts):
    denied, allowed = ssh2(hosts, "exec", commands=["reboot now", "echo up"])["result"]
    assert denied["code"] == 126
    assert "Hosts are rebooted by their owners." in denied["stderr"]
    assert allowed["stdout"] == "up\n" and allowed["code"] == 0


def test_a_shell_has_the_terminal_that_was_asked_for(hosts):
    result = ssh2(hosts, "shell", cols=97, rows=31, input="stty size; tty; exit 5\n")["result"]
    assert "31 97" in result["stdout"]
    assert "/dev/pts/" in result["stdout"]
    assert result["code"] == 5


def test_files_are_written_read_and_renamed(hosts):
    path = hosts.work("from-node")
    result = ssh2(hosts, "sftp", path=str(path), bytes=700_000)["result"]
    assert result == {"size": 700_000, "isSame": True}
    moved = pathlib.Path(f"{path}.moved")
    assert moved.read_bytes() == (b"0123456789abcdef" * 43_750)[:700_000]


def test_a_write_that_policy_denies_is_a_failure_of_that_operation(hosts):
    path = hosts.work("never")
    result = ssh2(hosts, "sftp", user="rita@example.com", path=str(path), bytes=10)["result"]
    # SSH_FX_PERMISSION_DENIED
    assert result["code"] == 3
    assert not path.exists()


def test_a_wrong_token_is_told_why(hosts):
    answer = ssh2(hosts, "exec", token="nonsense", commands=["true"])
    assert "authentication" in answer["refused"].lower()
    assert "corral" in answer["banner"].lower()
