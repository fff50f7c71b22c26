"""A real `corral relay` near the targets of a real gateway."""

import pathlib
import shutil
import signal
import subprocess
import tempfile

from .gateway import binary
from .waiting import wait_until

STOP_DEADLINE_S = 20


class RelayProcess:
    """A relay process with its own data directory. `token` is used at the first start."""

    def __init__(self, gateway, token=None, *arguments, data=None, join=True):
        self.gateway = gateway
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-relay-"))
        self.data = pathlib.Path(data) if data else self.folder / "data"
        self.log_file = self.folder / "log"
        command = [binary(), "relay", "--data", self.data, *arguments]
        if token is not None:
            token_file = self.folder / "join.token"
            token_file.write_text(token + "\n")
            command += ["--token-file", token_file, "--ca-file", gateway.ready["ca_file"]]
            if join:
                command += ["--join", gateway.ready["api"]]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=gateway._clean_env(), cwd=self.folder, start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_file.read_text(errors="replace")

    def wait(self):
        """The exit code, for one that should end by itself."""
        return self.process.wait(STOP_DEADLINE_S)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def token_for(gateway, name="eu-1", *more):
    return gateway.run("relays", "token", name, *more).stdout.strip()


def processes(gateway, name="eu-1"):
    relays = gateway.json("relays", "list")
    return next(relay["processes"] for relay in relays if relay["name"] == name)


def connected(gateway, count=1, name="eu-1"):
    """Waits until so many processes of a relay take streams."""
    def are():
        found = [p for p in processes(gateway, name) if p["state"] == "connected"]
        return found if len(found) == count else None
    return wait_until(are, f"{count} processes of {name} are connected", 40)
