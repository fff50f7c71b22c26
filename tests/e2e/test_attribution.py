"""`corral run` tells the processes below it apart: each that connects is a run of its own, and
nothing of it is left when it, the command or the wrapper ends."""

import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse

import psycopg
import pytest

from harness.cut import Network
from harness.waiting import wait_until
from harness.wrapped import Wrapped, is_alive

HERE = pathlib.Path(__file__).parent
JDBC_JAR = pathlib.Path("/usr/share/java/postgresql.jar")
FORKS = 50
# What a run may leave alive, and for how long, when it was cut off.
LEFT_S = 5

# A planner that forks executors with one environment; they hold a session each until told.
PLANNER = f"""
import os, sys, psycopg
children = []
gate, opened = os.pipe(), os.pipe()
for n in range({FORKS}):
    pid = os.fork()
    if pid == 0:
        os.close(gate[1])
        with psycopg.connect("", autocommit=True) as connection:
            connection.execute("select %s", [n])
            os.write(opened[1], b".")
            os.read(gate[0], 1)
        os._exit(0)
    children.append(pid)
seen = b""
while len(seen) < {FORKS}:
    seen += os.read(opened[0], {FORKS})
print(*children, flush=True)
sys.stdin.readline()
os.close(gate[1])
codes = [os.waitpid(pid, 0)[1] for pid in children]
sys.exit(any(codes))
"""

# Holds a session, says its pid, waits.
HOLDER = """
import os, sys, psycopg
connection = psycopg.connect("", autocommit=True)
connection.execute("select 1")
print(os.getpid(), flush=True)
sys.stdin.readline()
"""


def run_in(shop, script, *more, name="job", expect=0):
    return shop.gateway.run("run", "--name", name, "--target", "plain-db", *more, "--", "sh",
                            "-ceu", script, token=shop.workload(), expect=expect)


def runs_below(shop, name):
    runs = shop.gateway.json("runs", "list")
    parents = {run["id"] for run in runs if run["name"] == name}
    return [run for run in runs if run.get("parent") in parents]


# -- who is who


def test_psql_is_a_run_of_its_own_and_needs_no_password(shop):
    script = "unset PGPASSWORD; psql -XAtc 'select 41 + 1' ; true"
    assert run_in(shop, script, name="one").stdout.strip() == "42"
    child, = runs_below(shop, "one")
    assert re.fullmatch(r"psql-\d+", child["name"]) and child["path"] == f"one/{child['name']}"
    assert child["state"] == "ended" and child["end_reason"] == "done"
    process = child["process"]
    assert child["name"] == f"psql-{process['pid']}" and process["program"].endswith("/psql")
    assert process["arguments"] == ["-XAtc", "select 41 + 1"]
    shown = shop.gateway.run("runs", "show", child["id"]).stdout
    assert "(observed by the wrapper)" in shown
    started = [event for event in shop.gateway.events("--run", child["id"])
               if event["event"] == "run.started"]
    assert started and started[0]["process"]["pid"] == process["pid"]
    opened = [event for event in shop.gateway.events("--run", child["id"])
              if event["event"] == "session.opened"]
    assert len(opened) == 1 and opened[0]["tls"] is True


def test_fifty_forks_on_one_token_are_fifty_executors(shop):
    with Wrapped(shop, "planner", sys.executable, "-c", PLANNER) as wrapped:
        pids = {int(pid) for pid in wrapped.line().split()}
        children = wrapped.children()
        assert {child["process"]["pid"] for child in children} == pids
        assert len({child["name"] for child in children}) == FORKS
        assert all(child["sessions"] == 1 and child["state"] == "active" for child in children)
        assert wrapped.run()["sessions"] == 0, "the planner's own run has no session"
        wrapped.finish()
        assert all(child["state"] == "ended" for child in wrapped.children())


def test_a_process_has_one_run_for_all_its_connections(shop):
    script = ("import psycopg\n"
              "for _ in range(5): psycopg.connect('').execute('select 1')\n"
              "c = [psycopg.connect('') for _ in range(3)]")
    shop.gateway.run("run", "--name", "many", "--target", "plain-db", "--", sys.executable, "-c",
                     script, token=shop.workload())
    child, = runs_below(shop, "many")
    assert child["statements"] >= 0
    opened = [event for event in shop.gateway.events("--run", child["id"])
              if event["event"] == "session.opened"]
    assert len(opened) == 8


def test_a_process_that_becomes_another_program_keeps_its_run_and_its_name(shop):
    script = ("import os, psycopg\n"
              "psycopg.connect('').execute('select 1')\n"
              "os.execvp('psql', ['psql', '-XAtc', 'select 2'])")
    told = shop.gateway.run("run", "--name", "becomes", "--target", "plain-db", "--",
                            sys.executable, "-c", script, token=shop.workload())
    assert told.stdout.strip() == "2"
    child, = runs_below(shop, "becomes")
    assert child["name"].startswith("python") and "-c" in child["process"]["arguments"]
    opened = [event for event in shop.gateway.events("--run", child["id"])
              if event["event"] == "session.opened"]
    assert len(opened) == 2


# A socket that parent and child hold; the child connects it, and speaks PostgreSQL by hand.
SHARED = """
import os, socket, struct, sys
shared = socket.socket()
told, stay = os.pipe(), os.pipe()
if os.fork() == 0:
    shared.connect(("127.0.0.1", int(os.environ["CORRAL_POSTGRES_PORT"])))
    words = b"user\\0agent\\0database\\0plain-db\\0\\0"
    shared.sendall(struct.pack(">ii", len(words) + 8, 196608) + words)
    seen = b""
    while not seen.endswith(b"Z\\0\\0\\0\\5I"):
        got = shared.recv(65536)
        assert got, seen
        seen += got
    os.write(told[1], b".")
    os.read(stay[0], 1)
    os._exit(0)
os.read(told[0], 1)
print(os.getpid(), flush=True)
sys.stdin.readline()
os.write(stay[1], b".")
"""


def test_of_several_processes_that_hold_a_tcp_socket_the_oldest_is_meant(shop):
    with Wrapped(shop, "shares", sys.executable, "-c", SHARED) as wrapped:
        pid = int(wrapped.line())
        child, = wrapped.children()
        assert child["process"]["pid"] == pid and child["sessions"] == 1
        wrapped.finish()


def test_secrets_in_arguments_are_taken_out(shop):
    script = ("import sys, psycopg; psycopg.connect('')")
    shop.gateway.run("run", "--name", "hidden", "--target", "plain-db", "--", sys.executable, "-c",
                     script, "--password", "hunter2", "--token=hunter3", "postgres://u:hunter4@h/",
                     token=shop.workload())
    child, = runs_below(shop, "hidden")
    assert "hunter" not in json.dumps(child)
    assert child["process"]["arguments"][-4:] == ["--password", "***", "--token=***",
                                                  "postgres://***@h/"]
    record = b"".join(path.read_bytes() for path in shop.gateway.data.rglob("*")
                      if path.is_file())
    assert b"hunter4" not in record


@pytest.mark.skipif(not JDBC_JAR.exists() or not shutil.which("javac"),
                    reason="Java or its driver is not installed; run .ci/setup clients")
def test_jdbc_comes_by_the_loopback_address(shop):
    script = (f'java -Xshare:auto -cp {JDBC_JAR} {HERE / "Jdbc.java"} "$CORRAL_JDBC_URL" unused; '
              'true')
    assert run_in(shop, script, name="java").stdout.splitlines()[-1] == "all done"
    child, = runs_below(shop, "java")
    assert child["process"]["program"].endswith("/java")


def test_a_statement_is_cancelled_through_the_wrapper(shop):
    script = ("import psycopg, threading\n"
              "c = psycopg.connect('', autocommit=True)\n"
              "threading.Timer(0.3, c.cancel).start()\n"
              "try: c.execute('select pg_sleep(30)')\n"
              "except psycopg.errors.QueryCanceled: print('cancelled')")
    told = shop.gateway.run("run", "--name", "cancels", "--target", "plain-db", "--",
                            sys.executable, "-c", script, token=shop.workload())
    assert told.stdout.strip() == "cancelled"


def test_a_process_asks_for_its_own_token_and_gets_no_other(shop):
    script = ('corral k8s-credential; echo; echo "$CORRAL_TOKEN"')
    first, outer = [line for line in run_in(shop, script, name="asks").stdout.splitlines() if line]
    token = json.loads(first)["status"]["token"]
    assert token.startswith("crl_") and token != outer
    child, = runs_below(shop, "asks")
    assert child["process"]["program"].rsplit("/", 1)[1] in ("sh", "dash", "bash")


# -- who may say so


def test_a_process_that_is_none_of_the_run_is_refused_in_the_protocols_words(shop):
    script = 'echo "$PGHOST $PGPORT $CORRAL_POSTGRES_PORT"; read -r _'
    with Wrapped(shop, "strict", "sh", "-c", script) as wrapped:
        folder, port, loopback = wrapped.line().split()
        for options in (f"host={folder} port={port}", f"host=127.0.0.1 port={loopback}"):
            with pytest.raises(psycopg.OperationalError, match="none of this run"):
                psycopg.connect(f"{options} user=me dbname=plain-db sslmode=disable "
                                "connect_timeout=10")
        refused = shop.gateway.events("--event", "session.refused")
        mine = [event for event in refused if event.get("run") == wrapped.run()["id"]]
        assert len(mine) == 2 and all("none of this run" in event["reason"] for event in mine)
        wrapped.finish()


def api(shop, method, path, token, body=None, headers=None):
    url = urllib.parse.urlparse(shop.gateway.ready["api"])
    context = ssl.create_default_context(cafile=shop.gateway.ready["ca_file"])
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=10)
    connection.request(method, "/api/v1" + path, body=json.dumps(body) if body else None,
                       headers={"Authorization": f"Bearer {token}",
                                "Content-Type": "application/json"} | (headers or {}))
    answer = connection.getresponse()
    if answer.status == 101:
        return 101, connection
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text else None


def test_only_the_wrapper_says_whose_a_child_run_is(shop):
    process = {"pid": 1, "start_ticks": 1, "program": "/sbin/init", "arguments": [],
               "parent_pid": 0}
    body = {"name": "forged", "process": process, "wrapper": "00" * 32}
    script = 'echo "$CORRAL_TOKEN"; read -r _'
    with Wrapped(shop, "forges", "sh", "-c", script) as wrapped:
        token = wrapped.line()
        for key in ("00" * 32, "", "zz", "00" * 31):
            status, answer = api(shop, "POST", "/runs", token, body | {"wrapper": key})
            assert status == 403 and "only the wrapper" in answer["error"]["message"]
        status, _ = api(shop, "POST", "/runs", token, {"name": "x", "process": process})
        assert status == 422
        # With the run's token it cannot become the wrapper either.
        upgrade = {"Connection": "upgrade", "Upgrade": "corral-attach"}
        path = f"/runs/{wrapped.run()['id']}/attach"
        status, answer = api(shop, "GET", path, token, headers=upgrade)
        assert status == 403 and "wrapper" in answer["error"]["message"]
        status, _ = api(shop, "GET", path, token,
                        headers=upgrade | {"corral-wrapper-key": "00" * 32})
        assert status == 403
        # A root run is nobody's process.
        status, _ = api(shop, "POST", "/runs", shop.workload(), body)
        assert status == 403
        assert wrapped.run()["state"] == "active" and not wrapped.children()
        wrapped.finish()


def test_a_stream_skips_no_check(shop):
    path = "/sessions/stream?protocol=postgres&target=plain-db"
    upgrade = {"Connection": "upgrade", "Upgrade": "corral-stream"}
    token = shop.run("streams")["token"]
    assert api(shop, "GET", path, token)[0] == 426
    assert api(shop, "GET", path, token, headers=upgrade | {"Upgrade": "websocket"})[0] == 426
    assert api(shop, "GET", path, "crl_wrong", headers=upgrade)[0] == 401
    assert api(shop, "GET", path, shop.gateway.admin_token(), headers=upgrade)[0] == 403
    for wrong in ("protocol=kubernetes", "protocol=nothing", "protocol=postgres&target=../x",
                  "protocol=postgres&refusal=" + "x" * 501, "protocol=postgres&more=1"):
        assert api(shop, "GET", f"/sessions/stream?{wrong}", token, headers=upgrade)[0] == 422, wrong
    # Somebody without the right to the target is refused by the protocol itself.
    for who, target in ((shop.login("nobody"), "plain-db"), (token, "no-such-target")):
        path = f"/sessions/stream?protocol=postgres&target={target}"
        status, connection = api(shop, "GET", path, who, headers=upgrade)
        assert status == 101
        startup = b"\0\3\0\0user\0me\0database\0x\0\0"
        connection.sock.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
        answer = connection.sock.recv(1000)
        assert answer[:1] == b"E" and b"C42501" in answer or b"C28" in answer, answer
        connection.close()


def test_a_policy_can_demand_attribution_by_process(own_shop):
    own_shop.gateway.apply("""
kind: Policy
name: attributed
cedar: |
  @id("by-process") @reason("Connect through corral run.")
  forbid (principal, action, resource in Corral::Target::"plain-db")
  unless { context.attribution == "process" };
""")
    token = own_shop.run("direct")["token"]
    with pytest.raises(psycopg.OperationalError, match="Connect through corral run"):
        own_shop.connect("plain-db", token)
    assert run_in(own_shop, "psql -XAtc 'select 7'; true").stdout.strip() == "7"
    # The run's own token does not help what runs in it.
    host, port = own_shop.gateway.address()
    script = f"psql -XAtc 'select 8' -h {host} -p {port} 2>&1 || true"
    assert "Connect through corral run" in run_in(own_shop, script).stdout


def test_a_refused_child_hears_why_from_its_client(own_shop):
    own_shop.gateway.apply("""
kind: Limit
name: few
subject: {any: true}
run: {children_max: 1}
""")
    script = ("import subprocess, psycopg\n"
              "held = psycopg.connect('')\n"
              "done = subprocess.run(['psql', '-Xc', 'select 1'], capture_output=True, text=True)\n"
              "print(done.returncode, done.stderr)")
    told = own_shop.gateway.run("run", "--name", "few", "--target", "plain-db", "--",
                                sys.executable, "-c", script, token=own_shop.workload())
    assert told.stdout.startswith("2 ") and "child runs" in told.stdout, told


# Processes that have connected once and live on; then one more.
CROWD = """
import os, sys, psycopg
stay = os.pipe()
for _ in range(1000):
    done = os.pipe()
    if os.fork() == 0:
        psycopg.connect("").close()
        os.write(done[1], b".")
        os.close(stay[1])
        os.read(stay[0], 1)
        os._exit(0)
    os.close(done[1])
    assert os.read(done[0], 1) == b".", "one of the thousand is refused"
    os.close(done[0])
try:
    psycopg.connect("")
    print("let in", flush=True)
except psycopg.OperationalError as error:
    print(str(error).replace("\\n", " "), flush=True)
"""


@pytest.mark.long
@pytest.mark.deadline(600)
def test_the_thousand_and_first_process_is_refused_in_the_protocols_words(own_shop):
    with Wrapped(own_shop, "crowd", sys.executable, "-c", CROWD) as wrapped:
        told = wrapped.line()
        assert "1000" in told and "let in" not in told, told
        assert len(wrapped.children()) == 1_000


def test_a_process_whose_run_was_killed_gets_no_other(shop):
    script = ("import sys, psycopg\n"
              "psycopg.connect('').close()\nprint('one', flush=True)\nsys.stdin.readline()\n"
              "try: psycopg.connect('')\n"
              "except psycopg.OperationalError as e: print('refused' if 'has ended' in str(e) "
              "else e)")
    with Wrapped(shop, "killed", sys.executable, "-c", script) as wrapped:
        wrapped.line()
        child, = wrapped.children()
        shop.gateway.run("runs", "kill", child["id"])
        assert wrapped.finish().strip() == "refused"
        assert len(wrapped.children()) == 1


def test_what_runs_keeps_its_limit_of_open_files(shop):
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert run_in(shop, "ulimit -Sn").stdout.strip() in (str(soft), "unlimited")


# -- ends


def test_renewing_a_run_renews_those_of_its_processes(shop):
    with Wrapped(shop, "renewed", sys.executable, "-c", HOLDER,
                 more=("--target", "plain-db", "--ttl", "2m")) as wrapped:
        wrapped.line()
        child, = wrapped.children()
        assert child["expires_at"] <= wrapped.run()["expires_at"]
        shop.gateway.run("runs", "renew", wrapped.run()["id"], "--ttl", "30m")
        later, = wrapped.children()
        assert later["expires_at"] > child["expires_at"]
        assert later["expires_at"] == wrapped.run()["expires_at"]
        wrapped.finish()


def test_a_process_that_dies_takes_its_run_and_what_it_passed_on(shop):
    """The connection lives on in a child that inherited it; it is the dead one's all the same."""
    script = ("import os, sys, psycopg\n"
              "c = psycopg.connect('', autocommit=True)\n"
              "if os.fork() == 0:\n"
              "    sys.stdin.readline()\n"
              "    try: c.execute('select 1'); print('lives', flush=True)\n"
              "    except psycopg.OperationalError: print('cut', flush=True)\n"
              "    os._exit(0)\n"
              "print(os.getpid(), flush=True)\n"
              "os.kill(os.getpid(), 9)")
    # A shell closes the standard input of what runs behind; a pipe of its own keeps it.
    code = f"exec 3<&0; {sys.executable} -c \"$0\" <&3 & wait $!; sleep 60"
    with Wrapped(shop, "passes", "sh", "-c", code, script) as wrapped:
        wrapped.line()
        wait_until(lambda: wrapped.children()[0]["state"] == "ended", "its run ends", LEFT_S)
        wait_until(lambda: not wrapped.sessions(), "its session ends", LEFT_S)
        wrapped.process.stdin.write("\n")
        wrapped.process.stdin.flush()
        assert wrapped.line() == "cut"


def test_nothing_is_left_when_the_planner_is_killed(shop):
    """Executors that left its session and its process group as well."""
    script = ("import os, subprocess, sys\n"
              f"holder = {HOLDER!r}\n"
              "pids = []\n"
              "for _ in range(3):\n"
              "    p = subprocess.Popen([sys.executable, '-c', holder], stdin=subprocess.PIPE,\n"
              "                         stdout=subprocess.PIPE, text=True, start_new_session=True)\n"
              "    pids.append(p.stdout.readline().strip())\n"
              "print(os.getpid(), *pids, flush=True)\n"
              "sys.stdin.readline()")
    with Wrapped(shop, "falls", sys.executable, "-c", script) as wrapped:
        planner, *executors = map(int, wrapped.line().split())
        assert len(wrapped.children()) == 3 and len(wrapped.sessions()) == 3
        os.kill(planner, signal.SIGKILL)
        assert wrapped.process.wait(LEFT_S) == 128 + signal.SIGKILL
        assert not any(map(is_alive, executors)), "executors are ended"
        assert not wrapped.sessions()
        assert wrapped.run()["state"] == "ended"


def test_nothing_is_left_when_the_wrapper_is_killed(shop):
    with Wrapped(shop, "wrapper", sys.executable, "-c", HOLDER) as wrapped:
        command = int(wrapped.line())
        assert len(wrapped.sessions()) == 1
        wrapped.process.kill()
        wait_until(lambda: not wrapped.sessions(), "its sessions end", LEFT_S)
        wait_until(lambda: not is_alive(command), "its command ends", LEFT_S)
        run = wrapped.run()
        assert (run["state"], run["end_reason"]) == ("ended", "wrapper_lost")


def test_a_wrapper_that_is_stopped_loses_its_run(shop):
    with Wrapped(shop, "stopped", sys.executable, "-c", HOLDER) as wrapped:
        wrapped.line()
        wrapped.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: not wrapped.sessions(), "its sessions end", LEFT_S)
        assert wrapped.run()["end_reason"] == "wrapper_lost"
        wrapped.process.send_signal(signal.SIGCONT)
        wrapped.finish()


def test_nothing_is_left_when_the_network_is_cut(shop):
    """No end of a connection reaches either side."""
    gateway = urllib.parse.urlsplit(shop.gateway.ready["api"])
    with Network((gateway.hostname, gateway.port)) as network:
        through = f"https://{gateway.hostname}:{network.address[1]}"
        with Wrapped(shop, "unplugged", sys.executable, "-c", HOLDER,
                     gateway=through) as wrapped:
            wrapped.line()
            assert len(wrapped.sessions()) == 1
            network.cut()
            wait_until(lambda: not wrapped.sessions(), "its sessions end", LEFT_S)
            run = wrapped.run()
            assert (run["state"], run["end_reason"]) == ("ended", "wrapper_lost")
            assert [child["state"] for child in wrapped.children()] == ["ended"]


def test_a_daemon_is_ended_with_the_command(shop):
    script = ("import os, time\n"
              "if os.fork() == 0:\n"
              "    os.setsid()\n"
              "    if os.fork() == 0:\n"
              "        print(os.getpid(), flush=True); time.sleep(60)\n"
              "    os._exit(0)\n"
              "os.wait()")
    with Wrapped(shop, "daemon", sys.executable, "-c", script) as wrapped:
        daemon = int(wrapped.line())
        assert wrapped.process.wait(10) == 0
        assert not is_alive(daemon)


def test_a_wrapper_holds_its_run_again_after_a_restart_of_the_gateway(own_shop):
    # With ports that stay.
    gateway = own_shop.gateway
    listeners = "".join(f"  {name}: {address}\n" for name, address in
                        gateway.ready["listeners"].items())
    gateway.stop()
    gateway.config = f"listeners:\n{listeners}"
    gateway.start()
    with Wrapped(own_shop, "stays", sys.executable, "-c", HOLDER) as stays, \
            Wrapped(own_shop, "goes", sys.executable, "-c", HOLDER) as goes:
        stays.line()
        goes.line()
        gateway.kill_hard()
        goes.process.kill()
        gateway.start()
        started = time.monotonic()
        wait_until(lambda: goes.run()["state"] == "ended", "the abandoned run ends", 20)
        assert time.monotonic() - started < 15
        assert goes.run()["end_reason"] == "wrapper_lost"
        assert stays.run()["state"] == "active"
        stays.finish()
        assert stays.run()["end_reason"] == "done"


# -- a `corral run` within another one


# Starts executors as a planner would, each with `corral run`, and waits until told.
NESTING = """
import subprocess, sys
words = ["corral", "run", "--target", "plain-db", "--name"]
hold = ["--", "psql", "-XAtc", "select pg_sleep(600)"]
executors = [subprocess.Popen(words + [f"inner-{n}"] + hold, stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) for n in range(2)]
print(*[executor.pid for executor in executors], flush=True)
sys.stdin.readline()
for executor in executors:
    executor.terminate()
    executor.wait()
"""


def below(run):
    return [one for child in run.get("children", []) for one in [child, *below(child)]]


def tree_of(shop, name):
    root, = [run for run in shop.gateway.json("runs", "tree") if run["name"] == name]
    return root


def paths(shop, name):
    runs = shop.gateway.json("runs", "list")
    return sorted(run["path"] for run in runs if run["path"].split("/")[0] == name)


def test_a_run_within_a_run_is_the_child_of_the_process_that_started_it(shop):
    with Wrapped(shop, "outer", sys.executable, "-c", NESTING) as wrapped:
        wrapped.line()
        wait_until(lambda: len(wrapped.sessions()) == 2, "the executors are connected", 20)
        planner, = tree_of(shop, "outer")["children"]
        assert re.fullmatch(r"python[\d.]*-\d+", planner["name"])
        inner = sorted(planner["children"], key=lambda run: run["name"])
        assert [run["name"] for run in inner] == ["inner-0", "inner-1"]
        for run in inner:
            psql, = run["children"]
            assert re.fullmatch(r"psql-\d+", psql["name"]) and psql["sessions"] == 1
        shown = shop.gateway.run("runs", "tree").stdout
        lines = [line for line in shown.splitlines() if "inner-" in line or planner["name"] in line]
        assert lines[0].startswith(("├─", "└─")) and planner["name"] in lines[0], shown
        assert lines[1].startswith(("│  ├─ inner-", "   ├─ inner-")), shown
        wrapped.finish()
        assert all(run["state"] == "ended" for run in below(tree_of(shop, "outer")))


def test_with_the_planners_process_all_that_it_started_ends(shop):
    with Wrapped(shop, "cut", "sh", "-c", f"{sys.executable} -c '{NESTING}'; sleep 600") as wrapped:
        wrapped.line()
        wait_until(lambda: len(wrapped.sessions()) == 2, "the executors are connected", 20)
        planner, = tree_of(shop, "cut")["children"]
        os.kill(int(planner["name"].rsplit("-", 1)[1]), signal.SIGKILL)
        wait_until(lambda: wrapped.sessions() == [], "their sessions are ended", LEFT_S)
        wait_until(lambda: {run["state"] for run in below(tree_of(shop, "cut"))} == {"ended"},
                   "their runs are ended", LEFT_S)
        assert tree_of(shop, "cut")["state"] == "active"


def test_a_run_that_is_the_command_of_a_run_is_its_child(shop):
    corral = str(shop.gateway.program)
    shop.gateway.run("run", "--name", "direct", "--", corral, "run", "--name", "inner", "--",
                     corral, "run", "--name", "innermost", "--", "true", token=shop.workload())
    assert paths(shop, "direct") == ["direct", "direct/inner", "direct/inner/innermost"]


def test_a_nested_run_starts_with_the_token_that_it_was_given(shop):
    """Another token than the outer run's was given on purpose; so was no wrapper."""
    other = shop.run("elsewhere")
    script = (f"CORRAL_TOKEN={other['token']} corral run --name by-token -- true\n"
              "printf %s \"$OTHER\" > token; corral --token-file token run --name by-file -- true\n"
              "CORRAL_CONTROL= corral run --name without -- true\n"
              "corral -o json run --name after-an-option -- true\n"
              "true")
    shop.gateway.run("run", "--name", "given", "--target", "plain-db", "--", "sh", "-ceu", script,
                     token=shop.workload(),
                     env=shop.gateway.client_env(shop.workload()) | {"OTHER": other["token"]})
    assert paths(shop, "elsewhere") == [
        "elsewhere", "elsewhere/by-file", "elsewhere/by-token"]
    assert "given/without" in paths(shop, "given")
    asked, = [path for path in paths(shop, "given") if path.endswith("after-an-option")]
    assert re.fullmatch(r"given/[^/]+-\d+/after-an-option", asked), asked


def test_a_process_whose_run_was_killed_starts_no_other(shop):
    script = ("import subprocess, sys\n"
              "def nested(): return subprocess.run(['corral', 'run', '--name', 'again', '--',"
              " 'true'], capture_output=True, text=True)\n"
              "print(nested().returncode, flush=True); sys.stdin.readline(); print(nested())")
    with Wrapped(shop, "stubborn", sys.executable, "-c", script) as wrapped:
        assert wrapped.line() == "0"
        planner, = wrapped.children()
        shop.gateway.run("runs", "kill", planner["id"])
        told = wrapped.finish()
    assert "returncode=0" not in told and "returncode=" in told, told
    assert len([path for path in paths(shop, "stubborn") if path.endswith("again")]) == 1
