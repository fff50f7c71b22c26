"""What `corral run` leaves behind when it, its guard or both are killed: nothing within seconds,
or what docs/runs.md says. And that a terminal does not notice the guard."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import sys
import time

import pytest

from harness.waiting import wait_until
from harness.wrapped import Wrapped, is_alive

LEFT_S = 5
TERMINAL_DEADLINE_S = 20

# A planner with a child, a grandchild, and a daemon by a double fork, which all ignore SIGTERM.
TREE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
told = os.pipe()
def tell():
    os.write(told[1], f"{os.getpid()} ".encode())
if os.fork() == 0:
    tell()
    if os.fork() == 0:
        tell()
    time.sleep(60)
    os._exit(0)
middle = os.fork()
if middle == 0:
    os.setsid()
    if os.fork() == 0:
        tell()
        time.sleep(60)
    os._exit(0)
os.waitpid(middle, 0)
seen = b""
while seen.count(b" ") < 3:
    seen += os.read(told[0], 64)
print(os.getpid(), seen.decode(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def tree(shop):
    """A tree below a guard: the wrapper, the guard's pid, the pids of all that runs below."""
    with Wrapped(shop, "tree", sys.executable, "-c", TREE) as wrapped:
        pids = list(map(int, wrapped.line().split()))
        assert len(pids) == 4
        yield wrapped, guard_of(wrapped), pids
        for pid in filter(is_alive, pids):
            os.kill(pid, signal.SIGKILL)


def guard_of(wrapped):
    pid = wrapped.process.pid
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def assert_gone(pids):
    wait_until(lambda: not any(map(is_alive, pids)), f"{pids} are ended", LEFT_S)


def test_a_killed_wrapper_leaves_no_process(shop, tree):
    wrapped, guard, pids = tree
    wrapped.process.kill()
    assert_gone([*pids, guard])
    wait_until(lambda: wrapped.run()["end_reason"] == "wrapper_lost", "its run ends", LEFT_S)


def test_a_killed_process_group_leaves_no_process(tree):
    """As CI systems end a job: the wrapper, and all that did not leave its group, at once."""
    wrapped, guard, pids = tree
    os.killpg(wrapped.process.pid, signal.SIGKILL)
    assert_gone([*pids, guard])


def test_a_killed_guard_leaves_no_process(shop, tree):
    wrapped, guard, pids = tree
    os.kill(guard, signal.SIGKILL)
    assert wrapped.process.wait(LEFT_S) == 128 + signal.SIGKILL
    assert_gone(pids)
    assert wrapped.run()["end_reason"] == "done"


def test_a_stopped_guard_keeps_nothing_alive(shop, tree):
    wrapped, guard, pids = tree
    os.kill(guard, signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    # The guard cannot say that the command has ended; whoever ends the wrapper ends all.
    wrapped.process.kill()
    wait_until(lambda: wrapped.run()["end_reason"] == "wrapper_lost", "its run ends", LEFT_S)
    os.kill(guard, signal.SIGCONT)
    assert_gone([*pids, guard])


def test_killed_together_they_leave_what_the_command_started_without_a_run(shop, tree):
    """Nobody is left who could end it: the kernel ends the command alone. docs/runs.md says so."""
    wrapped, guard, (command, *others) = tree
    os.kill(guard, signal.SIGSTOP)
    wrapped.process.kill()
    os.kill(guard, signal.SIGKILL)
    assert_gone([guard, command])
    wait_until(lambda: wrapped.run()["end_reason"] == "wrapper_lost", "its run ends", LEFT_S)
    assert all(map(is_alive, others))


def test_what_a_killed_wrapper_left_is_asked_to_end_first(shop, tmp_path):
    told = tmp_path / "told"
    script = f"trap 'echo asked > {told}; exit' TERM; echo ready; while :; do sleep 0.1; done"
    with Wrapped(shop, "asked", "sh", "-c", script) as wrapped:
        wrapped.line()
        wrapped.process.kill()
        wait_until(told.exists, "the command is asked to end", LEFT_S)


def test_a_signal_for_the_wrapper_reaches_the_command_once(shop):
    script = ("import signal, time\n"
              "seen = []\n"
              "signal.signal(signal.SIGTERM, lambda *_: seen.append(1))\n"
              "signal.signal(signal.SIGHUP, lambda *_: (print(len(seen)), exit(6)))\n"
              "print('ready', flush=True)\n"
              "while not seen: time.sleep(0.01)\n"
              "print('seen', flush=True)\n"
              "while True: time.sleep(0.01)")
    with Wrapped(shop, "signals", sys.executable, "-c", script) as wrapped:
        wrapped.line()
        # The guard takes none for the command's.
        os.kill(guard_of(wrapped), signal.SIGHUP)
        wrapped.process.send_signal(signal.SIGTERM)
        assert wrapped.line() == "seen"
        wrapped.process.send_signal(signal.SIGHUP)
        assert wrapped.line() == "1"
        assert wrapped.process.wait(LEFT_S) == 6


def test_a_program_that_is_not_there_is_said_once(shop):
    result = shop.gateway.run("run", "--name", "none", "--", "/no/such", token=shop.workload(),
                              expect=127)
    assert result.stderr.count("cannot run /no/such: there is no such program") == 1


# -- a terminal

class Terminal:
    """A program in front of a terminal of its own, as the leader of its session."""

    def __init__(self, shop, *command):
        env = shop.gateway.client_env(shop.workload()) | {
            "PS1": "prompt> ", "TERM": "dumb", "PSQLRC": "/dev/null", "PAGER": "cat",
            "PATH": f"{pathlib.Path(shop.gateway.program).parent}:{os.environ['PATH']}"}
        self.seen = ""
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, env)

    def type(self, text):
        os.write(self.end, text.encode())

    def expect(self, pattern):
        """Reads on until this is seen, and forgets what was before its end."""
        deadline = time.monotonic() + TERMINAL_DEADLINE_S
        while (found := re.search(pattern, self.seen)) is None:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.end], [], [], left)[0], self.seen
            try:
                self.seen += os.read(self.end, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the terminal is closed: {self.seen}") from None
        self.seen = self.seen[found.end():]
        return found

    def code(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.end)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@pytest.fixture
def shell(shop):
    with Terminal(shop, "bash", "--norc", "--noprofile", "-i") as terminal:
        terminal.expect("prompt> ")
        yield terminal


def ask_code(shell, expect):
    shell.type("echo code=$?\n")
    assert shell.expect(r"code=(\d+)").group(1) == str(expect)


def test_an_interrupt_reaches_the_command(shell):
    shell.type("corral run --name c -- sh -c 'trap \"exit 5\" INT; echo re\"\"ady;"
               " while :; do sleep 0.1; done'\n")
    shell.expect("ready")
    shell.type("\x03")
    shell.expect("prompt> ")
    ask_code(shell, 5)
    shell.type("corral run --name c -- sh -c 'echo re\"\"ady; exec sleep 60'\n")
    shell.expect("ready")
    shell.type("\x03")
    shell.expect("prompt> ")
    ask_code(shell, 128 + signal.SIGINT)


def test_an_interrupt_cancels_the_statement_of_psql_alone(shop, shell):
    shell.type("corral run --name c --target plain-db -- psql -X\n")
    shell.expect("=>|=#")
    shell.type("select pg_sleep(57);\n")
    running = ("select 1 from pg_stat_activity where state = 'active' and query ~ 'pg_sleep.57' "
               f"and datname = '{shop.plain}'")
    wait_until(lambda: shop.server.execute(running), "the statement runs")
    shell.type("\x03")
    shell.expect("canceling statement due to user request")
    shell.type("select 40 + 2;\n")
    shell.expect(r"\b42\b")
    shell.type("\\q\n")
    shell.expect("prompt> ")
    ask_code(shell, 0)


def test_a_command_is_stopped_and_brought_back(shell):
    shell.type("corral run --name c -- sh -c 'echo re\"\"ady; exec cat'\n")
    shell.expect("ready")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.expect("prompt> ")
    shell.type("fg\n")
    shell.expect("corral run")
    shell.type("again\n")
    shell.expect("again\r\nagain")
    shell.type("\x04")
    shell.expect("prompt> ")
    ask_code(shell, 0)


def test_a_shell_below_has_jobs_of_its_own(shell):
    shell.type("PS1='inner> ' corral run --name c -- bash --norc --noprofile -i\n")
    shell.expect("inner> ")
    shell.type("sh -c 'echo re\"\"ady; exec cat'\n")
    shell.expect("ready")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.expect("inner> ")
    shell.type("fg\n")
    shell.expect("sh -c")
    shell.type("again\n")
    shell.expect("again\r\nagain")
    shell.type("\x03")
    shell.expect("inner> ")
    ask_code(shell, 128 + signal.SIGINT)
    shell.type("exit 4\n")
    shell.expect("prompt> ")
    ask_code(shell, 4)


def test_where_no_shell_could_bring_it_back_it_is_not_stopped(shop):
    """A session's leader itself: the kernel stops no process of an orphaned group, and the guard
    does not make one of it that has a parent elsewhere."""
    with Terminal(shop, shop.gateway.program, "run", "--name", "c", "--", "sh", "-c",
                  "echo ready; exec cat") as terminal:
        terminal.expect("ready")
        terminal.type("\x1a")
        terminal.type("on\n")
        terminal.expect("on\r\non")
        terminal.type("\x04")
        assert terminal.code() == 0


# Three processes of a known name, of which two leave the session; Popen returns when they run it.
LEAVER = ("import subprocess\n"
          "for number in range(3):\n"
          "    subprocess.Popen(['sleep', '60'], start_new_session=number > 0)\n"
          "raise SystemExit(3)")


def test_what_a_command_left_behind_is_told_as_a_claim(shop):
    token = shop.workload()
    shop.gateway.run("run", "--name", "leaver", "--", sys.executable, "-c", LEAVER, token=token,
                     expect=3)
    shop.gateway.run("run", "--name", "tidy", "--", "true", token=token)
    told = [event for event in shop.gateway.events("--event", "processes.left")
            if event["run_path"] in ("leaver", "tidy")]
    assert [(event["run_path"], event["count"], event["programs"]) for event in told] == [
        ("leaver", 3, ["sleep"])]
    reports = {report["path"]: report for report in shop.gateway.json("runs", "report", "orphans")}
    assert reports["leaver"]["reason"] == "done"
    assert reports["leaver"]["claimed_left"] == {"count": 3, "programs": ["sleep"]}
    assert "tidy" not in reports
    assert "3: sleep" in shop.gateway.run("runs", "report", "orphans").stdout
    shown = shop.gateway.run("runs", "show", told[0]["run"]).stdout
    assert "3 left behind, claims its wrapper: sleep" in shown


def test_what_is_said_to_be_left_behind_is_short_and_of_ones_own_run(shop):
    run, other = shop.run("said"), shop.run("other")
    connection = shop.gateway.https()

    def say(of, programs):
        body = json.dumps({"left": {"count": len(programs), "programs": programs}})
        headers = {"Authorization": f"Bearer {run['token']}", "Content-Type": "application/json"}
        connection.request("POST", f"/api/v1/runs/{of['run_id']}/end", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    for programs in [["x"] * 17, ["x" * 65], ["\u001b[2J"]]:
        assert say(run, programs) == 422
    assert say(other, ["not-mine"]) == 404
    assert say(run, ["mine"]) == 200
    connection.close()
    told = [event["programs"] for event in shop.gateway.events("--event", "processes.left")
            if event["run_path"] in ("said", "other")]
    assert told == [["mine"]]
