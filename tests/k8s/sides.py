"""The two ways to one cluster that are compared: straight to its apiserver, and through Corral.

A `Side` is a server's address with a credential. Clients run in a namespace of their own on each
side, and what they print is made comparable by taking out what no two runs share.
"""

import http.client
import os
import pty
import re
import select
import signal
import ssl
import struct
import subprocess
import fcntl
import termios
import time
import urllib.parse
import uuid

from harness import cluster_parts as parts
from harness.cluster import kubeconfig, run_command
from harness.waiting import wait_until

STREAM_DEADLINE_S = 30


class Side:
    """One way to the cluster. `user` is a kubeconfig's user entry."""

    def __init__(self, name, cluster, server, ca_file, user, token):
        self.name = name
        self.cluster = cluster
        self.server = server
        self.ca_file = ca_file
        self.user = user
        self.token = token
        self.folder = cluster.folder / f"side-{name}"
        self.folder.mkdir()
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(kubeconfig(server, ca_file, user))
        self.kubeconfig.chmod(0o600)
        self.namespace = None

    def enter_namespace(self):
        """Names are equally long on both sides, so that tables are laid out alike."""
        self.namespace = f"diff-{uuid.uuid4().hex[:8]}"
        self.cluster.kubectl("create", "namespace", self.namespace)
        wait_until(lambda: self.cluster.kubectl(
            "get", "-n", self.namespace, "serviceaccount/default", "configmap/kube-root-ca.crt",
            expect=None).returncode == 0, "the namespace is furnished", STREAM_DEADLINE_S)
        return self.namespace

    # -- kubectl and helm

    def words(self, *arguments, version="kubectl"):
        return [str(word) for word in (
            parts.program(version), "--kubeconfig", self.kubeconfig,
            *(["--namespace", self.namespace] if self.namespace else []), *arguments)]

    def kubectl(self, *arguments, version="kubectl", stdin="", expect=None, env=None):
        return run_command(self.words(*arguments, version=version), self.folder, stdin, expect,
                           env)

    def helm(self, *arguments, version="helm-4", expect=None):
        return self.kubectl(*arguments, version=version, expect=expect)

    def start(self, *arguments, version="kubectl", stdin=subprocess.DEVNULL, env=None):
        """A client in the background; whoever starts it ends it."""
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("KUBE", "HELM_", "CORRAL_"))}
        environment |= {"HOME": str(self.folder)} | (env or {})
        return subprocess.Popen(
            self.words(*arguments, version=version), stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=self.folder, env=environment, start_new_session=True)

    def wait_for_pods(self, selector, count=1):
        def are_running():
            found = self.cluster.kubectl("get", "pods", "-n", self.namespace, "-l", selector,
                                         "-o", "jsonpath={.items[*].status.phase}")
            return found.stdout.split() == ["Running"] * count
        wait_until(are_running, f"{count} pods {selector} are running", STREAM_DEADLINE_S)

    # -- bare HTTP

    def _connect(self):
        parts_of = urllib.parse.urlsplit(self.server)
        trust = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection(
            parts_of.hostname, parts_of.port, context=trust, timeout=STREAM_DEADLINE_S)
        return connection, parts_of.path

    def request(self, method, path, body=None, **headers):
        """`(status, headers, body)`; header names are written with underscores."""
        connection, prefix = self._connect()
        try:
            sent = {"Authorization": f"Bearer {self.token}"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, prefix + path, body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    # -- making outputs comparable

    def normal(self, text):
        """The same text for the same behaviour, whatever the side and the time."""
        if isinstance(text, bytes):
            text = text.decode(errors="backslashreplace")
        for found, put in ((self.server, "https://SERVER"), (self.cluster.server, "https://SERVER"),
                           (urllib.parse.urlsplit(self.server).netloc, "SERVER"),
                           (self.namespace, "NAMESPACE"), (str(self.folder), "FOLDER")):
            if found:
                text = text.replace(found, put)
        for pattern, put in PATTERNS:
            text = pattern.sub(put, text)
        return text

    def told(self, result):
        """What a finished command told: its exit code and both its outputs."""
        return {"code": result.returncode, "stdout": self.normal(result.stdout),
                "stderr": self.normal(result.stderr)}


PATTERNS = [(re.compile(pattern), put) for pattern, put in (
    # The order matters: what is longer and more certain comes first.
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d{4}( UTC)?|Z)?", "TIME"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +\w+ +\w+ +\d\d:\d\d:\d\d \d{4}", "TIME"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w+ \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r"/tmp/(LIVE|MERGED)-\d+", r"\1"),
    (r"[EIW]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "LOG "),
    (r"(resourceVersion[\"']?: ?)[\"']?\d+[\"']?", r"\1N"),
    (r"(\"continue\": ?\")[\w=+/-]+", r"\1TOKEN"),
    (r"\b127\.88\.\d+\.\d+\b", "POD_IP"),
    (r"\b10\.96\.\d+\.\d+\b", "SERVICE_IP"),
    (r"\b(\w[\w.-]*)\.[0-9a-f]{16}\b", r"\1.EVENT"),
    (r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-RANDOM"),
    (r"127\.0\.0\.1:\d+", "LOCAL"),
    (r"\[::1\]:\d+", "LOCAL6"),
    # Ages and durations, as kubectl prints them.
    (r"\b\d+(\.\d+)?(ms|µs|s|m|h|d)(\d+(\.\d+)?s)?\b", "AGE"),
    (r"<(invalid|unknown)>(?=( |$))", "AGE"),
    (r" {2,}", "  "),
)]


# -- terminals, tunnels and streams


class Terminal:
    """A client on a terminal of its own, 33 rows by 111 columns."""

    def __init__(self, side, *arguments, version="kubectl", env=None):
        self.output = b""
        self.found_at = 0
        words = side.words(*arguments, version=version)
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("KUBE", "CORRAL_"))}
        environment |= {"HOME": str(side.folder), "TERM": "xterm"} | (env or {})
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
            os.execve(words[0], words, environment)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def read_until(self, wanted, deadline_s=STREAM_DEADLINE_S):
        """Reads on until `wanted` is seen, behind what was found before."""
        end = time.monotonic() + deadline_s
        while (found := self.output.find(wanted.encode(), self.found_at)) < 0:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {wanted!r} in: {self.output!r}"
            assert self._read(), f"ended without {wanted!r}: {self.output!r}"
        self.found_at = found + len(wanted.encode())

    def _read(self):
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return b""
        self.output += data
        return data

    def finish(self):
        """Reads to the end; gives all output and the exit code."""
        end = time.monotonic() + STREAM_DEADLINE_S
        while True:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            if not ready:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                os.close(self.master)
                raise AssertionError(f"the client did not end: {self.output!r}")
            if not self._read():
                break
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return (self.output.decode(errors="backslashreplace"), os.waitstatus_to_exitcode(status))


class Tunnel:
    """`kubectl port-forward` to one port of a pod; `with Tunnel(…) as (host, port):`."""

    def __init__(self, side, what, port, version="kubectl", env=None):
        self.process = side.start("port-forward", what, f":{port}", "--address", "127.0.0.1",
                                  version=version, env=env)

    def __enter__(self):
        line = self.process.stdout.readline().decode()
        found = re.match(r"Forwarding from (127\.0\.0\.1):(\d+) ", line)
        if not found:
            self.__exit__()
            raise AssertionError(f"no tunnel: {line!r} {self.errors!r}")
        return found.group(1), int(found.group(2))

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            _, self.errors = self.process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, self.errors = self.process.communicate()


def exchange(address, data):
    """What objects.SERVE at the other end of a tunnel makes of the data."""
    connection = http.client.HTTPConnection(*address, timeout=STREAM_DEADLINE_S)
    try:
        connection.request("POST", "/cgi-bin/echo", body=data)
        return connection.getresponse().read()
    finally:
        connection.close()


def read_lines(process, count, deadline_s=STREAM_DEADLINE_S):
    """The first lines of a running client's output."""
    end = time.monotonic() + deadline_s
    read = b""
    while read.count(b"\n") < count:
        ready, _, _ = select.select([process.stdout], [], [], max(0, end - time.monotonic()))
        assert ready, f"only this after {deadline_s} s: {read!r}"
        piece = os.read(process.stdout.fileno(), 65536)
        assert piece, f"ended after: {read!r} {process.stderr.read()!r}"
        read += piece
    return read.decode(errors="backslashreplace")


def end(process):
    """Ends a background client by its id."""
    process.kill()
    process.communicate()
