"""Clients that get in by the exec credential plugin of the kubeconfigs that Corral writes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from harness import cluster_parts as parts
from objects import config_map, manifest

CHART = pathlib.Path(__file__).resolve().parent / "chart"
DEADLINE_S = 100
# client-go has client.authentication.k8s.io/v1 since 1.22; its 1.20 is told so by itself.
WITHOUT_V1 = ("kubectl-1.20",)

READ_MAPS = """
import sys, kubernetes
kubernetes.config.load_kube_config()
maps = kubernetes.client.CoreV1Api().list_namespaced_config_map(sys.argv[1])
print(sorted(item.metadata.name for item in maps.items))
"""


class Desk:
    """Ada's own shell: her login, a home, and a namespace of hers in the cluster."""

    def __init__(self, cluster, corral, folder):
        self.corral = corral
        self.namespace = cluster.namespace("plugin")
        cluster.apply(manifest(config_map("here")), "-n", self.namespace)
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700)
        env = corral.client_env(corral.ada) | {"XDG_RUNTIME_DIR": str(runtime),
                                               "HOME": str(folder)}
        self.env = {key: value for key, value in env.items()
                    if not key.startswith(("KUBE", "HELM_"))}

    def run(self, *words, expect=0):
        """A command below `corral run`."""
        return self.start([str(self.corral.program), "run", "--name", "plugin", "--target",
                           "cluster", "--", *map(str, words)], self.env, expect)

    def with_env(self, *words, expect=0):
        """A command with what `corral env` prints."""
        told = self.corral.run("env", "cluster", "-o", "json", env=self.env).stdout
        return self.start([str(word) for word in words], self.env | json.loads(told), expect)

    def start(self, words, env, expect):
        result = subprocess.run(words, env=env, text=True, capture_output=True, cwd=env["HOME"],
                                stdin=subprocess.DEVNULL, timeout=DEADLINE_S)
        assert expect is None or result.returncode == expect, result
        return result

    def decided(self):
        """Who was served here, by path of their runs; "" is a login."""
        events = self.corral.events("--event", "statement.decided", "--text", self.namespace)
        return {event.get("run_path", "") for event in events}


@pytest.fixture
def desk(cluster, corral, tmp_path):
    return Desk(cluster, corral, tmp_path)


WAYS = {"run": Desk.run, "env": Desk.with_env}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", parts.HELMS)
@pytest.mark.deadline(180)
def test_helm_gets_in_by_the_plugin(desk, version, way):
    def helm(*words, **options):
        return WAYS[way](desk, parts.program(version), "-n", desk.namespace, *words, **options)
    assert "kiosk" not in helm("list").stdout
    helm("install", "kiosk", CHART)
    assert "kiosk" in helm("list", "-q").stdout
    helm("uninstall", "kiosk")
    assert helm("list", "-q").stdout == ""
    assert desk.decided()


@pytest.mark.parametrize("way", WAYS)
def test_the_python_client_gets_in_by_the_plugin(desk, way):
    told = WAYS[way](desk, sys.executable, "-c", READ_MAPS, desk.namespace).stdout
    assert "'here'" in told
    [path] = desk.decided()
    assert path.startswith("plugin/python") if way == "run" else path == "", path


@pytest.mark.parametrize("version", parts.KUBECTLS)
def test_kubectl_gets_in_by_the_plugin_from_1_22_on(desk, version):
    words = [parts.program(version), "-n", desk.namespace, "get", "configmap", "here", "-o", "name"]
    if version in WITHOUT_V1:
        assert "client.authentication.k8s.io/v1" in desk.run(*words, expect=None).stderr
        assert not desk.decided()
    else:
        assert desk.run(*words).stdout == "configmap/here\n"
        assert os.path.basename(str(parts.program(version))) in str(desk.decided())
