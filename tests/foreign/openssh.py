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
}

# Taken out of the copies, both ways, by test: (from this line, up to that one, why).
CUTS = {
    "forwarding": [
        ('trace "transfer over chained unix domain socket forwards', None,
         "sockets are never forwarded"),
    ],
    "multiplex": [
        ('trace "forward over UNIX and check result"', "for s in 0 1 4 5 44; do",
         "sockets are never forwarded"),
        ('verbose "test $tid: cmd forward local (UNIX)"', 'verbose "test $tid: cmd exit"',
         "sockets are never forwarded"),
    ],
    "rekey": [
        ('for s in 16 1k 128k 256k; do\n\tverbose "server rekeylimit',
         'verbose "rekeylimit parsing"', "changes its own server's settings, not the target's"),
    ],
}

# What ssh says that it knows is what both the client and the gateway offer: the scripts try each.
OFFERED = {
    "cipher": {"chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr",
               "aes192-ctr", "aes256-ctr"},
    "cipher-auth": {"chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"},
    "mac": {"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"},
    "kex": {"curve25519-sha256", "curve25519-sha256@libssh.org", "mlkem768x25519-sha256"},
}

OPTIONS = """  forward_to: ["localhost:*", "127.0.0.1:*"]
  forward_listen: ["localhost:*", "127.0.0.1:*"]
  environment: ["LANG", "LC_*", "_XXX_TEST"]
"""

# Calls the real ssh with our settings first: the first value that ssh reads is the one it takes.
WRAPPER = """#!{python}
import os, pathlib, subprocess, sys
WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"
words, files, is_own, asked = sys.argv[1:], [], False, None
index = 0
while index < len(words):
    word, place = words[index], 1
    while word.startswith("-") and place < len(word):
        letter, place = word[place], place + 1
        if letter not in WITH_VALUE:
            continue
        attached = place < len(word)
        if not attached:
            index += 1
        value = word[place:] if attached else (words[index:] or [""])[0]
        if letter == "F":
            files.append((index, place if attached else 0, value))
        # A forwarded port, or a way that leads to the script's own server.
        is_own |= letter == "p" and value != os.environ["CORRAL_TEST_PORT"]
        is_own |= letter == "o" and value.lower().startswith("proxycommand")
        asked = value if letter == "Q" else asked
        break
    index += 1
if asked:
    known = subprocess.run(["/usr/bin/ssh", "-Q", asked], capture_output=True, text=True)
    offered = {offered!r}.get(asked)
    print(*[line for line in known.stdout.split() if not offered or line in offered], sep="\\n")
    sys.exit(known.returncode)
for index, start, value in ([] if is_own else files):
    file = pathlib.Path(value)
    changed = file.with_name(f".{{file.name}}.{{os.getpid()}}")
    changed.write_text(pathlib.Path(os.environ["CORRAL_TEST_CONFIG"]).read_text()
                       + file.read_text())
    words[index] = words[index][:start] + str(changed)
# The scripts take the ways to ask for a password out of their environment.
os.environ.update(SSH_ASKPASS=os.environ["CORRAL_TEST_ASKPASS"], SSH_ASKPASS_REQUIRE="force")
os.execv("/usr/bin/ssh", ["/usr/bin/ssh", *words])
"""


def cut(test, text):
    """The script without what cannot hold here."""
    for start, end, why in CUTS.get(test, ()):
        first = text.index(start)
        last = text.index(end, first) if end else len(text)
        text = f"{text[:first]}# cut: {why}\n{text[last:]}"
    return text


CONFIG = """Host *
  HostName {host}
  Port {port}
  User {user}
  ProxyCommand none
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  HostKeyAlias corral-test
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
        script = copy / f"{test}.sh"
        script.write_text(cut(test, script.read_text()))
        wrapper, config = copy / "wrapped-ssh", copy / "wrapped-config"
        wrapper.write_text(WRAPPER.format(python=sys.executable, offered=OFFERED))
        wrapper.chmod(0o755)
        config.write_text(self.ways[way])
        port = str(free_port())
        env = self.hosts.env(self.hosts.run()["token"]) | {
            "CORRAL_TEST_ASKPASS": self.hosts.env("")["SSH_ASKPASS"],
            "CORRAL_TEST_CONFIG": str(config), "CORRAL_TEST_PORT": port,
            "TEST_SHELL": "sh", "TEST_SSH_SSH": str(wrapper), "TEST_SSH_PORT": port,
            "TEST_SSH_SFTPSERVER": "/usr/lib/openssh/sftp-server", "SUDO": "",
            "TEST_SSH_UNSAFE_PERMISSIONS": "1", "TEST_SSH_IPV6": "yes", "TEST_SSH_ECC": "yes",
            # bash reads ~/.bashrc for commands of the servers that the scripts start, too.
            "TEST_SSH_SSHD_CONFOPTS": "SetEnv SHLVL=1",
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
        with Hosts(OPTIONS, sshd_more="PermitUserEnvironment yes") as hosts:
            regress = Regress(hosts, folder)
            for test in tests:
                is_good, direct = regress.run("direct", test)
                is_same, output = regress.run("corral", test)
                is_listed = test in DIFFERS
                if not is_good:
                    verdict = "FAILS DIRECTLY"
                elif is_same:
                    verdict = "LISTED, AND PASSES" if is_listed else "same"
                else:
                    verdict = f"differs as listed: {DIFFERS[test]}" if is_listed else "DIFFERS"
                if verdict.isupper():
                    failed += 1
                else:
                    passed += 1
                print(f"{test:20} {verdict}", flush=True)
                if verdict.isupper():
                    print(f"--- direct:\n{direct}\n--- through the gateway:\n{output}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
