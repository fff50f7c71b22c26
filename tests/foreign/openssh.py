#!/usr/bin/env python3
"""OpenSSH's own regression scripts, directly and through the gateway, test by test.

The scripts call a wrapper instead of ssh. It puts the address of a real sshd, or of the gateway in
front of it, before the scripts' own configuration. The direct result is the expectation; what
differs through the gateway is listed here with its reason, and a listed test that passes is an
error too.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness.hosts import Hosts  # noqa: E402
from harness.postgres import free_port  # noqa: E402

REGRESS = pathlib.Path("/usr/lib/openssh/regress")
DEADLINE_S = 300
TESTS = ("connect", "exit-status", "exit-status-signal", "stderr-data", "stderr-after-eof",
         "broken-pipe", "transfer", "yes-head", "sftp", "sftp-cmds", "sftp-badcmds", "sftp-glob",
         "sftp-uri", "scp", "scp3", "scp-uri", "multiplex", "rekey", "try-ciphers", "kextype",
         "forwarding", "dynamic-forward")
LONG = ("rekey", "try-ciphers", "kextype")
# Through the gateway only, by test: why it differs.
DIFFERS = {
    "sftp-uri": "names another account and port in its URI, which no configuration changes",
    "scp3": "scp -3 lets its second host ask for no password, and the token is one here",
    "multiplex": "forwards sockets and ports of the host's own, which policy does not permit",
    "forwarding": "forwards sockets and remote ports, which policy does not permit",
    "try-ciphers": "asks for ciphers and MACs that the gateway does not offer",
    "rekey": "asks for key exchanges and ciphers that the gateway does not offer",
    "kextype": "asks for key exchanges that the gateway does not offer",
}

# Calls the real ssh with our settings first: the first value that ssh reads is the one it takes.
WRAPPER = """#!{python}
import os, pathlib, sys, tempfile
words, own_port = sys.argv[1:], False
for index, word in enumerate(words):
    port = word[2:] or (words[index + 1:] or [""])[0] if word.startswith("-p") else None
    own_port |= port not in (None, os.environ["CORRAL_TEST_PORT"])
for index, word in enumerate(words):
    if word == "-F" and not own_port:
        file = pathlib.Path(words[index + 1])
        changed = file.with_name(f".{{file.name}}.{{os.getpid()}}")
        changed.write_text(pathlib.Path(os.environ["CORRAL_TEST_CONFIG"]).read_text()
                           + file.read_text())
        words[index + 1] = str(changed)
# The scripts take the ways to ask for a password out of their environment.
os.environ.update(SSH_ASKPASS=os.environ["CORRAL_TEST_ASKPASS"], SSH_ASKPASS_REQUIRE="force")
os.execv("/usr/bin/ssh", ["/usr/bin/ssh", *words])
"""

CONFIG = """Host *
  HostName {host}
  Port {port}
  User {user}
  ProxyCommand none
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  HostKeyAlias corral-test
  LogLevel ERROR
  BatchMode no
{login}
"""


class Regress:
    def __init__(self, hosts, folder):
        self.hosts = hosts
        self.folder = folder
        key = hosts.sshd.folder / "user_key"
        key.chmod(0o600)
        self.ways = {
            "direct": CONFIG.format(host="127.0.0.1", port=hosts.sshd.port, user=hosts.user,
                                    login=f"  IdentityFile {key}\n  IdentitiesOnly yes"),
            "corral": CONFIG.format(host=hosts.address[0], port=hosts.address[1],
                                    user=f"{hosts.user}@web-1",
                                    login="  PasswordAuthentication yes\n  PreferredAuthentications password"),
        }

    def run(self, way, test):
        """Whether one script passes, and the end of what it said."""
        copy = self.folder / f"{way}-{test}"
        shutil.copytree(REGRESS, copy, symlinks=True)
        wrapper, config = copy / "wrapped-ssh", copy / "wrapped-config"
        wrapper.write_text(WRAPPER.format(python=sys.executable))
        wrapper.chmod(0o755)
        config.write_text(self.ways[way])
        port = str(free_port())
        env = self.hosts.env(self.hosts.run()["token"]) | {
            "CORRAL_TEST_ASKPASS": self.hosts.env("")["SSH_ASKPASS"],
            "CORRAL_TEST_CONFIG": str(config), "CORRAL_TEST_PORT": port,
            "TEST_SHELL": "sh", "TEST_SSH_SSH": str(wrapper), "TEST_SSH_PORT": port,
            "TEST_SSH_SFTPSERVER": "/usr/lib/openssh/sftp-server", "SUDO": "",
            "TEST_SSH_UNSAFE_PERMISSIONS": "1", "TEST_SSH_IPV6": "yes", "TEST_SSH_ECC": "yes",
            "USER": self.hosts.user, "BUILDDIR": str(copy), "OBJ": str(copy),
        }
        words = ["sh", str(copy / "test-exec.sh"), str(copy), str(copy / f"{test}.sh")]
        process = subprocess.Popen(words, cwd=copy, env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            output = process.communicate(timeout=DEADLINE_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            output = "took too long"
        finally:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass
            process.wait()
            shutil.rmtree(copy, ignore_errors=True)
        return process.returncode == 0, output[-1500:]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("tests", nargs="*", help="some of the scripts instead of all")
    arguments.add_argument("--short", action="store_true", help="leave out what takes minutes")
    options = arguments.parse_args()
    if not REGRESS.exists():
        sys.exit("OpenSSH's regression scripts are missing; run .ci/setup foreign")
    tests = options.tests or [test for test in TESTS if not (options.short and test in LONG)]
    passed, failed = 0, 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-regress-"))
    try:
        with Hosts(sshd_more="PermitUserEnvironment yes") as hosts:
            regress = Regress(hosts, folder)
            for test in tests:
                is_good, direct = regress.run("direct", test)
                is_same, output = regress.run("corral", test)
                is_listed = test in DIFFERS
                if is_same == is_good and not (is_listed and is_good):
                    verdict = "same" if is_good else "same (fails directly too)"
                    passed += 1
                elif is_listed and is_good and not is_same:
                    verdict = f"differs as listed: {DIFFERS[test]}"
                    passed += 1
                else:
                    verdict = "listed, and passes" if is_listed else "DIFFERS"
                    failed += 1
                print(f"{test:20} {verdict}", flush=True)
                if verdict == "DIFFERS":
                    print(f"--- direct:\n{direct}\n--- through the gateway:\n{output}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
