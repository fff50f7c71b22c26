"""Commands with typed parameters, called by a stock ssh: who may run only these runs only these."""

import pytest

from harness.hosts import Hosts
from harness.waiting import wait_until

RUNBOOKS = """
---
kind: User
name: olga@example.com
groups: [operators]
password: {value: "olga's password"}
---
kind: Command
name: note
targets: [web-1]
description: Writes down which service somebody looked at.
template: "printf '%s\\\\n' {service} {text} >> FOLDER/notes; printf 'noted %s' {service}"
parameters:
  service: {one_of: [nginx, "re dis"]}
  text: {pattern: "(?s).{0,40}"}
---
kind: Command
name: wait-for
labels: {env: test}
template: sleep {seconds}
parameters:
  seconds: {integer: {min: 0, max: 2}}
---
kind: Policy
name: operators
cedar: |
  permit (principal in Corral::Group::"operators", action == Corral::Action::"connect",
          resource in Corral::Target::"web-1");
  @id("may-note")
  permit (principal in Corral::Group::"operators", action == Corral::Action::"command",
          resource == Corral::Command::"web-1/note");
  @id("urgent") @approval("dba") @reason("Ask first.")
  forbid (principal, action == Corral::Action::"command",
          resource == Corral::Command::"web-1/wait-for");
"""


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as open_hosts:
        open_hosts.gateway.apply(RUNBOOKS.replace("FOLDER", str(open_hosts.folder)))
        yield open_hosts


@pytest.fixture
def olga(hosts):
    return hosts.run(user="olga@example.com")["token"]


def decided(hosts, text):
    found = [event for event in hosts.events("--event", "statement.decided")
             if event["statement"] == text]
    assert found, text
    return found[0]


def test_a_permitted_command_runs_its_line_with_the_values_as_they_are(hosts, olga):
    value = """it's "$HOME" `id` \\ ; * {x} #"""
    quoted = "'" + value.replace("'", "'\"'\"'") + "'"
    answer = hosts.ssh(f"note service='re dis' text={quoted}", token=olga)
    assert answer.stdout == b"noted re dis"
    assert hosts.work("notes").read_text().splitlines()[-2:] == ["re dis", value]
    event = next(event for event in hosts.events("--event", "statement.decided")
                 if event["verbs"] == ["command"] and event["outcome"] == "allow")
    assert event["objects"][0]["name"] == "note"
    assert event["statement"].startswith("printf '%s\\n' 're dis' 'it'\\''s \"$HOME\"")
    values = {parameter["type_name"]: parameter["value"] for parameter in event["parameters"]}
    assert values == {"service": "re dis", "text": value}


def test_whoever_may_run_one_command_runs_nothing_else(hosts, olga):
    for command in ("id", "sh -c id", "/bin/sh", "note; id", "notes service=nginx", "env note",
                    "wait-for seconds=0"):
        answer = hosts.ssh(command, token=olga, expect=126)
        assert answer.stdout == b"", command
        assert answer.stderr.startswith(b"corral: "), command
    shell = hosts.ssh(None, token=olga, stdin=b"id\n", expect=126)
    assert b"uid=" not in shell.stdout
    hosts.sftp("ls /", token=olga, expect=None)
    assert not [event for event in hosts.events("--event", "statement.decided")
                if event["outcome"] == "allow" and "sftp_read" in event["verbs"]
                and event.get("principal") == "olga@example.com"]


@pytest.mark.parametrize("words, reason", [
    ("", "'service' is missing"),
    ("service=nginx", "'text' is missing"),
    ("service=nginx text=a text=b", "'text' is given twice"),
    ("service=nginx text=a more=b", "'more' is no parameter"),
    ("service=apache text=a", "the value of 'service'"),
    ("service=nginx text=a; id", "';' stands outside of quotes"),
    ("service=nginx text=$(id)", "'$' stands outside of quotes"),
    ('service=nginx text="$(id)"', "'$' stands in double quotes"),
    ("service=nginx text='a", "a quote is not closed"),
    ("service=nginx text=" + "x" * 41, "the value of 'text'"),
    ("nginx", "PARAMETER=VALUE"),
])
def test_what_is_no_use_of_the_command_is_refused_and_recorded(hosts, olga, words, reason):
    before = hosts.work("notes").read_bytes() if hosts.work("notes").exists() else b""
    written = f"note {words}".strip()
    answer = hosts.ssh(written, token=olga, expect=126)
    assert reason in answer.stderr.decode() and answer.stdout == b""
    event = decided(hosts, written)
    assert (event["outcome"], event["verbs"]) == ("deny", ["command"])
    after = hosts.work("notes").read_bytes() if hosts.work("notes").exists() else b""
    assert after == before


def test_a_command_gets_no_terminal(hosts, olga):
    answer = hosts.ssh("note service=nginx text=a", "-tt", token=olga, expect=126)
    assert b"without a terminal" in answer.stdout + answer.stderr


def test_an_approval_shows_the_line_that_runs(hosts):
    labels = hosts.target("web-1") + "labels: {env: test}\n"
    hosts.gateway.apply(labels)
    token = hosts.run()["token"]
    client = hosts.start_ssh("wait-for seconds=0", token=token)
    pending = wait_until(lambda: hosts.gateway.json("approvals", "list", "--state", "pending"),
                         "an approval is asked for")
    assert pending[0]["statement"] == "sleep '0'"
    hosts.gateway.run("approvals", "approve", pending[0]["id"], "--reason", "go",
                      token=hosts.login("grace@example.com"))
    out, err = client.communicate(timeout=30)
    assert client.returncode == 0, err


def test_a_session_does_not_run_a_command_that_was_changed_since(hosts):
    options = ["-o", "ControlMaster=auto", "-o", f"ControlPath={hosts.sshd.folder}/master",
               "-o", "ControlPersist=60"]
    token = hosts.run(user="olga@example.com")["token"]
    hosts.ssh("note service=nginx text=a", *options, token=token)
    changed = RUNBOOKS.replace("FOLDER", str(hosts.folder)).replace("{0,40}", "{0,1}")
    hosts.gateway.apply(changed)
    answer = hosts.ssh("note service=nginx text=long", *options, token=token, expect=126)
    assert b"was changed" in answer.stderr
    fresh = hosts.ssh("note service=nginx text=a", token=token)
    assert fresh.stdout == b"noted nginx"
    hosts.ssh("x", "-O", "exit", *options, token=token, expect=None)


def test_people_see_the_commands_of_the_targets_that_they_may_use(hosts, olga):
    names = [command["name"] for command in hosts.gateway.json("get", "command", token=olga)]
    assert "note" in names
    nobody = hosts.login("nobody@example.com")
    assert hosts.gateway.json("get", "commands", token=nobody) == []


def test_a_command_for_a_target_that_runs_none_is_refused(hosts):
    wrong = "kind: Command\nname: x\ntargets: [nowhere]\ntemplate: id\n"
    answer = hosts.gateway.apply(wrong, expect=None)
    assert answer.returncode != 0 and "there is no target 'nowhere'" in answer.stderr
