"""Streams into containers under rules: what kubectl shows, and what the record keeps."""

import time

import pytest

from harness.waiting import wait_until
from objects import SERVE, manifest, pod
from sides import end

RULES = """
kind: User
name: {user}
groups: [{group}]
password: {{env: PASSWORD}}
---
kind: User
name: boss-{user}
groups: [bosses-{group}]
password: {{env: PASSWORD}}
---
kind: Policy
name: {group}
cedar: |
  permit (principal in Corral::Group::"{group}", action, resource);
  @id("no-env-{group}") @reason("The environment holds passwords.")
  forbid (principal in Corral::Group::"{group}", action == Corral::Action::"exec", resource)
  when {{ context has program && context.program == "env" }};
  @id("shells-{group}") @approval("bosses-{group}") @reason("Shells are looked at.")
  forbid (principal in Corral::Group::"{group}", action == Corral::Action::"exec", resource)
  when {{ context has is_interactive && context.is_interactive }};
"""


@pytest.fixture
def box(cluster, corral, request):
    """Somebody whose shells are held and who may not run `env`, with a pod to do it in."""
    group = f"s{abs(hash(request.node.name)) % 10**8}"
    user = f"{group}@example.com"
    corral.apply(RULES.format(user=user, group=group), env={"PASSWORD": corral.password})
    run = corral.start_run("streams", corral.login(user, corral.password), "--ttl", "30m")
    side = corral.side(f"streams-{group}", "cluster", run)
    side.enter_namespace()
    side.user = user
    side.boss = corral.login(f"boss-{user}", corral.password)
    cluster.apply(manifest(pod(command=SERVE)), "-n", side.namespace)
    side.wait_for_pods("app=box")
    return side


def events(corral, box, name):
    # Unasked, the search gives the oldest events of all tests before this one.
    return corral.events("--event", name, "--principal", box.user)


def test_a_denied_command_is_refused_with_its_rule(corral, box):
    refused = box.kubectl("exec", "box", "--", "env")
    assert refused.returncode != 0 and refused.stdout == ""
    assert "corral:" in refused.stderr and "holds passwords" in refused.stderr
    assert "SPDY" not in refused.stderr
    assert box.kubectl("exec", "box", "--", "echo", "a  b").stdout == "a  b\n"
    decided = [event["statement"] for event in events(corral, box, "statement.decided")]
    assert f"exec {box.namespace}/box -c main -- echo 'a  b'" in decided


def test_an_old_client_is_told_what_to_use(box):
    refused = box.kubectl("exec", "box", "--", "true", version="kubectl-1.24")
    assert refused.returncode != 0
    assert "corral:" in refused.stderr and "WebSocket" in refused.stderr


def test_a_held_shell_is_told_so_and_runs_when_it_is_approved(corral, box):
    shell = box.start("exec", "-i", "box", "--", "sh", stdin=-1)
    try:
        shell.stdin.write(b"echo typed-ahead; exit 5\n")
        shell.stdin.flush()
        approval = pending(corral, box)
        corral.run("approvals", "approve", approval["id"], "--reason", "fine", token=box.boss)
        out, errors = shell.communicate(timeout=30)
    finally:
        end(shell)
    assert (shell.returncode, out) == (5, b"typed-ahead\n"), errors
    assert b"corral:" in errors
    passed = events(corral, box, "stream.passed")
    texts = {(event["from"], event["data"]["text"]) for event in passed}
    assert ("client", "echo typed-ahead; exit 5\n") in texts
    assert ("target", "typed-ahead\n") in texts
    assert "5" in [event["code"] for event in events(corral, box, "statement.completed")]


def test_a_refused_shell_ends_with_the_approvers_words(corral, box):
    shell = box.start("exec", "-i", "box", "--", "sh", stdin=-1)
    try:
        approval = pending(corral, box)
        corral.run("approvals", "deny", approval["id"], "--reason", "not on Fridays",
                   token=box.boss)
        _, errors = shell.communicate(timeout=30)
    finally:
        end(shell)
    assert shell.returncode == 1
    assert b"corral:" in errors and b"not on Fridays" in errors


def test_a_kill_ends_streams_with_its_reason(corral, box):
    sleep = box.start("exec", "box", "--", "sleep", "60")
    try:
        wait_until(lambda: "exec" in str(events(corral, box, "statement.decided")), "it runs", 15)
        time.sleep(1)
        corral.run("runs", "kill", box.run["run_id"])
        started = time.monotonic()
        _, errors = sleep.communicate(timeout=15)
    finally:
        end(sleep)
    assert time.monotonic() - started < 5
    assert sleep.returncode == 1 and b"corral:" in errors, errors
    cut = events(corral, box, "stream.cut")
    assert cut and "may go on" in cut[-1]["detail"]


def pending(corral, box):
    def mine():
        found = corral.json("approvals", "list")
        return [one for one in found
                if one["state"] == "pending" and one["run_id"] == box.run["run_id"]]
    wait_until(mine, "an approval is asked for", 20)
    return mine()[0]
