"""Other implementations of SSH, and programs that run over it, unchanged but for the host name."""

import asyncio
import os
import pathlib
import shlex
import subprocess
import sys

import asyncssh
import paramiko
import pytest

from harness.hosts import Hosts

PYTHON_BIN = pathlib.Path(sys.executable).parent


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as running:
        yield running


def run(words, hosts, token, stdin=b"", expect=0, more=None, cwd=None):
    result = subprocess.run([str(word) for word in words], input=stdin, capture_output=True,
                            env=hosts.env(token) | (more or {}), timeout=60, cwd=cwd)
    if expect is not None:
        assert result.returncode == expect, (result.returncode, result.stdout, result.stderr)
    return result


# -- paramiko

@pytest.fixture
def paramiko_client(hosts):
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(hosts.address[0], hosts.address[1], username=f"{hosts.user}@web-1",
                   password=hosts.run()["token"], allow_agent=False, look_for_keys=False)
    yield client
    client.close()


def test_paramiko_runs_commands_side_by_side(paramiko_client):
    channels = [paramiko_client.exec_command(f"echo {n}; echo e{n} >&2; exit {n}")
                for n in range(8)]
    for number, (_, out, err) in enumerate(channels):
        assert out.read() == b"%d\n" % number
        assert err.read() == b"e%d\n" % number
        assert out.channel.recv_exit_status() == number


def test_paramiko_sftp(paramiko_client, hosts):
    data = os.urandom(300_000)
    sftp = paramiko_client.open_sftp()
    path = str(hosts.work("paramiko"))
    with sftp.open(path, "wb") as file:
        file.set_pipelined(True)
        file.write(data)
    assert sftp.stat(path).st_size == len(data)
    with sftp.open(path, "rb") as file:
        assert file.read() == data
    assert "paramiko" in sftp.listdir(str(hosts.folder))
    sftp.posix_rename(path, path + ".moved")
    sftp.remove(path + ".moved")
    assert not hosts.work("paramiko.moved").exists()


def test_paramiko_is_told_why_sftp_is_denied(hosts):
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(hosts.address[0], hosts.address[1], username=f"{hosts.user}@web-1",
                   password=hosts.run(user="rita@example.com")["token"], allow_agent=False,
                   look_for_keys=False)
    try:
        with pytest.raises(PermissionError), client.open_sftp() as sftp:
            sftp.open(str(hosts.work("never")), "w")
    finally:
        client.close()
    assert not hosts.work("never").exists()


# -- asyncssh

def test_asyncssh(hosts):
    async def talk():
        async with asyncssh.connect(hosts.address[0], hosts.address[1],
                                    username=f"{hosts.user}@web-1", known_hosts=None,
                                    password=hosts.run()["token"], client_keys=None,
                                    agent_path=None) as connection:
            result = await connection.run("cat; echo done >&2; exit 5", input="hello")
            assert (result.stdout, result.stderr, result.exit_status) == ("hello", "done\n", 5)
            async with connection.start_sftp_client() as sftp:
                path = str(hosts.work("asyncssh"))
                async with sftp.open(path, "wb") as file:
                    await file.write(b"x" * 100_000)
                assert (await sftp.stat(path)).size == 100_000
                assert path in [p async for p in paths(sftp)]
            process = await connection.create_process("cat", term_type="xterm",
                                                      term_size=(80, 24))
            process.stdin.write("typed\n")
            assert "typed" in await process.stdout.readline()
            process.terminate()

    async def paths(sftp):
        for name in await sftp.glob(str(hosts.folder / "*")):
            yield name

    asyncio.run(asyncio.wait_for(talk(), 50))


# -- PuTTY and dropbear: a second and a third implementation

def test_plink(hosts):
    token = hosts.run()["token"]
    host, port = hosts.address
    scan = subprocess.run(["ssh-keyscan", "-p", str(port), host], capture_output=True, text=True,
                          timeout=20).stdout
    key = [line.split()[2] for line in scan.splitlines() if "ssh-ed25519" in line][0]
    fingerprint = subprocess.run(["ssh-keygen", "-lf", "-"], input=f"ssh-ed25519 {key}\n",
                                 text=True, capture_output=True, check=True).stdout.split()[1]
    password = hosts.sshd.folder / "plink-password"
    password.write_text(token)
    result = run(["plink", "-batch", "-ssh", "-P", port, "-l", f"{hosts.user}@web-1",
                  "-pwfile", password, "-hostkey", fingerprint, host,
                  "echo out; echo err >&2; exit 4"], hosts, token, expect=4)
    assert result.stdout == b"out\n" and b"err" in result.stderr


def test_dropbears_client(hosts):
    token = hosts.run()["token"]
    host, port = hosts.address
    result = run(["dbclient", "-y", "-y", "-p", port, "-l", f"{hosts.user}@web-1", host,
                  "echo out; exit 6"], hosts, token, expect=6, more={"DROPBEAR_PASSWORD": token})
    assert result.stdout == b"out\n"


# -- programs over ssh

def test_rsync(hosts, tmp_path):
    token = hosts.run()["token"]
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    (source / "a").write_bytes(os.urandom(200_000))
    (source / "deep" / "b c").write_text("spaces")
    shell = shlex.join(["ssh", *hosts.options(), "-p", str(hosts.address[1])])
    there = hosts.work("rsync")
    run(["rsync", "-a", "-e", shell, f"{source}/", hosts.remote(there)], hosts, token)
    run(["rsync", "-a", "-e", shell, hosts.remote(f"{there}/"), back], hosts, token)
    assert (back / "a").read_bytes() == (source / "a").read_bytes()
    assert (back / "deep" / "b c").read_text() == "spaces"


def test_git(hosts, tmp_path):
    token = hosts.run()["token"]
    shell = shlex.join(["ssh", *hosts.options(), "-p", str(hosts.address[1])])
    more = {"GIT_SSH_COMMAND": shell, "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}
    bare = hosts.work("repository.git")
    run(["git", "init", "-q", "--bare", "-b", "main", bare], hosts, token, more=more)
    work, clone = tmp_path / "work", tmp_path / "clone"
    run(["git", "init", "-q", "-b", "main", work], hosts, token, more=more)
    (work / "file").write_bytes(os.urandom(100_000))
    run(["git", "add", "file"], hosts, token, more=more, cwd=work)
    run(["git", "commit", "-q", "-m", "first"], hosts, token, more=more, cwd=work)
    run(["git", "push", "-q", hosts.remote(bare), "main"], hosts, token, more=more, cwd=work)
    run(["git", "clone", "-q", hosts.remote(bare), clone], hosts, token, more=more)
    assert (clone / "file").read_bytes() == (work / "file").read_bytes()


def test_ansible(hosts, tmp_path):
    token = hosts.run()["token"]
    inventory = tmp_path / "inventory"
    arguments = shlex.join(hosts.options())
    inventory.write_text(
        f"web ansible_host={hosts.address[0]} ansible_port={hosts.address[1]} "
        f"ansible_user={hosts.user}@web-1 ansible_password={token} ansible_python_interpreter=/usr/bin/python3 "
        f"ansible_ssh_common_args='{arguments}'\n")
    target = hosts.work("ansible")
    playbook = tmp_path / "play.yaml"
    playbook.write_text(f"""
- hosts: web
  gather_facts: false
  tasks:
    - copy: {{content: "from ansible", dest: "{target}"}}
    - command: cat {target}
      register: result
    - assert: {{that: "result.stdout == 'from ansible'"}}
""")
    result = run([PYTHON_BIN / "ansible-playbook", "-i", inventory, playbook], hosts, token,
                 expect=None, more={"HOME": str(tmp_path), "ANSIBLE_HOST_KEY_CHECKING": "False",
                                    "ANSIBLE_SSH_CONTROL_PATH_DIR": "/tmp",
                                    "ANSIBLE_SSH_PASSWORD_MECHANISM": "ssh_askpass", "LC_ALL": "C.UTF-8"})
    assert result.returncode == 0, result.stdout.decode()[-3000:]
    assert target.read_text() == "from ansible"


def test_ssh_audit_finds_nothing_to_mend(hosts):
    host, port = hosts.address
    result = subprocess.run([PYTHON_BIN / "ssh-audit", "-n", "-l", "warn", "-p", str(port), host],
                            capture_output=True, text=True, timeout=60)
    findings = [line for line in result.stdout.splitlines() if "[fail]" in line or "[warn]" in line]
    # OpenSSH before 9.9, PuTTY and dropbear know no exchange that the gateway and post-quantum
    # cryptography share; those that do are offered it first.
    unknown = [line for line in findings
               if "does not provide protection against post-quantum attacks" not in line]
    assert findings and not unknown, "\n".join(unknown)
    assert not any("[fail]" in line for line in findings)
