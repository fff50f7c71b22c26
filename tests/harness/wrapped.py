"""A command below `corral run`, and its processes."""

import os
import pathlib
import signal
import subprocess


class Wrapped:
    """A command below `corral run`, which is ended with the test."""

    def __init__(self, shop, name, *command, more=("--target", "plain-db"),
                 gateway=None):
        self.shop = shop
        self.name = name
        self.process = subprocess.Popen(
            [shop.gateway.program, "run", "--name", name, *more, "--", *command], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=shop.gateway.client_env(shop.workload())
            | ({"CORRAL_GATEWAY": gateway} if gateway else {}), cwd=shop.gateway.folder,
            start_new_session=True)

    def line(self):
        line = self.process.stdout.readline().strip()
        assert line, self.process.stderr.read()
        return line

    def run(self):
        return next((run for run in self.shop.gateway.json("runs", "list")
                     if run["name"] == self.name), None)

    def children(self):
        own = self.run()["id"]
        return [run for run in self.shop.gateway.json("runs", "list") if run.get("parent") == own]

    def sessions(self):
        return [session for session in self.shop.gateway.json("sessions", "list")
                if (session.get("run_path") or session.get("run") or "").startswith(self.name)]

    def finish(self, code=0):
        output, errors = self.process.communicate("\n", timeout=30)
        assert self.process.returncode == code, errors
        return output

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


def is_alive(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        # The second when it ends between the opening and the reading.
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"
