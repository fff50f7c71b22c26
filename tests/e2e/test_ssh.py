"""Stock OpenSSH clients against a real sshd, through the gateway."""

import hashlib
import json
import os
import pty
import subprocess
import threading
import time

import paramiko
import pytest

from harness.hosts import Hosts
from harness.waiting import wait_until


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as running:
        yield running


@pytest.fixture
def own_hosts():
    with Hosts() as running:
        yield running


def decided(hosts, run, outcome):
    return [event for event in hosts.events("--run", run["run_id"])
            if event["event"] == "statement.decided" and event["outcome"] == outcome]


def completed(hosts, run):
    def found():
        return [event for event in hosts.events("--run", run["run_id"])
                if event["event"] == "statement.completed"]
    return wait_until(found, "a completed statement")


# -- exec

@pytest.mark.parametrize("password", [True, False], ids=["password", "keyboard-interactive"])
def test_a_command_runs_as_the_targets_own_account(hosts, password):
    result = hosts.ssh("id -un; echo oops >&2", password=password)
    assert result.stdout.decode().split() == [hosts.user]
    assert b"oops" in result.stderr


@pytest.mark.parametrize("code", [0, 1, 7, 126, 255])
def test_the_exit_code_is_the_commands(hosts, code):
    hosts.ssh(f"exit {code}", expect=code)


def test_standard_input_and_output_are_byte_for_byte(hosts):
    data = os.urandom(3_000_000)
    result = hosts.ssh("cat", stdin=data)
    assert result.stdout == data


def test_standard_error_is_apart(hosts):
    result = hosts.ssh("seq 1 20000 >&2; seq 1 20000")
    expected = b"".join(b"%d\n" % n for n in range(1, 20001))
    assert result.stdout == expected
    assert result.stderr == expected


def test_the_exact_command_is_recorded_with_its_exit_code(hosts):
    run = hosts.run()
    hosts.ssh("echo 'one  two' | tr a-z A-Z; exit 3", token=run["token"], expect=3)
    [event] = decided(hosts, run, "allow")
    assert event["statement"] == "echo 'one  two' | tr a-z A-Z; exit 3"
    assert event["verbs"] == ["exec"]
    assert event["target"] == "web-1"
    assert completed(hosts, run)[0]["code"] == "3"


def test_a_denied_command_says_why_and_never_runs(hosts):
    run = hosts.run()
    marker = hosts.work("denied")
    result = hosts.ssh(f"touch {marker}; reboot", token=run["token"], expect=126)
    assert b"corral: no-reboot: Hosts are rebooted by their owners." in result.stderr
    assert not marker.exists()
    [event] = decided(hosts, run, "deny")
    assert event["rules"] == ["no-reboot"]


def test_a_held_command_goes_on_in_the_waiting_client(hosts):
    run = hosts.run()
    client = hosts.start_ssh("echo restart done", token=run["token"])
    pending = wait_until(
        lambda: [a for a in hosts.gateway.json("approvals", "list")
                 if a["state"] == "pending" and a["run_id"] == run["run_id"]], "an approval")
    assert pending[0]["statement"] == "echo restart done"
    hosts.gateway.run("approvals", "approve", pending[0]["id"], "--reason", "checked",
                      token=hosts.login("grace@example.com"))
    out, err = client.communicate(timeout=20)
    assert client.returncode == 0, err
    assert out == b"restart done\n"
    assert pending[0]["id"].encode() in err


def test_a_refused_approval_ends_with_126(hosts):
    run = hosts.run()
    client = hosts.start_ssh("echo restart", token=run["token"])
    pending = wait_until(
        lambda: [a for a in hosts.gateway.json("approvals", "list")
                 if a["state"] == "pending" and a["run_id"] == run["run_id"]], "an approval")
    hosts.gateway.run("approvals", "deny", pending[0]["id"], "--reason", "not today",
                      token=hosts.login("grace@example.com"))
    out, err = client.communicate(timeout=20)
    assert client.returncode == 126
    assert b"not today" in err and out == b""


def test_a_client_that_leaves_withdraws_its_request(hosts):
    run = hosts.run()
    client = hosts.start_ssh("echo restart", token=run["token"])
    pending = wait_until(
        lambda: [a for a in hosts.gateway.json("approvals", "list")
                 if a["state"] == "pending" and a["run_id"] == run["run_id"]], "an approval")
    client.kill()
    client.communicate()
    wait_until(lambda: hosts.gateway.json("approvals", "show", pending[0]["id"])["state"]
               == "withdrawn", "the request is withdrawn")


# -- who comes in

def test_a_wrong_token_is_refused_and_recorded_once(hosts):
    before = len([e for e in hosts.events() if e["event"] == "session.refused"])
    result = hosts.ssh("id", token="crl_wrong", expect=255)
    assert b"Permission denied" in result.stderr or b"corral:" in result.stderr
    refused = [e for e in hosts.events() if e["event"] == "session.refused"]
    assert len(refused) == before + 1
    assert "crl_wrong" not in str(refused)


def test_who_may_not_connect_is_told_why(hosts):
    run = hosts.run(user="nobody@example.com")
    result = hosts.ssh("id", token=run["token"], expect=255)
    assert b"corral:" in result.stderr


def test_an_unknown_target_is_refused(hosts):
    result = hosts.ssh("id", target="elsewhere", expect=255)
    assert b"corral:" in result.stderr


def test_an_ended_run_opens_nothing(hosts):
    run = hosts.run()
    hosts.gateway.run("runs", "end", run["run_id"])
    hosts.ssh("id", token=run["token"], expect=255)


def test_a_reader_may_not_run_commands(hosts):
    run = hosts.run(user="rita@example.com")
    result = hosts.ssh("id", token=run["token"], expect=126)
    assert b"corral:" in result.stderr


def test_another_account_than_the_targets_is_refused(hosts):
    words = ["ssh", *hosts.options(), "-p", str(hosts.address[1]),
             f"somebody@web-1@{hosts.address[0]}", "id"]
    result = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL,
                            env=hosts.env(hosts.run()["token"]), timeout=30)
    assert result.returncode != 0
    assert b"corral:" in result.stderr


def test_a_changed_host_key_is_refused(own_hosts):
    own_hosts.ssh("true")
    own_hosts.sshd.change_host_key()
    run = own_hosts.run()
    result = own_hosts.ssh("true", token=run["token"], expect=None)
    assert result.returncode != 0
    assert b"corral:" in result.stderr
    assert not decided(own_hosts, run, "allow") or completed(own_hosts, run)


# -- shells

def talk(hosts, token, lines, until, deadline_s=20):
    """Types lines into `ssh -tt` on a terminal of its own; gives what was shown."""
    master, slave = pty.openpty()
    words = ["ssh", *hosts.options(), "-tt", "-p", str(hosts.address[1]), hosts.destination()]
    client = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave,
                              env=hosts.env(token) | {"TERM": "xterm"}, start_new_session=True)
    os.close(slave)
    shown = bytearray()

    def read():
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                return
            if not chunk:
                return
            shown.extend(chunk)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        for line in lines:
            os.write(master, line)
        wait_until(lambda: until in bytes(shown), f"{until!r} is shown: {bytes(shown)!r}",
                   deadline_s)
        os.write(master, b"exit\n")
        client.wait(20)
    finally:
        if client.poll() is None:
            client.kill()
            client.wait()
        os.close(master)
    return bytes(shown), client.returncode


def test_a_shell_has_a_terminal_and_its_session_can_be_replayed(hosts):
    run = hosts.run()
    shown, code = talk(hosts, run["token"], [b"stty size; echo $((40+2))$TERM\n"], b"42xterm")
    assert code == 0
    opened = [event for event in decided(hosts, run, "allow")]
    assert opened[0]["verbs"] == ["shell"]
    completed(hosts, run)
    session = opened[0]["session"]
    cast = hosts.gateway.run("replay", session, "--format", "cast").stdout
    assert "42xterm" in cast


# -- files

def test_sftp_reads_and_writes_and_is_recorded_by_path(hosts):
    run = hosts.run()
    local, remote = hosts.work("local"), hosts.work("remote")
    data = os.urandom(500_000)
    local.write_bytes(data)
    hosts.sftp(f"put {local} {remote}\nget {remote} {local}.back\nrename {remote} {remote}.moved\n"
               f"rm {remote}.moved\n", token=run["token"])
    assert hosts.work("local.back").read_bytes() == data
    statements = [event["statement"] for event in decided(hosts, run, "allow")]
    assert any(str(remote) in text for text in statements), statements
    digests = {event.get("digest") for event in completed(hosts, run)}
    assert hashlib.sha256(data).hexdigest() in digests


def test_a_reader_may_fetch_and_not_store(hosts):
    run = hosts.run(user="rita@example.com")
    source = hosts.work("source")
    source.write_bytes(b"read me")
    hosts.sftp(f"get {source} {source}.copy\n", token=run["token"])
    result = hosts.sftp(f"put {source} {source}.stored\n", token=run["token"], expect=1)
    # OpenSSH's sftp shows the status, not the server's words; other clients show both.
    assert b"Permission denied" in result.stderr
    assert not hosts.work("source.stored").exists()
    [event] = decided(hosts, run, "deny")
    assert str(source) in event["statement"]


@pytest.mark.parametrize("options", [[], ["-O"]], ids=["sftp", "legacy"])
def test_scp_copies_both_ways(hosts, options):
    data = os.urandom(2_000_000)
    source = hosts.work("scp-source")
    source.write_bytes(data)
    hosts.scp(str(source), hosts.remote(hosts.work("scp-there")), *options)
    hosts.scp(hosts.remote(hosts.work("scp-there")), str(hosts.work("scp-back")), *options)
    assert hosts.work("scp-back").read_bytes() == data


# -- channels

def test_every_channel_of_one_connection_is_decided(hosts):
    run = hosts.run()
    socket = hosts.sshd.folder / "mux"
    master = hosts.start_ssh(None, "-M", "-N", "-S", str(socket), token=run["token"])
    try:
        wait_until(socket.exists, "the master is there")
        over = ["-S", str(socket)]
        assert hosts.ssh("echo one", *over, token="none").stdout == b"one\n"
        result = hosts.ssh("reboot", *over, token="none", expect=126)
        assert b"no-reboot" in result.stderr
        assert hosts.ssh("echo two", *over, token="none").stdout == b"two\n"
    finally:
        master.terminate()
        master.communicate()
    assert len(decided(hosts, run, "allow")) == 2
    assert len({event["session"] for event in decided(hosts, run, "allow")}) == 1


def test_an_exit_code_long_after_the_end_of_the_output_is_heard(hosts):
    socket = hosts.sshd.folder / "mux-exit"
    master = hosts.start_ssh(None, "-M", "-N", "-S", str(socket), token=hosts.run()["token"])
    try:
        wait_until(socket.exists, "the master is there")
        # A master closes a channel at the end of both ways, whatever it was told till then.
        hosts.ssh("exec >/dev/null 2>&1; sleep 3; exit 4", "-n", "-S", str(socket), token="none",
                  expect=4)
    finally:
        master.terminate()
        master.communicate()


def test_agent_forwarding_and_x11_reach_nothing(hosts):
    run = hosts.run()
    result = hosts.ssh('echo "[$SSH_AUTH_SOCK][$DISPLAY]"', "-A", "-Y", token=run["token"])
    assert b"[][]" in result.stdout
    assert b"X11 forwarding request failed" in result.stderr
    refused = {event["statement"]: event["rules"] for event in decided(hosts, run, "deny")}
    # Whether ssh finds an agent or a display to ask for is its environment's business.
    assert refused == {"forward X11": ["forward"]}


@pytest.mark.parametrize(("name", "statement"), [
    ("x11-req", "forward X11"), ("auth-agent-req@openssh.com", "forward the agent"),
])
def test_what_is_never_forwarded_is_refused_with_one_event(hosts, paramiko_to, name, statement):
    run = hosts.run()
    transport = paramiko_to(run["token"]).get_transport()
    for _ in range(3):
        channel = transport.open_session()
        with pytest.raises(paramiko.SSHException):
            ask(channel, name)
    assert transport.open_session().active
    (denied,) = decided(hosts, run, "deny")
    assert (denied["statement"], denied["verbs"]) == (statement, ["forward"])


def ask(channel, name):
    """A request that wants an answer; paramiko's own do not always."""
    message = paramiko.Message()
    message.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(name)
    message.add_boolean(True)
    if name == "x11-req":
        message.add_boolean(False)
        message.add_string("MIT-MAGIC-COOKIE-1")
        message.add_string("0" * 32)
        message.add_int(0)
    channel._event_pending()
    channel.transport._send_user_message(message)
    channel._wait_for_event()


def test_environment_passes_by_list_only(hosts):
    words = ["-o", "SendEnv=LC_ALL SNEAKY"]
    run = hosts.run()
    result = subprocess.run(
        ["ssh", *hosts.options(), "-p", str(hosts.address[1]), *words, hosts.destination(),
         'echo "$LC_ALL/$SNEAKY"'], capture_output=True, stdin=subprocess.DEVNULL, timeout=30,
        env=hosts.env(run["token"]) | {"LC_ALL": "C", "SNEAKY": "yes"})
    assert result.stdout == b"C/\n", result


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("said, kept", [
    (TRACE, TRACE), (TRACE.upper(), None), (TRACE.replace("4bf9", "4bg9"), None),
    ("00-" + "0" * 32 + TRACE[35:], None), ("", None)],
    ids=["valid", "upper case", "no digit", "nobody's", "empty"])
def test_a_trace_in_the_environment_is_a_claim_that_does_not_pass(hosts, said, kept):
    run = hosts.run()
    words = [*hosts.ssh_words("-o", "SendEnv=TRACEPARENT", 'echo "[$TRACEPARENT]"')]
    result = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=30,
                            env=hosts.env(run["token"]) | {"TRACEPARENT": said})
    assert result.stdout == b"[]\n", result
    [event] = decided(hosts, run, "allow")
    assert event.get("traceparent") == kept


def test_every_operation_of_sftp_has_the_trace_of_its_channel(hosts):
    run = hosts.run()
    words = ["sftp", *hosts.options(), "-o", "SendEnv=TRACEPARENT", "-P", str(hosts.address[1]),
             hosts.destination()]
    subprocess.run(words, input=b"ls\n", capture_output=True, timeout=30, check=True,
                   env=hosts.env(run["token"]) | {"TRACEPARENT": TRACE})
    found = decided(hosts, run, "allow")
    assert len(found) > 1 and {event.get("traceparent") for event in found} == {TRACE}


# -- ends

def test_a_kill_ends_the_connection_and_the_remote_command(own_hosts):
    run = own_hosts.run()
    client = own_hosts.start_ssh("sleep 3600", token=run["token"])
    wait_until(lambda: any("sleep 3600" in line for _, line in own_hosts.sshd.children()),
               "the command runs")
    started = time.monotonic()
    own_hosts.gateway.run("runs", "kill", run["run_id"])
    client.communicate(timeout=10)
    assert client.returncode != 0
    assert time.monotonic() - started < 10
    wait_until(lambda: not any("sleep 3600" in line and "ssh" not in line
                               for _, line in own_hosts.sshd.children()),
               "the remote command is gone", 10)


@pytest.mark.parametrize(("command", "why"), [
    (b"a\0b", "control character"),
    (b"a\nb", "line break"),
    (b"x" * (300 * 1024), "longer than"),
    (b"x" * (1024 * 1024), "longer than"),
], ids=["nul", "newline", "300 KiB", "1 MiB"])
def test_commands_that_cannot_be_judged_are_denied_with_one_event(hosts, paramiko_to, command, why):
    # ssh itself passes no NUL; paramiko does.
    run = hosts.run()
    client = paramiko_to(run["token"])
    _, out, err = client.exec_command(command.decode(), timeout=20)
    assert out.channel.recv_exit_status() == 126
    assert why in err.read().decode()
    # Only that channel ended.
    assert client.exec_command("echo fine")[1].read() == b"fine\n"
    [denied] = decided(hosts, run, "deny")
    assert len(json.dumps(denied)) < 32 * 1024
    assert len(decided(hosts, run, "allow")) == 1


def test_a_packet_that_is_too_long_ends_its_connection_alone(hosts, paramiko_to):
    run = hosts.run()
    client = paramiko_to(run["token"])
    with pytest.raises((paramiko.SSHException, EOFError, OSError)):
        client.exec_command("x" * (2 * 1024 * 1024), timeout=20)
    ends = wait_until(lambda: [event for event in hosts.events("--run", run["run_id"])
                               if event["event"] == "session.closed"], "the session has ended")
    assert len(ends) == 1
    assert hosts.ssh("echo fine").stdout == b"fine\n"


@pytest.fixture
def paramiko_to(hosts):
    clients = []

    def connect(token):
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(hosts.address[0], hosts.address[1], username=f"{hosts.user}@web-1",
                       password=token, allow_agent=False, look_for_keys=False)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()
