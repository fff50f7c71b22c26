"""Inside `corral run`, SSH's usual programs work by the target's name: a real sshd behind the
gateway, nothing set up by hand."""

import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys

import pytest

from harness.hosts import Hosts
from harness.waiting import wait_until

PYTHON_BIN = pathlib.Path(sys.executable).parent


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as open_hosts:
        yield open_hosts


@pytest.fixture
def own_hosts():
    with Hosts() as open_hosts:
        yield open_hosts


@pytest.fixture
def work(hosts, request):
    folder = hosts.folder / request.node.name
    folder.mkdir()
    return folder


def environment(hosts):
    env = hosts.gateway.client_env(hosts.login())
    runtime = hosts.sshd.folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    env["XDG_RUNTIME_DIR"] = str(runtime)
    env.pop("SSH_AUTH_SOCK", None)
    return env


def run(hosts, script, *more, expect=0, env=None):
    return hosts.gateway.run("run", "--name", "agent", "--target", "web-1", *more, "--", "sh",
                             "-ceu", script, env=environment(hosts) | (env or {}), expect=expect)


def test_ssh_and_its_exit_code(hosts):
    assert run(hosts, "ssh web-1 id -un").stdout.strip() == hosts.user
    assert run(hosts, "ssh web-1 'exit 7'", expect=7).returncode == 7
    assert run(hosts, "echo in | ssh web-1 cat").stdout == "in\n"


def test_a_token_is_typed_nowhere(hosts):
    """No terminal, no password program: the wrapper has shown the process's own token already."""
    script = "ssh -v -o BatchMode=yes web-1 true 2>&1"
    told = run(hosts, script, env={"SSH_ASKPASS": "/bin/false"}).stdout
    assert '(via proxy) using "none"' in told


def test_without_the_wrappers_socket_the_certificate_lets_the_run_in(hosts):
    script = "ssh -v -o BatchMode=yes -o ProxyCommand=none web-1 true 2>&1"
    told = run(hosts, script, env={"SSH_ASKPASS": "/bin/false"}).stdout
    assert "ED25519-CERT" in told and 'using "publickey"' in told


def test_each_ssh_is_a_run_of_its_own(hosts):
    script = "ssh web-1 true; scp -q web-1:/etc/hostname /dev/null"
    run(hosts, script, "--purpose", "told apart")
    runs = hosts.gateway.json("runs", "list")
    parent, = [one for one in runs if one.get("purpose") == "told apart"]
    children = [one for one in runs if one.get("parent") == parent["id"]]
    assert len(children) == 2 and all(one["name"].startswith("ssh-") for one in children)
    assert all(one["state"] == "ended" for one in children)
    assert all(one["process"]["program"].endswith("/ssh") for one in children)


def test_scp_both_ways(hosts, work):
    source, there, back = work / "source", work / "there", work / "back"
    source.write_bytes(os.urandom(100_000))
    run(hosts, f"scp -q {source} web-1:{there}; scp -q web-1:{there} {back}")
    assert back.read_bytes() == source.read_bytes()


def test_sftp(hosts, work):
    (work / "a").write_text("by sftp\n")
    run(hosts, f"printf 'put {work}/a {work}/b\\nrename {work}/b {work}/c\\n' | sftp -b - web-1")
    assert (work / "c").read_text() == "by sftp\n"


@pytest.mark.skipif(not shutil.which("rsync"), reason="there is no rsync on this machine")
def test_rsync(hosts, work):
    tree = work / "tree" / "below"
    tree.mkdir(parents=True)
    (tree / "file").write_text("x" * 10_000)
    (tree / "file").chmod(0o750)
    run(hosts, f"rsync -a {work}/tree/ web-1:{work}/copy/")
    run(hosts, f"rsync -a web-1:{work}/copy/ {work}/back/")
    file = work / "back/below/file"
    assert file.read_text() == "x" * 10_000
    assert stat.S_IMODE(file.stat().st_mode) == 0o750


def test_git_clone_and_push(hosts, work):
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
                "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", "init", "-q", "--bare", work / "repo.git"], check=True)
    script = f"""
    git clone -q web-1:{work}/repo.git {work}/clone 2>/dev/null
    cd {work}/clone
    echo one > file; git add file; git commit -qm one; git push -q origin HEAD:main
    git clone -q -b main ssh://web-1{work}/repo.git {work}/second
    """
    run(hosts, script, env=identity)
    assert (work / "second/file").read_text() == "one\n"


def test_programs_that_look_past_the_path_are_led_too(hosts, work):
    """git with a path that has no wrappers: GIT_SSH_COMMAND names the configuration."""
    subprocess.run(["git", "init", "-q", "--bare", work / "repo.git"], check=True)
    script = f"PATH=/usr/bin:/bin git ls-remote web-1:{work}/repo.git"
    assert run(hosts, script).returncode == 0


def test_ansible(hosts):
    script = f"{PYTHON_BIN}/ansible all -i web-1, -m raw -a 'id -un'"
    told = run(hosts, script, env={"ANSIBLE_HOST_KEY_CHECKING": "True"}).stdout
    assert "web-1 | CHANGED" in told and hosts.user in told


def test_connections_share_a_master(hosts):
    script = f"""
    ssh -o ControlMaster=auto -o ControlPath={hosts.folder}/m -o ControlPersist=60 web-1 echo one
    ssh -o ControlPath={hosts.folder}/m -O check web-1 2>&1
    ssh -o ControlPath={hosts.folder}/m web-1 echo two
    ssh -o ControlPath={hosts.folder}/m -O exit web-1 2>/dev/null
    """
    told = run(hosts, script).stdout
    assert "one" in told and "two" in told and "Master running" in told


def test_the_run_is_who_acted(hosts):
    started = run(hosts, "ssh web-1 'echo who-did-this'; echo $CORRAL_RUN_ID").stdout.split()[-1]
    events = hosts.gateway.json("audit", "search", "--run", started)
    texts = [event.get("statement", "") for event in events if event["event"] == "statement.decided"]
    assert any("who-did-this" in text for text in texts), texts
    assert {event["principal"] for event in events if "principal" in event} == {
        "ada@example.com"}


def test_a_child_run_has_files_of_its_own(hosts):
    """The wrappers of the child stand before those of its parent."""
    script = """
    outer=$SSH_AUTH_SOCK
    corral run --name child -- sh -ceu 'test "$SSH_AUTH_SOCK" != "$0"; ssh web-1 echo child' $outer
    ssh web-1 echo parent
    """
    assert run(hosts, script).stdout.split() == ["child", "parent"]


# Forks clients of a library that knows the agent alone; they hold a session each until told.
LIBRARY = """
import os, sys, paramiko
FORKS = int(sys.argv[1])
gate, opened = os.pipe(), os.pipe()
for n in range(FORKS):
    if os.fork() == 0:
        os.close(gate[1])
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(os.environ["CORRAL_SSH_HOST"], int(os.environ["CORRAL_SSH_PORT"]),
                       username=sys.argv[2] + "@web-1", look_for_keys=False, banner_timeout=60,
                       auth_timeout=60)
        _, output, _ = client.exec_command("echo by %d; cat" % os.getpid())
        os.write(opened[1], output.readline().encode())
        os.read(gate[0], 1)
        os._exit(0)
lines = []
with os.fdopen(opened[0]) as reader:
    for n in range(FORKS):
        lines.append(reader.readline().split()[1])
    print(*lines, flush=True)
    sys.stdin.readline()
os.close(gate[1])
"""
FORKS = 50


def below(hosts, name):
    root, = [run for run in hosts.gateway.json("runs", "tree") if run["name"] == name]
    return root, [hosts.gateway.json("runs", "show", run["run_id"]) for run in root["children"]]


def test_fifty_processes_with_one_agent_are_fifty_executors(hosts):
    process = subprocess.Popen(
        [hosts.gateway.program, "run", "--name", "libraries", "--target", "web-1", "--",
         sys.executable, "-c", LIBRARY, str(FORKS), hosts.user],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(hosts), cwd=hosts.folder)
    try:
        pids = {int(pid) for pid in process.stdout.readline().split()}
        assert len(pids) == FORKS
        root, children = below(hosts, "libraries")
        assert root["sessions"] == 0, "the wrapper's own run has no session"
        assert {run["process"]["pid"] for run in children} == pids
        assert all(run["sessions"] == 1 and run["state"] == "active" for run in children)
        # One of them dies: its run ends, and nobody else's.
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)
        ended = lambda: [run for run in below(hosts, "libraries")[1] if run["state"] == "ended"]
        wait_until(ended, "its run ends", 5)
        assert [run["process"]["pid"] for run in ended()] == [victim]
        assert process.communicate("\n", timeout=60)[0] is not None
    finally:
        process.kill()
        process.wait()
    assert all(run["state"] == "ended" for run in below(hosts, "libraries")[1])


def test_an_agents_certificate_is_of_the_process_that_asked(own_hosts):
    """A policy that demands to know the process lets it in; the token by hand is refused."""
    own_hosts.gateway.apply("""
kind: Policy
name: by-process
cedar: |
  @id("by-process") @reason("Connect through corral run.")
  forbid (principal, action, resource in Corral::Target::"web-1")
  unless { context.attribution == "process" };
""")
    script = "ssh -v -o BatchMode=yes -o ProxyCommand=none web-1 'echo let in' 2>&1; ssh-add -l"
    told = run(own_hosts, script, env={"SSH_ASKPASS": "/bin/false"}).stdout
    assert "let in" in told and 'using "publickey"' in told and "ED25519-CERT" in told
    # Each asks for itself: two keys, of which neither is the other's.
    listed = run(own_hosts, "ssh-add -L; ssh-add -L").stdout.split()
    assert len({word for word in listed if len(word) > 100}) == 2


def test_the_agent_answers_nobody_outside_of_the_run(hosts):
    process = subprocess.Popen(
        [hosts.gateway.program, "run", "--name", "inside", "--target", "web-1", "--", "sh", "-c",
         "echo $SSH_AUTH_SOCK; read line"], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(hosts))
    socket = process.stdout.readline().strip()
    told = subprocess.run(["ssh-add", "-l"], env=os.environ | {"SSH_AUTH_SOCK": socket},
                          text=True, capture_output=True)
    assert told.returncode != 0 and "CERT" not in told.stdout
    _, errors = process.communicate("\n", timeout=30)
    assert "is none of this run" in errors
    assert below(hosts, "inside")[1] == []


def test_a_process_whose_run_was_killed_has_no_certificate(hosts):
    script = ("import subprocess, sys\n"
              "import paramiko\n"
              "print(len(paramiko.Agent().get_keys()), flush=True); sys.stdin.readline()\n"
              "print(len(paramiko.Agent().get_keys()))\n"
              "client = paramiko.SSHClient()\n"
              "client.set_missing_host_key_policy(paramiko.AutoAddPolicy())\n"
              "import os\n"
              "try: client.connect(os.environ['CORRAL_SSH_HOST'],"
              " int(os.environ['CORRAL_SSH_PORT']), username=sys.argv[1] + '@web-1',"
              " look_for_keys=False)\n"
              "except paramiko.SSHException as error: print('refused', error)\n")
    process = subprocess.Popen(
        [hosts.gateway.program, "run", "--name", "killed", "--target", "web-1", "--",
         sys.executable, "-c", script, hosts.user], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(hosts))
    assert process.stdout.readline().strip() == "1"
    _, (child,) = below(hosts, "killed")
    hosts.gateway.run("runs", "kill", child["id"])
    told, _ = process.communicate("\n", timeout=60)
    assert "refused" in told, told
    assert len(below(hosts, "killed")[1]) == 1, "it got no other run"


def test_an_ended_run_lets_nobody_in(hosts):
    """Neither the wrapper's socket nor the agent."""
    script = """
    ssh web-1 true
    corral runs end "$CORRAL_RUN_ID" >/dev/null
    ssh -o BatchMode=yes web-1 true 2>&1 && echo still in || echo out
    ssh -o BatchMode=yes -o ProxyCommand=none web-1 true 2>&1 && echo still in || echo out
    """
    told = run(hosts, script, expect=None).stdout
    by_socket, by_agent, rest = told.split("out\n")
    assert "Connection closed" in by_socket and "Permission denied" in by_agent and not rest


def test_a_changed_gateway_key_is_refused(hosts):
    script = """
    known=$(dirname "$SSH_AUTH_SOCK")/known_hosts
    ssh-keygen -q -t ed25519 -N '' -f "$KEY"
    read place rest < "$known"; echo "$place $(cat "$KEY.pub")" > "$known"
    ssh -o BatchMode=yes web-1 true 2>&1 || echo refused
    """
    told = run(hosts, script, env={"KEY": str(hosts.sshd.folder / "other")}).stdout
    assert "HOST IDENTIFICATION HAS CHANGED" in told and told.endswith("refused\n")


def test_connect_and_env_without_a_run(hosts):
    env = environment(hosts)
    gateway = hosts.gateway
    told = gateway.run("connect", "web-1", "--", "id", "-un", env=env).stdout
    assert told.strip() == hosts.user
    lines = gateway.run("env", "web-1", env=env).stdout
    bare = {key: value for key, value in env.items() if not key.startswith("CORRAL_")}
    result = subprocess.run(["sh", "-ceu", lines + "\nssh -o BatchMode=yes web-1 id -un"],
                            env=bare, text=True, capture_output=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, hosts.user), result.stderr


def test_target_check_shows_and_pins_the_hosts_keys(hosts):
    gateway, admin = hosts.gateway, hosts.gateway.client_env()
    checked = gateway.json("target", "check", "web-1", env=admin)
    assert {"key": hosts.sshd.host_key, "is_pinned": True} in checked["keys"]
    gateway.apply(hosts.target("web-2").replace(hosts.sshd.host_key, other_key(hosts)))
    told = gateway.run("target", "check", "web-2", env=admin, expect=1)
    assert "not pinned" in told.stdout and hosts.sshd.host_key in told.stdout
    gateway.run("target", "check", "web-2", "--pin", env=admin)
    gateway.run("target", "check", "web-2", env=admin)
    spec = gateway.json("get", "target", "web-2", env=admin)
    assert spec["options"]["host_keys"] == [hosts.sshd.host_key]
    assert spec["credential"]["username"] == hosts.user, "the rest stays as it was"
    refused = gateway.run("target", "check", "web-1", env=environment(hosts), expect=3)
    assert refused.stderr.startswith("corral:")


def other_key(hosts):
    path = pathlib.Path(hosts.sshd.folder / f"stranger-{os.urandom(4).hex()}")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])
