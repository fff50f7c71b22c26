"""The differential list's other clients: helm of two generations and the Python client."""

import pathlib

import kubernetes
import kubernetes.dynamic
import kubernetes.stream

from cases import case, start_box
from harness.waiting import wait_until
from objects import SERVE, TALK, config_map, manifest, pod
from sides import STREAM_DEADLINE_S

CHART = pathlib.Path(__file__).resolve().parent / "chart"


# -- helm


def helm_life(side, version):
    def told(*words):
        result = side.helm(*words, version=version)
        # The order in which helm 4 lists what a release made is a map's: each run another.
        outcome = side.told(result)
        outcome["stdout"] = sorted(outcome["stdout"].splitlines())
        return {"command": " ".join(map(str, words[:2]))} | outcome

    return [
        told("install", "kiosk", CHART, "--wait", "--timeout", "40s"),
        told("install", "kiosk", CHART),
        told("list"), told("status", "kiosk"), told("get", "values", "kiosk", "--all"),
        told("upgrade", "kiosk", CHART, "--set", "colour=red"),
        told("upgrade", "kiosk", CHART, "--set", "colour=[broken"),
        told("get", "manifest", "kiosk"), told("history", "kiosk"),
        told("rollback", "kiosk", "1"),
        told("upgrade", "--install", "other", CHART, "--dry-run=server"),
        side.told(side.kubectl("get", "configmap", "kiosk", "-o", "jsonpath={.data}")),
        told("uninstall", "kiosk"), told("uninstall", "kiosk"), told("status", "kiosk"),
    ]


@case
def helm_4(side):
    return helm_life(side, "helm-4")


@case
def helm_3(side):
    return helm_life(side, "helm-3")


# -- the Python client


def python_client(side):
    return kubernetes.config.new_client_from_config(str(side.kubeconfig))


def refused(side, call):
    """What the library says when the server refuses."""
    try:
        return str(call())
    except kubernetes.client.ApiException as error:
        return [error.status, error.reason, side.normal(error.body)]


@case
def python_reads_and_writes(side):
    core = kubernetes.client.CoreV1Api(python_client(side))
    made = core.create_namespaced_config_map(side.namespace, config_map())
    patched = core.patch_namespaced_config_map("settings", side.namespace,
                                               {"data": {"colour": "red"}})
    listed = core.list_namespaced_config_map(side.namespace, label_selector="app=settings")
    names = sorted(item.metadata.name for item in listed.items)
    core.delete_namespaced_config_map("settings", side.namespace)
    return [made.data, patched.data, names,
            refused(side, lambda: core.read_namespaced_config_map("settings", side.namespace)),
            refused(side, lambda: core.create_namespaced_config_map(side.namespace, {"kind": "Service"}))]


@case
def python_pages_through_lists(side):
    core = kubernetes.client.CoreV1Api(python_client(side))
    side.cluster.apply(manifest(*(config_map(f"c{n}") for n in range(7))), "-n", side.namespace)
    names, token, pages = [], None, 0
    while token != "":
        page = core.list_namespaced_config_map(side.namespace, limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        token, pages = page.metadata._continue or "", pages + 1
    return [names, pages]


@case
def python_watches(side):
    core = kubernetes.client.CoreV1Api(python_client(side))
    watch, seen = kubernetes.watch.Watch(), []
    side.cluster.apply(manifest(config_map()), "-n", side.namespace)
    for event in watch.stream(core.list_namespaced_config_map, side.namespace,
                              label_selector="app=settings", timeout_seconds=STREAM_DEADLINE_S):
        colour = event["object"].data["colour"]
        seen.append([event["type"], colour])
        if colour == "blue" and event["type"] != "DELETED":
            side.cluster.kubectl("patch", "configmap", "settings", "-n", side.namespace, "-p",
                                 '{"data":{"colour":"red"}}')
        elif event["type"] == "DELETED":
            watch.stop()
        else:
            side.cluster.kubectl("delete", "configmap", "settings", "-n", side.namespace)
    return seen


@case
def python_watch_ends_in_time(side):
    core = kubernetes.client.CoreV1Api(python_client(side))
    watch = kubernetes.watch.Watch()
    return [event["type"] for event in watch.stream(
        core.list_namespaced_config_map, side.namespace, timeout_seconds=1)]


@case
def python_execs(side):
    start_box(side)
    core = kubernetes.client.CoreV1Api(python_client(side))
    whole = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec, "box", side.namespace, stdin=False, stdout=True,
        stderr=True, tty=False, command=["sh", "-c", "echo out; echo err >&2"])
    # Two streams: which of the two lines comes first is not defined.
    transcript = [sorted(whole.split())]
    talk = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec, "box", side.namespace, stdin=True, stdout=True,
        stderr=True, tty=False, command=["sh", "-c", "read a; echo got $a; read a; exit 6"],
        _preload_content=False)
    talk.write_stdin("word\n")
    transcript.append(talk.readline_stdout(timeout=STREAM_DEADLINE_S))
    talk.write_stdin("enough\n")
    talk.run_forever(timeout=STREAM_DEADLINE_S)
    transcript.append(talk.returncode)
    talk.close()
    return transcript


@case
def python_reads_logs(side):
    start_box(side, pod("talker", TALK), selector="app=talker")
    core = kubernetes.client.CoreV1Api(python_client(side))
    wait_until(lambda: "line 3" in core.read_namespaced_pod_log("talker", side.namespace),
               "three lines are logged", STREAM_DEADLINE_S)
    stream = core.read_namespaced_pod_log("talker", side.namespace, follow=True,
                                          _preload_content=False)
    seen = b""
    while seen.count(b"\n") < 5:
        seen += stream.read(16)
    stream.release_conn()
    return seen.decode().splitlines()[:5]


@case
def python_forwards_ports(side):
    start_box(side, pod("web", SERVE), selector="app=web")
    core = kubernetes.client.CoreV1Api(python_client(side))
    forward = kubernetes.stream.portforward(
        core.connect_get_namespaced_pod_portforward, "web", side.namespace, ports="8080")
    try:
        tunnel = forward.socket(8080)
        tunnel.settimeout(STREAM_DEADLINE_S)
        tunnel.sendall(b"POST /cgi-bin/echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
        received = b""
        while piece := tunnel.recv(4096):
            received += piece
        return [received, forward.error(8080)]
    finally:
        forward.close()


@case
def python_dynamic_client(side):
    client = kubernetes.dynamic.DynamicClient(python_client(side))
    maps = client.resources.get(api_version="v1", kind="ConfigMap")
    made = maps.server_side_apply(body=config_map(), namespace=side.namespace,
                                  field_manager="python")
    return [made.data.to_dict(), [group for group in client.resources.api_groups
                                  if "." not in group]]
