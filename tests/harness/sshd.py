"""A real OpenSSH server of its own: own host key, free port, its sessions run as whoever runs the
tests."""

import getpass
import os
import pathlib
import shutil
import subprocess
import tempfile

from .postgres import free_port
from .waiting import DeadlinePassed, wait_until

PORT_ATTEMPTS = 5
START_DEADLINE_S = 15
STOP_DEADLINE_S = 10
SFTP_SERVER = "/usr/lib/openssh/sftp-server"

CONFIG = """
# The first value that sshd reads is the one it takes.
{more}
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/pid
AuthorizedKeysFile {folder}/authorized_keys
TrustedUserCAKeys {folder}/trusted_ca
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PermitUserEnvironment no
AllowTcpForwarding yes
AllowAgentForwarding yes
X11Forwarding yes
MaxStartups 200:30:400
MaxSessions 500
AcceptEnv *
# bash reads ~/.bashrc for every command of sshd's unless it is told that it is not the first one:
# whatever stands there is not what is tested.
SetEnv SHLVL=1
Subsystem sftp {sftp}
LogLevel VERBOSE
"""


def keygen(path, *arguments):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path, *arguments],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class RealSshd:
    """A running server. `with RealSshd() as sshd:` stops it and removes its files."""

    def __init__(self, more="", program=("/usr/sbin/sshd",)):
        self.program = program
        self.user = getpass.getuser()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-sshd-", dir="/tmp"))
        self.more = more
        self.process = None
        self.port = None
        try:
            keygen(self.folder / "host_key")
            # The key that the gateway logs in with.
            keygen(self.folder / "user_key")
            shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
            (self.folder / "trusted_ca").touch()
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        # Where sshd puts its unprivileged half; the distribution makes it at boot only.
        if os.geteuid() == 0:
            pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for attempt in range(PORT_ATTEMPTS):
            self.port = free_port()
            try:
                self._start_once()
                return
            except DeadlinePassed:
                self.stop()
                if attempt == PORT_ATTEMPTS - 1:
                    raise

    def _start_once(self):
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder, sftp=SFTP_SERVER,
                                        more=self.more))
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )
        def is_listening():
            if self.process.poll() is not None:
                raise DeadlinePassed(f"sshd exited {self.process.returncode}:\n{self.log()}")
            return (self.folder / "pid").exists()
        wait_until(is_listening, "sshd listens", START_DEADLINE_S)

    def log(self):
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def trust(self, ca_public_key):
        """From here on, certificates of this authority may log in."""
        (self.folder / "trusted_ca").write_text(ca_public_key.strip() + "\n")

    def change_host_key(self):
        self.stop()
        for file in self.folder.glob("host_key*"):
            file.unlink()
        keygen(self.folder / "host_key")
        # The same port: it is the same address that shows another key.
        self._start_once()

    @property
    def host_key(self):
        """`ssh-ed25519 AAAA…`, as it is pinned."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def private_key(self):
        return (self.folder / "user_key").read_text()

    def children(self):
        """Processes that sessions of this server started, as (pid, command line)."""
        listing = subprocess.run(["ps", "-e", "-o", "pid=,sid=,ppid=,args="], text=True,
                                 capture_output=True, check=True).stdout
        rows = [line.split(None, 3) for line in listing.splitlines()]
        known = {str(self.process.pid)}
        found = []
        while True:
            more = [row for row in rows if row[2] in known and row[0] not in known]
            if not more:
                return [(int(row[0]), row[3]) for row in found]
            known.update(row[0] for row in more)
            found += more

    def stop(self):
        (self.folder / "pid").unlink(missing_ok=True)
        if self.process is None:
            return
        children = [pid for pid, _ in self.children()] if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in children:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.process = None

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
