"""An account of this machine, for what a server does not do for root. Needs root."""

import os
import secrets
import subprocess

import pytest


class Account:
    """`with Account() as account:` removes it, and ends what it still runs."""

    def __init__(self):
        if os.geteuid() != 0:
            pytest.skip("accounts are made by root only")
        self.name = f"corral-{secrets.token_hex(4)}"
        self.password = secrets.token_hex(8)
        subprocess.run(["useradd", "--no-create-home", "--home-dir", "/tmp", "--shell", "/bin/sh",
                        self.name], check=True, capture_output=True)
        subprocess.run(["chpasswd"], input=f"{self.name}:{self.password}", text=True, check=True)

    def processes(self):
        """(pid, command line) of everything that runs as it."""
        listing = subprocess.run(["ps", "-u", self.name, "-o", "pid=,args="], text=True,
                                 capture_output=True).stdout
        return [(int(pid), line) for pid, line in
                (row.strip().split(None, 1) for row in listing.splitlines())]

    def close(self):
        for pid, _ in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        subprocess.run(["userdel", "--force", self.name], check=True, capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
