"""One run, SQL, SSH, files and a cluster: one account of it, and casts of its terminals."""

import fcntl
import http.server
import json
import os
import pty
import re
import ssl
import struct
import subprocess
import termios
import threading
import time
import urllib.request

import pytest

from harness.hosts import Hosts
from harness.postgres import PASSWORD
from harness.shop import TARGET
from harness.waiting import wait_until

PODS = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
CLUSTER = """
kind: Target
name: prod
protocol: kubernetes
address: 127.0.0.1:{port}
tls: {{mode: disable}}
credential: {{token: {{value: unused}}}}
"""
ESCAPES = "printf '\\033]0;owned\\007\\033[2J'; printf '\\302\\233\\063\\061m'"


@pytest.fixture(scope="module")
def hosts(server):
    with Hosts() as open_hosts:
        target = TARGET.format(name="orders-db", port=server.port, database="postgres",
                               username="postgres", rows="none")
        policy = """
kind: Policy
name: databases
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read"],
          resource in Corral::Target::"orders-db");
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read"],
          resource in Corral::Target::"prod");
"""
        with ListOfPods() as pods:
            cluster = CLUSTER.format(port=pods.server_port)
            manifest = "---\n".join([target, cluster, policy])
            open_hosts.gateway.apply(manifest, env={"TARGET_PASSWORD": PASSWORD})
            yield open_hosts


class ListOfPods(http.server.ThreadingHTTPServer):
    """Answers every request as a cluster without pods would."""

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = json.dumps(PODS).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Answer)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def list_pods(gateway, token):
    path = f"{gateway.ready['api']}/k8s/prod/api/v1/namespaces/shop/pods"
    request = urllib.request.Request(path, headers={"Authorization": f"Bearer {token}"})
    trust = ssl.create_default_context(cafile=gateway.ready["ca_file"])
    with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def story(hosts):
    """A planner that asks a database, and its child that works on a host."""
    planner = hosts.run("planner")
    child = hosts.gateway.start_run("executor", planner["token"])
    with hosts.gateway.connect(planner["token"], "orders-db") as connection:
        connection.execute("select 1 as first_of_the_story")
        hosts.ssh("echo second of the story", token=child["token"])
        connection.execute("select 3 as third_of_the_story")
        hosts.ssh(ESCAPES, token=child["token"])
        hosts.sftp("ls /", token=child["token"])
        assert list_pods(hosts.gateway, child["token"])["items"] == []
        shell_in_a_terminal(hosts, child["token"], b"echo fou''rth; exit 7\n")
        connection.execute("select 5 as fifth_of_the_story")
    wait_until(lambda: len(hosts.events("--event", "session.closed")) >= 6, "all has ended")
    return planner["run_id"]


def shell_in_a_terminal(hosts, token, typed):
    """ssh with a terminal of 30 lines and 100 columns."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        words = ["ssh", *hosts.options(), "-p", str(hosts.address[1]), "-tt",
                 hosts.destination()]
        client = subprocess.Popen(words, stdin=theirs, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=hosts.env(token))
        os.write(ours, typed)
        assert client.wait(30) == 7
    finally:
        os.close(ours)
        os.close(theirs)


def session_of_shell(hosts):
    shell = next(event for event in hosts.events("--event", "statement.decided")
                 if "shell" in event["verbs"])
    return shell["session"], shell["seq_in_session"]


def test_a_run_tree_is_one_timeline_over_all_of_its_sessions(hosts, story):
    text = hosts.gateway.run("replay", story).stdout
    order = ["first_of_the_story", "echo second of the story", "third_of_the_story", "sftp",
             "/api/v1/namespaces/shop/pods", "shell", "fifth_of_the_story"]
    places = [text.index(word) for word in order]
    assert places == sorted(places), text
    lines = text.splitlines()
    of_host = next(line for line in lines if "echo second" in line)
    assert "planner/executor" in of_host and "web-1/1" in of_host
    of_database = next(line for line in lines if "third_of_the_story" in line)
    assert "orders-db" in of_database and "executor" not in of_database
    of_cluster = next(line for line in lines if "namespaces/shop/pods" in line)
    assert "planner/executor" in of_cluster and "prod" in of_cluster
    times = re.findall(r"^\+([\d:.]+)", text, re.MULTILINE)
    assert times == sorted(times)
    assert text == hosts.gateway.run("replay", story).stdout, "the same each time"
    shown = hosts.gateway.run("runs", "show", story).stdout
    assert shown.endswith(text) and "planner" in shown.splitlines()[1]


def test_a_run_shows_its_statements_as_one_list_in_json(hosts, story):
    run = hosts.gateway.json("runs", "show", story)
    assert run["id"] == story and run["state"]
    timeline = run["timeline"]
    kinds = {entry["kind"] for entry in timeline}
    assert kinds == {"postgres", "ssh", "sftp", "kubernetes"}, kinds
    order = ["first_of_the_story", "echo second of the story", "third_of_the_story",
             "/api/v1/namespaces/shop/pods", "fifth_of_the_story"]
    places = [next(place for place, entry in enumerate(timeline) if word in entry["statement"])
              for word in order]
    assert places == sorted(places)
    times = [entry["time"] for entry in timeline]
    assert times == sorted(times)
    for entry in timeline:
        assert entry["outcome"] == "allow" and entry["session"] and entry["seq"], entry
        assert entry["run_path"].split("/")[-1] in ("planner", "executor"), entry
    of_cluster = next(entry for entry in timeline if entry["kind"] == "kubernetes")
    assert of_cluster["target"] == "prod" and of_cluster["result"]["code"] == "200"
    assert of_cluster["run_path"].endswith("planner/executor")
    shell = next(entry for entry in timeline if "shell" in entry["verbs"])
    assert shell["result"]["code"] == "7"
    # A run that asked for nothing has an empty one.
    idle = hosts.run("idle")
    assert hosts.gateway.json("runs", "show", idle["run_id"])["timeline"] == []


def test_a_run_is_a_cast_of_its_terminals(hosts, story):
    session, _ = session_of_shell(hosts)
    of_run = hosts.gateway.run("replay", story, "--format", "cast").stdout.splitlines()
    of_session = hosts.gateway.run("replay", session, "--format", "cast").stdout.splitlines()
    assert of_run[1:] == of_session[1:], "the one terminal of the run"


def test_what_a_target_prints_never_drives_the_terminal_of_who_looks(hosts, story):
    for words in (["replay", story], ["replay", story, "--full"],
                  ["runs", "show", story, "--full"], ["replay", story, "--format", "json"],
                  ["replay", story, "-o", "json"], ["audit", "search"],
                  ["audit", "search", "-o", "json"]):
        shown = hosts.gateway.run(*words).stdout
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown), words
    full = hosts.gateway.run("replay", story, "--full").stdout
    assert "\\u{1b}]0;owned\\u{7}\\u{1b}[2J" in full and "\\u{9b}31m" in full
    compact = hosts.gateway.run("replay", story).stdout
    assert "owned" not in compact.replace(ESCAPES, "")


@pytest.mark.parametrize("form, version", [("cast", 2), ("cast3", 3)])
def test_the_terminal_is_a_cast_that_plays(hosts, story, form, version):
    session, statement = session_of_shell(hosts)
    cast = hosts.gateway.run("replay", session, "--format", form).stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", cast)
    header, *events = [json.loads(line) for line in cast.splitlines()]
    size = (header["width"], header["height"]) if version == 2 else tuple(header["term"].values())
    assert header["version"] == version and size == (100, 30)
    output = "".join(data for _, code, data in events if code == "o")
    assert "fourth" in output
    assert "exit 7" in "".join(data for _, code, data in events if code == "i")
    assert [data for _, code, data in events if code == "x"] == (["7"] if version == 3 else [])
    times = [at for at, _, _ in events]
    assert all(at >= 0 for at in times) and (version == 3 or times == sorted(times))
    same = hosts.gateway.run("replay", session, "--format", form, "--statement", statement).stdout
    assert same == cast
    refused = hosts.gateway.run("replay", session, "--format", form, "--statement", 99, expect=1)
    assert "no statement 99" in refused.stderr


def test_what_was_typed_and_said_is_found(hosts, story):
    found = hosts.gateway.json("audit", "search", "--text", "fou''rth; exit")
    assert [event["event"] for event in found if event["event"] == "stream.passed"]
    found = hosts.gateway.json("audit", "search", "--text", "second of the story")
    assert {event["event"] for event in found} >= {"statement.decided", "stream.passed"}


def test_speed_plays_the_timeline(hosts, story):
    start = time.monotonic()
    played = hosts.gateway.run("replay", story, "--speed", 1000).stdout
    assert played == hosts.gateway.run("replay", story).stdout
    assert time.monotonic() - start < 30
