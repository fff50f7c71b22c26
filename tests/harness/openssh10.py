"""OpenSSH 10.0 as `.ci/setup foreign` unpacks it: programs of another Debian, run with their own
libraries on this machine's files. Each is a small script, for programs that call one another."""

import os
import pathlib

CACHE = pathlib.Path(os.environ.get("CORRAL_CACHE") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "corral")
ROOT = CACHE / "trixie"
PROGRAMS = {
    "ssh": "usr/bin/ssh", "scp": "usr/bin/scp", "sftp": "usr/bin/sftp",
    "sshd": "usr/sbin/sshd", "sshd-session": "usr/lib/openssh/sshd-session",
    "sshd-auth": "usr/lib/openssh/sshd-auth", "sftp-server": "usr/lib/openssh/sftp-server",
}


def exists():
    return all((ROOT / path).exists() for path in PROGRAMS.values())


class OpenSsh10:
    """The programs as scripts in a folder of the caller's."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        loader = ROOT / "lib64/ld-linux-x86-64.so.2"
        libraries = ROOT / "usr/lib/x86_64-linux-gnu"
        for name, path in PROGRAMS.items():
            script = self.folder / name
            # sshd wants to be called by its whole path, to start itself again.
            script.write_text(f'#!/bin/sh\nexec {loader} --library-path {libraries} '
                              f'--argv0 {script} {ROOT / path} "$@"\n')
            script.chmod(0o755)

    def __getitem__(self, name):
        return str(self.folder / name)

    def sshd(self):
        """The words that start the server."""
        return [self["sshd"], "-o", f"SshdSessionPath={self['sshd-session']}",
                "-o", f"SshdAuthPath={self['sshd-auth']}",
                "-o", f"Subsystem=sftp {self['sftp-server']}", "-o", "LogLevel=DEBUG1"]
