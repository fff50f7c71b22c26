"""What `corral run`, `env` and `connect` write for stock clients that need more than variables:
which files, for whose eyes, and that no token is among them."""

import base64
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile
import time

import pytest

from harness.gateway import Gateway
from harness.sshd import keygen
from harness.waiting import wait_until

# Nobody answers there: what is tested ends at the gateway.
NOWHERE = "127.0.0.1:1"

MANIFEST = """
kind: Target
name: web-1
protocol: ssh
address: {nowhere}
credential: {{username: deploy, password: {{value: unused}}}}
options: {{host_keys: ["{host_key}"]}}
---
kind: Target
name: web-2
protocol: ssh
address: {nowhere}
credential: {{username: svc, password: {{value: unused}}}}
options: {{host_keys: ["{host_key}"]}}
---
kind: Target
name: cluster-1
protocol: kubernetes
address: {nowhere}
tls: {{mode: disable}}
credential: {{token: {{value: unused}}}}
---
kind: Target
name: cluster-2
protocol: kubernetes
address: {nowhere}
tls: {{mode: disable}}
credential: {{token: {{value: unused}}}}
---
kind: User
name: ada@example.com
groups: [agents]
password: {{value: "ada's password"}}
---
kind: Policy
name: all
cedar: |
  permit (principal in Corral::Group::"agents", action, resource);
"""


class Place:
    """A gateway, a person, and a directory for what belongs to a session of theirs."""

    def __init__(self):
        # Short and plain: sockets go below it.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
        self.runtime = self.folder / "runtime"
        self.runtime.mkdir(mode=0o700)
        keygen(self.folder / "host_key")
        host_key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        self.gateway = Gateway()
        try:
            self.gateway.apply(MANIFEST.format(nowhere=NOWHERE, host_key=host_key))
            self.token = self.gateway.login("ada@example.com", "ada's password")
        except BaseException:
            self.close()
            raise

    def env(self):
        env = self.gateway.client_env(self.token) | {"XDG_RUNTIME_DIR": str(self.runtime)}
        return {key: value for key, value in env.items()
                if key not in ("SSH_AUTH_SOCK", "KUBECONFIG")}

    def corral(self, *arguments, **options):
        return self.gateway.run(*arguments, env=self.env(), **options)

    def run(self, script, *targets, **options):
        """A shell script in a run; its standard output."""
        words = [word for target in targets for word in ("--target", target)]
        return self.corral("run", *words, "--", "sh", "-ceu", script, **options).stdout

    def directories(self):
        base = self.runtime / "corral"
        return sorted(base.glob("run-*")) if base.exists() else []

    def close(self):
        self.gateway.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def place():
    open_place = Place()
    yield open_place
    open_place.close()


def files_below(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]


def assert_private(folder, token):
    """Nobody else may look, and there is no token to be seen."""
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    for path in pathlib.Path(folder).rglob("*"):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            continue
        assert stat.S_IMODE(status.st_mode) & 0o077 == 0, path
        if stat.S_ISREG(status.st_mode):
            text = path.read_bytes()
            assert token.encode() not in text and b"crl_" not in text, path
            assert base64.b64encode(token.encode())[:20] not in text, path


# -- the directory


SNAPSHOT = """
printf '%s\\n' "$CORRAL_TOKEN" "${KUBECONFIG-}"
dir=$(dirname "$KUBECONFIG")
cp -rp "$dir" "$COPY" 2>/dev/null || true
"""


def snapshot(place, *targets):
    """A copy of the run's directory, and its token; the copy is what lay there."""
    copy = place.folder / f"copy-{time.monotonic_ns()}"
    words = [word for target in targets for word in ("--target", target)]
    env = place.env() | {"COPY": str(copy)}
    result = place.gateway.run("run", *words, "--", "sh", "-c", SNAPSHOT, env=env)
    token, kubeconfig = result.stdout.splitlines()[:2]
    return copy, token, pathlib.Path(kubeconfig)


def test_the_files_are_private_hold_no_token_and_go_with_the_run(place):
    copy, token, kubeconfig = snapshot(place)
    assert token.startswith("crl_")
    assert kubeconfig.parent.parent == place.runtime / "corral"
    assert not kubeconfig.parent.exists(), "it went with the run"
    names = {str(path.relative_to(copy)) for path in files_below(copy)}
    assert {"kubeconfig", "ca.pem", "ssh_config", "known_hosts", "bin/ssh", "bin/scp",
            "bin/sftp"} <= names
    assert_private(copy, token)
    assert stat.S_IMODE((copy / "kubeconfig").stat().st_mode) == 0o600
    assert stat.S_IMODE((copy / "bin/ssh").stat().st_mode) == 0o700
    assert os.path.realpath(copy / "bin/corral") == str(pathlib.Path(place.gateway.program).resolve())


def test_a_run_for_one_target_has_the_files_of_that_one(place):
    copy, token, kubeconfig = snapshot(place, "cluster-1")
    assert_private(copy, token)
    assert not (copy / "ssh_config").exists()
    assert "cluster-2" not in (copy / "kubeconfig").read_text()


def test_the_directory_of_a_killed_wrapper_is_swept_by_the_next_run(place):
    before = place.directories()
    process = subprocess.Popen(
        [place.gateway.program, "run", "--target", "cluster-1", "--", "sleep", "60"],
        env=place.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        wait_until(lambda: len(place.directories()) > len(before), "the directory is there")
        left = (set(place.directories()) - set(before)).pop()
        wait_until(lambda: (left / "kubeconfig").exists(), "the files are there")
        assert place.run("echo alive", "cluster-1") == "alive\n"
        assert left.exists(), "a living process keeps its own"
        process.kill()
        process.wait(10)
        place.run("true", "cluster-1")
        assert not left.exists()
    finally:
        process.kill()


# -- kubectl


def kubectl_view(output):
    return json.loads(output)


def test_the_kubeconfig_has_a_context_for_each_target(place):
    view = kubectl_view(place.run("kubectl config view --raw -o json"))
    assert [context["name"] for context in view["contexts"]] == ["cluster-1", "cluster-2"]
    host = place.gateway.ready["api"]
    servers = {entry["name"]: entry["cluster"] for entry in view["clusters"]}
    assert {cluster["server"] for cluster in servers.values()} == {
        f"{host}/k8s/cluster-1", f"{host}/k8s/cluster-2"}
    ca = pathlib.Path(place.gateway.ready["ca_file"]).read_bytes()
    for cluster in servers.values():
        assert base64.b64decode(cluster["certificate-authority-data"]) == ca
    users = [entry["user"] for entry in view["users"]]
    assert all(set(user) == {"exec"} for user in users), "no token, no password, no key"
    plugin = users[0]["exec"]
    assert plugin["apiVersion"] == "client.authentication.k8s.io/v1"
    assert plugin["interactiveMode"] == "Never"
    assert plugin["args"][0] == "k8s-credential"


def test_with_one_cluster_its_context_is_the_current_one(place):
    assert place.run("kubectl config current-context", "cluster-1") == "cluster-1\n"
    assert place.run("kubectl config current-context", "cluster-2", "web-1") == "cluster-2\n"


def test_the_plugin_hands_over_the_token_of_the_process_that_calls_it(place):
    script = "echo $CORRAL_TOKEN; corral k8s-credential; corral k8s-credential; sh -c 'corral k8s-credential; true'"
    of_run, *answers = place.run(script, "cluster-1").splitlines()
    one, again, other = map(json.loads, answers)
    token = one["status"].pop("token")
    assert one == {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                   "status": {}}
    assert again["status"]["token"] == token
    assert len({of_run, token, other["status"]["token"]}) == 3


def test_without_the_wrapper_the_plugin_hands_over_the_token_that_it_is_given(place):
    script = "echo $CORRAL_TOKEN; CORRAL_CONTROL= corral k8s-credential"
    of_run, answer = place.run(script, "cluster-1").splitlines()
    assert json.loads(answer)["status"]["token"] == of_run


def test_kubectl_gets_through_to_the_target(place):
    """The target is down, which only somebody with a good token for it is told."""
    script = "kubectl -v=8 get pods 2>&1 || true"
    assert "corral:" in place.run(script, "cluster-1")
    bad = place.run("unset CORRAL_CONTROL; CORRAL_TOKEN=crl_" + "x" * 43 + f"; export CORRAL_TOKEN; {script}",
                    "cluster-1")
    assert "Unauthorized" in bad or "must be logged in" in bad or "not valid" in bad


def test_env_prints_what_leads_kubectl_there(place):
    lines = place.corral("env", "cluster-1").stdout
    env = {key: value for key, value in place.env().items() if not key.startswith("CORRAL_")}
    script = lines + "kubectl config current-context; kubectl -v=8 get pods 2>&1 || true\n"
    told = subprocess.run(["sh", "-ceu", script], env=env, text=True, capture_output=True,
                          timeout=60, check=True).stdout
    assert told.startswith("cluster-1\n") and "corral:" in told
    kept = list((place.runtime / "corral").glob("env-cluster-1-*"))
    assert len(kept) == 1
    assert_private(kept[0], place.token)
    again = place.corral("env", "cluster-1", "-o", "json").stdout
    assert json.loads(again)["KUBECONFIG"].startswith(str(kept[0]))


def test_connect_runs_kubectl_or_opens_a_shell(place):
    told = place.corral("connect", "cluster-1", "--", "config", "current-context").stdout
    assert told == "cluster-1\n"
    env = place.env() | {"SHELL": "/bin/sh"}
    told = place.gateway.run("connect", "cluster-1", env=env,
                             stdin="kubectl config current-context\n").stdout
    assert told == "cluster-1\n"
    assert place.directories() == []


# -- ssh


def effective(place, script, *targets):
    """`ssh -G` as a dictionary."""
    lines = place.run(script, *targets).splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line)


def test_ssh_knows_every_target_by_its_name(place):
    for name, login in (("web-1", "deploy"), ("web-2", "svc")):
        options = effective(place, f"ssh -G {name}")
        host, port = place.gateway.address("ssh")
        assert (options["hostname"], options["port"]) == (host, str(port))
        assert options["user"] == f"{login}@{name}"
        assert options["stricthostkeychecking"] in ("true", "yes")
        directory = pathlib.Path(options["userknownhostsfile"]).parent
        assert directory.parent == place.runtime / "corral"
        assert options["identityagent"] == str(directory / "ssh.sock")
        assert options["serveraliveinterval"] == "15"
    other = effective(place, "ssh -G other.example")
    assert (other["hostname"], other["port"]) == ("other.example", "22")
    assert "/corral/run-" not in other["userknownhostsfile"]


def test_the_users_own_options_do_not_reach_the_targets(place):
    """ssh reads the home of the user database, so the file is looked at, not another home."""
    copy, _, _ = snapshot(place)
    text = (copy / "ssh_config").read_text()
    assert "Host * !web-1 !web-2\n" in text
    assert text.index("Host * !web-1 !web-2") < text.index("Include ~/.ssh/config")


def test_programs_find_the_wrappers_and_the_wrappers_the_programs(place):
    told = place.run("for p in ssh scp sftp; do command -v $p; done; ssh -V 2>&1; "
                     "echo $GIT_SSH_COMMAND; echo $RSYNC_RSH")
    lines = told.splitlines()
    for line, name in zip(lines, ("ssh", "scp", "sftp")):
        assert line.startswith(f"{place.runtime}/corral/run-") and line.endswith(f"/bin/{name}")
    assert lines[3].startswith("OpenSSH_")
    for line in lines[4:6]:
        assert line.startswith("ssh -F ") and line.endswith("/ssh_config")


def test_the_agent_holds_one_certificate_of_five_minutes_and_takes_no_keys(place):
    script = """
    ssh-add -L > cert.pub; ssh-keygen -L -f cert.pub; rm cert.pub; echo ===
    ssh-add -D 2>&1 || echo refused
    ssh-keygen -q -t ed25519 -N '' -f k; ssh-add k 2>&1 || echo refused; rm k k.pub
    ssh-add -l; echo ===; stat -c %a "$SSH_AUTH_SOCK"
    """
    certificate, changed, mode = place.run(script, "web-1").split("===\n")
    assert certificate.count("Type: ssh-ed25519-cert-v01@openssh.com user certificate") == 1
    valid = certificate.split("Valid: from ")[1].split()
    start, end = (time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
                  for text in (valid[0], valid[2]))
    assert 0 < end - time.time() <= 305 and end - start <= 600
    assert changed.count("\nrefused\n") == 2 and changed.count("ED25519-CERT") == 1
    assert mode.strip() == "600"


def test_known_hosts_hold_what_the_gateway_publishes(place):
    copy, _, _ = snapshot(place)
    told = place.corral("published", "ssh", "--for", "clients").stdout
    assert (copy / "known_hosts").read_text() == told
    host, port = place.gateway.address("ssh")
    assert told.startswith(f"[{host}]:{port} ssh-ed25519 AAAA")
    both = place.gateway.json("published", "ssh")
    assert both["clients"] == told and both["targets"].startswith("ssh-ed25519 AAAA")
    assert place.corral("published", "kubernetes", expect=4).stderr.startswith("corral:")


def test_a_user_of_env_has_a_key_whose_certificate_is_renewed(place):
    lines = place.corral("env", "web-1").stdout
    env = {key: value for key, value in place.env().items() if not key.startswith("CORRAL_")}
    env["PATH"] = os.environ["PATH"]
    # The engine answers; what the target says does not matter here.
    script = lines + "ssh -G web-1 >/dev/null; printf '%s\\n' \"$GIT_SSH_COMMAND\""
    told = subprocess.run(["sh", "-ceu", script], env=env, text=True, capture_output=True,
                          timeout=60, check=True).stdout.strip()
    kept = pathlib.Path(told.split(" -F ")[1]).parent
    assert kept.parent == place.runtime / "corral"
    certificate = kept / "id-cert.pub"
    assert stat.S_IMODE((kept / "id").stat().st_mode) == 0o600
    shown = subprocess.run(["ssh-keygen", "-L", "-f", certificate], text=True,
                           capture_output=True, check=True).stdout
    assert "user certificate" in shown
    first = certificate.read_text()
    words = ("credential", "--protocol", "ssh", "--key", str(kept / "id"))
    place.corral(*words)
    assert certificate.read_text() == first, "it is good for longer"
    certificate.unlink()
    place.corral(*words)
    assert certificate.exists()
    assert_private(kept, place.token)


# -- both ends


def test_a_target_says_what_is_decided_and_what_only_recorded(place):
    admin = place.gateway.client_env()
    for name in ("web-1", "cluster-1"):
        told = place.gateway.run("get", "target", name, env=admin).stdout
        assert "\n# " in told and "only recorded" in told.lower()
    listed = {view["id"] for view in api(place, "protocols")}
    assert {"ssh", "kubernetes", "postgres"} <= listed


def api(place, path):
    import ssl
    import urllib.request
    request = urllib.request.Request(
        f"{place.gateway.ready['api']}/api/v1/{path}",
        headers={"authorization": f"Bearer {place.token}"})
    context = ssl.create_default_context(cafile=place.gateway.ready["ca_file"])
    with urllib.request.urlopen(request, context=context, timeout=20) as response:
        return json.load(response)
