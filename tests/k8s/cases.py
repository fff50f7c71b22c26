"""The differential list: what stock clients do, as functions of a side.

Each gives a transcript that must be the same on both sides. A case works in a namespace of its
own and may create what it likes there.
"""

import hashlib
import json
import os
import subprocess

from harness.waiting import wait_until
from objects import (SLEEP, TALK, config_map, custom_definition, deployment, manifest, pod, secret,
                     service)
from sides import STREAM_DEADLINE_S, Terminal, Tunnel, end, exchange, read_lines

CASES = {}
MEGABYTE = 1 << 20


def case(function):
    CASES[function.__name__] = function
    return function


def steps(side, *commands, version="kubectl"):
    """kubectl commands one after another; each is a list of words, or (words, stdin)."""
    transcript = []
    for command in commands:
        words, stdin = command if isinstance(command, tuple) else (command, "")
        words = words.split() if isinstance(words, str) else words
        told = side.told(side.kubectl(*words, stdin=stdin, version=version))
        transcript.append({"command": side.normal(" ".join(words))} | told)
    return transcript


def start_box(side, *objects, selector="app=box"):
    objects = objects or (pod(),)
    side.cluster.apply(manifest(*objects), "-n", side.namespace)
    side.wait_for_pods(selector)


# -- reading


@case
def get_in_every_output(side):
    side.cluster.apply(manifest(config_map(), service()), "-n", side.namespace)
    outputs = ("", "-o wide", "-o json", "-o yaml", "-o name", "--show-labels",
               "-o jsonpath={.items[*].metadata.name}", "-o custom-columns=N:.metadata.name",
               "-o go-template={{len(.items)}}".replace("len(.items)", "len .items"))
    return steps(side, *(["get", "configmaps,services", *output.split(" ", 1)] if output
                         else ["get", "configmaps,services"] for output in outputs))


@case
def get_one_and_none(side):
    side.cluster.apply(manifest(config_map()), "-n", side.namespace)
    return steps(side, "get configmap settings", "get configmap absent", "get nothings",
                 "get configmap/settings service/absent --ignore-not-found",
                 "get pods", "get pods -l app=web", "get pods --field-selector status.phase=Running",
                 "get configmaps --field-selector metadata.name=settings",
                 "get configmaps --chunk-size=1", "get --raw /version", "get --raw /absent")


@case
def get_of_cluster_scope(side):
    return steps(side, "get nodes", "get node fake-1 -o yaml", "get namespaces -l absent=1",
                 "get clusterrole view -o yaml", "get apiservices", "get storageclasses",
                 "get priorityclasses -o wide")


@case
def describe(side):
    side.cluster.apply(manifest(config_map(), service(), secret()), "-n", side.namespace)
    return steps(side, "describe configmap settings", "describe service web",
                 "describe namespace " + side.namespace, "describe configmap absent",
                 "describe clusterrole view")


@case
def secrets_in_every_output(side):
    side.cluster.apply(manifest(secret()), "-n", side.namespace)
    return steps(side, "get secrets", "get secret door -o yaml", "get secrets -o json",
                 "describe secret door", ["get", "secret", "door", "-o", "jsonpath={.data.password}"],
                 "get secret door -o wide")


@case
def discovery(side):
    return steps(side, "api-resources", "api-resources -o wide --api-group apps", "api-versions",
                 "version", "cluster-info", "explain deployment.spec.strategy",
                 "explain pods --recursive", "explain nothing", "get --raw /openapi/v3")


@case
def watch_sees_changes(side):
    side.cluster.apply(manifest(config_map()), "-n", side.namespace)
    watcher = side.start("get", "configmap", "settings", "--watch", "-o",
                         "jsonpath={.data.colour}{'\\n'}")
    try:
        seen = read_lines(watcher, 1)
        for colour in ("red", "green"):
            patch = json.dumps({"data": {"colour": colour}})
            side.cluster.kubectl("patch", "configmap", "settings", "-n", side.namespace, "-p",
                                 patch)
            seen += read_lines(watcher, 1)
        return seen
    finally:
        end(watcher)


@case
def watch_with_events(side):
    watcher = side.start("get", "configmaps", "--watch", "--output-watch-events", "-o", "name",
                         "--field-selector", "metadata.name=settings")
    try:
        side.cluster.apply(manifest(config_map()), "-n", side.namespace)
        seen = read_lines(watcher, 1)
        side.cluster.kubectl("delete", "configmap", "settings", "-n", side.namespace)
        return seen + read_lines(watcher, 1)
    finally:
        end(watcher)


@case
def wait_for_a_condition(side):
    waiter = side.start("wait", "--for=jsonpath={.data.colour}=red", "configmap/settings",
                        "--timeout=20s")
    side.cluster.apply(manifest(config_map()), "-n", side.namespace)
    wait_again = side.start("wait", "--for=jsonpath={.data.colour}=red", "configmap/settings",
                            "--timeout=20s")
    patch = json.dumps({"data": {"colour": "red"}})
    side.cluster.kubectl("patch", "configmap", "settings", "-n", side.namespace, "-p", patch)
    out, errors = wait_again.communicate(timeout=STREAM_DEADLINE_S)
    end(waiter)  # It came too early: whether it still saw the object is a matter of timing.
    return [side.normal(out), side.normal(errors), wait_again.returncode,
            *steps(side, "wait --for=condition=Ready pod/absent --timeout=1s")]


# -- writing


@case
def apply_and_delete(side):
    blue, red = manifest(config_map()), manifest(config_map(colour="red"))
    return steps(side, ("apply -f -", blue), ("apply -f -", blue), ("diff -f -", red),
                 ("apply -f - --dry-run=server -o yaml", red), ("apply -f -", red),
                 "get configmap settings -o yaml", "apply view-last-applied configmap settings",
                 "delete configmap settings", "delete configmap settings",
                 ("apply -f -", '{"apiVersion":"v1","kind":"ConfigMap"}'),
                 ("apply -f -", "kind: ["))


@case
def server_side_apply(side):
    blue, red = manifest(config_map()), manifest(config_map(colour="red"))
    return steps(side, ("apply --server-side --field-manager=one -f -", blue),
                 ("apply --server-side --field-manager=two -f -", red),
                 ("apply --server-side --field-manager=two --force-conflicts -f -", red),
                 ("apply --server-side --field-manager=one --dry-run=server -f -", blue),
                 "get configmap settings -o yaml --show-managed-fields")


@case
def create_in_every_form(side):
    return steps(side, "create configmap one --from-literal=a=1 -o yaml",
                 "create secret generic two --from-literal=b=2", "create serviceaccount three",
                 "create role four --verb=get --resource=pods",
                 "create rolebinding five --role=four --serviceaccount=default:three",
                 "create deployment six --image=shop/six:1 --replicas=0",
                 "create job seven --image=shop/seven:1", "create quota eight --hard=pods=5",
                 "create configmap one --from-literal=a=1",
                 "create poddisruptionbudget nine --selector=app=x --min-available=1",
                 ("create -f - --validate=strict",
                  manifest(deployment(replicas=0) | {"spoc": {}})))


@case
def patch_in_every_form(side):
    side.cluster.apply(manifest(config_map(), deployment(replicas=0)), "-n", side.namespace)
    container = {"spec": {"template": {"spec": {"containers": [{"name": "main",
                                                                "image": "shop/main:2"}]}}}}
    return steps(
        side, ["patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"colour":"red"}}'],
        ["patch", "configmap", "settings", "--type=json", "-p",
         '[{"op":"replace","path":"/data/colour","value":"green"}]'],
        ["patch", "deployment", "web", "-p", json.dumps(container)],
        ["patch", "configmap", "settings", "--type=json", "-p",
         '[{"op":"remove","path":"/data/absent"}]'],
        ["patch", "deployment", "web", "--subresource=scale", "--type=merge", "-p",
         '{"spec":{"replicas":1}}'],
        "get configmap settings -o yaml", "get deployment web -o jsonpath={.spec}")


@case
def broken_patch(side):
    side.cluster.apply(manifest(config_map()), "-n", side.namespace)
    return steps(side, ["patch", "configmap", "settings", "-p", "{broken"])


@case
def label_annotate_replace_edit(side):
    side.cluster.apply(manifest(config_map()), "-n", side.namespace)
    changed = side.kubectl("get", "configmap", "settings", "-o", "json").stdout
    edited = {"KUBE_EDITOR": "sed -i s/blue/yellow/"}
    first = steps(side, "label configmap settings tier=gold", "label configmap settings tier=silver",
                  "annotate configmap settings note=hello", "label configmap settings tier-")
    second = steps(side, ("replace -f -", changed.replace("blue", "violet")))
    third = side.kubectl("edit", "configmap", "settings", env=edited)
    return first + second + [side.told(third)]


@case
def delete_by_selector_and_all(side):
    side.cluster.apply(manifest(config_map("one"), config_map("two"), config_map("three")), "-n",
                       side.namespace)
    return steps(side, "delete configmaps -l app=one", "delete configmap two --dry-run=server",
                 "delete configmaps --all", "delete configmaps --all",
                 "delete serviceaccount default --wait=false")


@case
def custom_resources(side):
    group = f"{side.namespace}.example.com"
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "one"},
             "spec": {"size": 3}}
    wrong = thing | {"spec": {"size": "large"}}
    made = steps(side, ("apply -f -", manifest(custom_definition(group))),
                 f"wait --for=condition=Established crd/things.{group}")
    wait_until(lambda: side.cluster.kubectl("get", f"things.{group}", "-n", side.namespace,
                                            expect=None).returncode == 0,
               "the new kind is served", STREAM_DEADLINE_S)
    return made + steps(side, ("apply -f -", json.dumps(thing)), ("apply -f -", json.dumps(wrong)),
                        f"get things.{group}", f"get things.{group} one -o yaml",
                        f"delete things.{group} one", f"delete crd things.{group}")


# -- workloads


def has_settled(side):
    side.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=30s", "-n",
                         side.namespace)


@case
def rollout(side):
    side.cluster.apply(manifest(deployment()), "-n", side.namespace)
    has_settled(side)
    first = steps(side, "rollout status deployment/web --timeout=30s", "scale deployment/web --replicas=2",
                  "scale deployment/web --replicas=3 --current-replicas=7")
    side.wait_for_pods("app=web", 2)
    second = steps(side, "set image deployment/web main=shop/main:2")
    has_settled(side)
    second += steps(side, "set env deployment/web COLOUR=blue")
    has_settled(side)
    second += steps(side, "rollout history deployment/web", "rollout undo deployment/web")
    has_settled(side)
    second += steps(side, "rollout pause deployment/web",
                    "rollout resume deployment/web", "rollout restart deployment/web",
                    "autoscale deployment/web --min=1 --max=2 --cpu=50%",
                    "expose deployment/web --port=80 --name=front", "get service front -o yaml",
                    "delete deployment/web --cascade=foreground")
    return first + second


@case
def jobs_end(side):
    done, broken = pod("done", ["sh", "-c", "echo all; exit 0"], "Never"), \
        pod("broken", ["sh", "-c", "exit 3"], "Never")
    return steps(side, ("apply -f -", manifest(done, broken)),
                 "wait --for=jsonpath={.status.phase}=Succeeded pod/done --timeout=30s",
                 "wait --for=jsonpath={.status.phase}=Failed pod/broken --timeout=30s",
                 "logs done", ["get", "pod", "broken", "-o",
                               "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"],
                 "exec done -- true", "get pods")


@case
def nodes_and_evictions(side):
    start_box(side)
    body = {"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": "box", "namespace": side.namespace}}
    path = f"/api/v1/namespaces/{side.namespace}/pods/box/eviction"
    return steps(side, "cordon fake-1", "uncordon fake-1", "top pods", "top nodes",
                 (f"create --raw {path} -f -", json.dumps(body)))


# -- streams


@case
def exec_exit_codes_and_outputs(side):
    start_box(side)
    return steps(side, "exec box -- echo hello", ["exec", "box", "--", "sh", "-c", "exit 7"],
                 ["exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 3"],
                 "exec box -- absent-program", "exec absent -- true", "exec box -c absent -- true",
                 "exec deployment/absent -- true", ["exec", "box", "--", "printf", r"\0\377\r\n"],
                 ["exec", "box", "--", "echo", "a  b", "*", "$HOME", "ä"])


@case
def exec_with_stdin(side):
    start_box(side)
    return steps(side, ("exec -i box -- cat", "first\nsecond\n"), ("exec -i box -- wc -c", ""),
                 ("exec -i box -- md5sum", "x" * MEGABYTE),
                 (["exec", "-i", "box", "--", "sh", "-c", "read a; echo got $a; exit 4"], "word\n"))


@case
def exec_of_much_output(side):
    start_box(side)
    result = side.kubectl("exec", "box", "--", "sh", "-c",
                          "yes 0123456789abcdef | head -c 8388608; exit 9")
    return {"code": result.returncode, "bytes": len(result.stdout), "stderr": result.stderr,
            "digest": hashlib.sha256(result.stdout.encode()).hexdigest()}


@case
def exec_on_a_terminal(side):
    start_box(side)
    terminal = Terminal(side, "exec", "-it", "box", "--", "sh")
    terminal.read_until("# ")
    terminal.type("stty size\n")
    terminal.read_until("33 111")
    terminal.read_until("# ")
    terminal.resize(44, 99)
    terminal.type("sleep 0.5; stty size\n")
    terminal.read_until("44 99")
    terminal.read_until("# ")
    # What is typed before the shell has given the terminal back is the shell's.
    terminal.type("echo re''ady; cat\n")
    terminal.read_until("ready\r\n")
    terminal.type("typed\n")
    terminal.read_until("typed\r\ntyped")
    terminal.type("\x03")
    terminal.read_until("# ")
    terminal.type("exit 5\n")
    output, code = terminal.finish()
    # How output is cut into pieces may move a prompt: what matters are the answers and the code.
    return {"code": code, "sizes": [size in output for size in ("33 111", "44 99")],
            "ends": output.rstrip().splitlines()[-1]}


@case
def attach_and_run(side):
    start_box(side, pod("talker", TALK), selector="app=talker")
    attached = side.start("attach", "talker")
    try:
        lines = read_lines(attached, 3).splitlines()[:3]
    finally:
        end(attached)
    run = side.kubectl("run", "once", "--image=x", "--restart=Never", "--attach", "--rm",
                       "--quiet", "--command", "--", "sh", "-c", "sleep 1; echo done; exit 0")
    return [lines, side.normal(run.stdout), run.returncode]


@case
def attach_with_stdin(side):
    start_box(side, pod("reader", ["sh", "-c", "read a; echo heard $a; sleep 10000"], stdin=True),
              selector="app=reader")
    attached = side.start("attach", "-i", "reader", stdin=subprocess.PIPE)
    try:
        attached.stdin.write(b"me\n")
        attached.stdin.flush()
        return read_lines(attached, 1)
    finally:
        end(attached)


@case
def logs(side):
    start_box(side, pod("box", ["sh", "-c", "for n in 1 2 3 4 5; do echo line $n; done; sleep 9999"]))
    wait_until(lambda: "line 5" in side.cluster.kubectl("logs", "-n", side.namespace, "box").stdout,
               "the log is written", STREAM_DEADLINE_S)
    return steps(side, "logs box", "logs box --tail=2", "logs -l app=box --prefix", "logs absent",
                 "logs box -c absent", "logs box --limit-bytes=8", "logs pod/box --all-containers")


@case
def logs_follow(side):
    start_box(side, pod("talker", TALK), selector="app=talker")
    follower = side.start("logs", "-f", "talker")
    try:
        first = read_lines(follower, 4).splitlines()[:4]
        side.cluster.kubectl("delete", "pod", "talker", "-n", side.namespace, "--now")
        follower.communicate(timeout=STREAM_DEADLINE_S)
        return [first, follower.returncode]
    finally:
        end(follower)


@case
def copy_both_ways(side):
    start_box(side)
    sent, back = side.folder / "sent", side.folder / "back"
    sent.write_bytes(os.urandom(3 * MEGABYTE))
    to = side.kubectl("cp", sent, f"{side.namespace}/box:/tmp/file")
    there = side.cluster.kubectl("exec", "-n", side.namespace, "box", "--", "sha256sum",
                                 "/tmp/file").stdout.split()[0]
    fro = side.kubectl("cp", f"{side.namespace}/box:/tmp/file", back)
    # Of an absent file kubectl ends before or after it heard the error: 0 or 1, directly too.
    side.kubectl("cp", f"{side.namespace}/box:/tmp/absent", side.folder / "absent")
    has_made_one = (side.folder / "absent").exists()
    digest = hashlib.sha256(sent.read_bytes()).hexdigest()
    return [side.told(to), digest == there, side.told(fro), sent.read_bytes() == back.read_bytes(),
            has_made_one]


@case
def port_forward(side):
    start_box(side, deployment(), service(), selector="app=web")
    data = os.urandom(MEGABYTE)
    transcript = []
    for what, port in (("deployment/web", 8080), ("service/web", 80)):
        with Tunnel(side, what, port) as address:
            transcript += [exchange(address, b"hello"), exchange(address, data) == data]
    closed = Tunnel(side, "deployment/web", 9)
    with closed as address:
        try:
            transcript.append(exchange(address, b"x"))
        except OSError as error:
            transcript.append(type(error).__name__)
    return transcript


# -- rights and identity


@case
def who_may_what(side):
    return steps(side, "auth whoami -o yaml", "auth can-i create pods", "auth can-i --list",
                 "auth can-i get nothings", "auth can-i * * --all-namespaces")


@case
def impersonation_flags(side):
    return steps(side, "get configmaps --as alice", "auth can-i get pods --as alice",
                 "auth whoami --as alice --as-group devs",
                 "get configmaps --as admin --as-group system:masters")


@case
def service_account_tokens(side):
    return steps(side, "create token default", "create token default --duration=10m",
                 "create token absent")


@case
def rights_are_granted(side):
    return steps(side, "create role reader --verb=get --verb=list --resource=pods",
                 "create rolebinding readers --role=reader --user=alice",
                 f"get rolebinding readers -o yaml",
                 ("auth reconcile -f -", manifest({
                     "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                     "metadata": {"name": "reader"},
                     "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["watch"]}]})))


@case
def debug_containers(side):
    start_box(side)
    return steps(side, "debug box --image=shop/debug:1 --container=look --attach=false",
                 ["get", "pod", "box", "-o", "jsonpath={.spec.ephemeralContainers[*].name}"],
                 "debug node/fake-1 --image=shop/debug:1 --attach=false")
