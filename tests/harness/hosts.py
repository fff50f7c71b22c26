"""A host behind a gateway: a real sshd as target `web-1`, people, and rules by what they may do."""

import os
import pathlib
import secrets
import subprocess

from .gateway import COMMAND_DEADLINE_S, Gateway
from .sshd import RealSshd

POLICY = """
kind: Policy
name: hosts
cedar: |
  permit (principal in Corral::Group::"agents",
          action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"write",
                     Corral::Action::"shell", Corral::Action::"forward"],
          resource in Corral::Target::"web-1");
  permit (principal in Corral::Group::"readers",
          action in [Corral::Action::"connect", Corral::Action::"read"],
          resource in Corral::Target::"web-1");
  @id("no-reboot") @reason("Hosts are rebooted by their owners.")
  forbid (principal, action == Corral::Action::"exec", resource in Corral::Target::"web-1")
  when { context has command && context.command like "*reboot*" };
  @id("restarts") @approval("dba") @reason("A restart needs approval.")
  forbid (principal, action == Corral::Action::"exec", resource in Corral::Target::"web-1")
  when { context has command && context.command like "*restart*" };
"""

PEOPLE = """
kind: User
name: ada@example.com
groups: [agents]
password: {value: "ada's password"}
---
kind: User
name: grace@example.com
groups: [dba]
password: {value: "grace's password"}
---
kind: User
name: rita@example.com
groups: [readers]
password: {value: "rita's password"}
---
kind: User
name: nobody@example.com
password: {value: "nobody's"}
"""

TARGET = """
kind: Target
name: {name}
protocol: ssh
address: 127.0.0.1:{port}
credential: {{{credential}}}
options:
  host_keys: ["{host_key}"]
{options}
"""


class Hosts:
    """One gateway in front of one sshd. `with Hosts() as hosts:` stops both."""

    def __init__(self, options="", more="", sshd_more="", sshd=None):
        self.sshd = sshd or RealSshd(sshd_more)
        self.user = self.sshd.user
        self.folder = self.sshd.folder / "work"
        self.folder.mkdir()
        self.gateway = None
        self._tokens = {}
        try:
            self.gateway = Gateway()
            self.known_hosts = self.sshd.folder / "known_hosts"
            self.gateway.apply("---\n".join([PEOPLE, POLICY, self.target("web-1", options)]) + more)
        except BaseException:
            self.close()
            raise

    def target(self, name, options="", credential=None, port=None, host_key=None):
        """Its resource; by default with the key that the host knows."""
        key = f"username: {self.user}, private_key: {{file: {self.sshd.folder}/user_key}}"
        return TARGET.format(name=name, port=port or self.sshd.port, options=options,
                             credential=credential or key,
                             host_key=host_key or self.sshd.host_key)

    def login(self, name="ada@example.com"):
        if name not in self._tokens:
            password = {"nobody@example.com": "nobody's"}.get(
                name, f"{name.split('@')[0]}'s password")
            self._tokens[name] = self.gateway.login(name, password)
        return self._tokens[name]

    def run(self, name=None, user="ada@example.com"):
        """A run's token."""
        name = name or f"agent-{secrets.token_hex(3)}"
        return self.gateway.start_run(name, self.login(user))

    # -- stock clients

    @property
    def address(self):
        return self.gateway.address("ssh")

    def destination(self, target="web-1", user=None):
        return f"{user or self.user}@{target}@{self.address[0]}"

    def _askpass(self):
        """ssh reads a password from a program; the token comes by the environment."""
        script = self.sshd.folder / "askpass"
        if not script.exists():
            script.write_text('#!/bin/sh\nprintf "%s\\n" "$CORRAL_TEST_TOKEN"\n')
            script.chmod(0o700)
        return str(script)

    def env(self, token):
        return {key: value for key, value in os.environ.items()
                if not key.startswith(("CORRAL_", "SSH_"))} | {
            "CORRAL_TEST_TOKEN": token, "SSH_ASKPASS": self._askpass(),
            "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none",
        }

    def options(self, password=True):
        """What every call of a stock client gets: no files of the user's own."""
        methods = "password" if password else "keyboard-interactive"
        return ["-F", "/dev/null", "-o", f"UserKnownHostsFile={self.known_hosts}",
                "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=INFO",
                "-o", f"PreferredAuthentications={methods}", "-o", "NumberOfPasswordPrompts=1",
                "-o", "IdentityFile=none", "-o", "IdentitiesOnly=yes"]

    def ssh_words(self, *arguments, target="web-1", password=True):
        return ["ssh", *self.options(password), "-p", str(self.address[1]),
                *arguments[:-1], self.destination(target), *arguments[-1:]]

    def ssh(self, command, *options, token=None, target="web-1", stdin=b"", expect=0,
            password=True, deadline=COMMAND_DEADLINE_S, user=None, port=None):
        """`ssh … COMMAND`; bytes in, bytes out."""
        words = ["ssh", *self.options(password), "-p", str(port or self.address[1]), *options,
                 self.destination(target, user)]
        if command is not None:
            words.append(command)
        result = subprocess.run(words, input=stdin, capture_output=True,
                                env=self.env(token or self.run()["token"]), timeout=deadline)
        if expect is not None:
            assert result.returncode == expect, (result.returncode, result.stdout, result.stderr)
        return result

    def start_ssh(self, command, *options, token, target="web-1", user=None, **more):
        words = ["ssh", *self.options(), "-p", str(self.address[1]), *options,
                 self.destination(target, user)]
        if command is not None:
            words.append(command)
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.env(token), **more)

    def scp(self, source, destination, *options, token=None, expect=0):
        words = ["scp", *self.options(), "-P", str(self.address[1]), *options, source, destination]
        result = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL,
                                env=self.env(token or self.run()["token"]),
                                timeout=COMMAND_DEADLINE_S)
        if expect is not None:
            assert result.returncode == expect, (result.returncode, result.stdout, result.stderr)
        return result

    def remote(self, path, target="web-1"):
        return f"{self.destination(target)}:{path}"

    def sftp(self, batch, token=None, expect=0):
        words = ["sftp", *self.options(), "-P", str(self.address[1]), "-b", "-",
                 self.destination()]
        # A batch file turns prompts off; the password comes by askpass all the same.
        words[1:1] = ["-o", "BatchMode=no"]
        result = subprocess.run(words, input=batch.encode(), capture_output=True,
                                env=self.env(token or self.run()["token"]),
                                timeout=COMMAND_DEADLINE_S)
        if expect is not None:
            assert result.returncode == expect, (result.returncode, result.stdout, result.stderr)
        return result

    def events(self, *filters):
        return self.gateway.events(*filters)

    def work(self, name):
        return pathlib.Path(self.folder / name)

    def close(self):
        if self.gateway:
            self.gateway.close()
        self.sshd.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
