#!/usr/bin/env python3
"""The founding story with a third kind of target: a real Kubernetes cluster of its own.

Beside the database and the host of demo.py, executors work at a cluster with plain kubectl. The
same offboarding ends them, and the same replay tells what they did.
"""

import base64
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
sys.path.insert(0, str(HERE.parent / "tests" / "k8s"))

from demo import Demo, check, heading, main, show, tell  # noqa: E402
from harness import cluster_parts as parts  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.waiting import wait_until  # noqa: E402
from people import Person  # noqa: E402
from objects import TALK, deployment, manifest, secret  # noqa: E402

DOOR = "open-sesame-4711"


class KubernetesDemo(Demo):
    def __init__(self):
        super().__init__()
        self.cluster = None
        self.targets.append("shop-cluster")
        self.followers += 1

    def set_up(self):
        self.cluster = Cluster()
        self.cluster.apply(manifest(deployment(command=TALK), secret(password=DOOR)))
        self.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        super().set_up()
        (self.out / "cluster.token").write_text(self.cluster.tokens["admin"])
        places = {"@ADDRESS@": self.cluster.address, "@CA_FILE@": self.cluster.ca_file}
        for name in ("cluster.yaml", "cluster.cedar"):
            self.fill_in(name, places)
        self.corral("apply", "-f", self.out / "cluster.yaml")
        tell(f"  And a Kubernetes cluster on {self.cluster.address}: etcd, kube-apiserver, "
             f"controllers {parts.version()}.")

    def job_env(self, job):
        env = super().job_env(job)
        env["PATH"] = f"{parts.folder()}:{env['PATH']}"
        return env

    def step_6_host(self):
        super().step_6_host()
        heading("6b", "A third works on the cluster, with plain kubectl")
        self.plan("deployer", "cluster", "shop-cluster")
        output, _ = self.finish("deployer", 60)
        show(output)
        check("web" in output and "1/1" in output, "it sees the deployments")
        encoded = base64.b64encode(DOOR.encode()).decode()
        check(DOOR not in output and encoded not in output, "the secret's value arrives masked")
        check("corral: no-shells: Nobody works inside of containers." in output,
              "a command in a container is denied, with the reason")
        check("root:" not in output and output.count("exit 1") == 2
              and self.cluster.raw("/api/v1/namespaces/default"),
              "and so is the end of the namespace")
        self.plan("scaler", "scale", "shop-cluster")
        waiting = wait_until(
            lambda: [a for a in self.gateway.json("approvals", "list")
                     if a["state"] == "pending"], "the change waits for approval", 20)
        check(self.replicas() == 1 and not self.is_done("scaler"),
              "scaling is held: kubectl waits, the deployment is as it was")
        grace = Person("grace", self.provider, self.gateway).sign_in()
        self.corral("approvals", "approve", waiting[0]["id"], "--reason", "the sale starts today",
                    token=grace)
        output, code = self.finish("scaler")
        show(output)
        check(code == 0 and self.replicas() == 2, "grace approves, and kubectl goes on")
        self.plan("log-reader", "logs", "shop-cluster")
        wait_until(lambda: "line 1" in self.output("log-reader"), "the logs are followed", 20)
        wait_until(lambda: len(self.sessions()) == 3 + self.followers,
                   "short sessions have ended", 20)

    def replicas(self):
        return json.loads(self.cluster.raw("/apis/apps/v1/namespaces/default/deployments/web"))[
            "spec"]["replicas"]

    def step_8_offboarding(self):
        super().step_8_offboarding()
        self.finish("log-reader")
        check(True, "kubectl logs -f has ended, too")

    def step_9_account(self):
        super().step_9_account()
        replay = self.gateway.run("replay", self.root).stdout
        check("exec default/web" in replay and "DELETE /api/v1/namespaces/default" in replay
              and "deployments/web/scale" in replay,
              "what was done and tried at the cluster stands in the same replay")
        check(DOOR not in replay, "and no secret of the cluster")
        ours = {event["decision"] for event in self.gateway.events("--event", "statement.decided")
                if event.get("decision")}
        check(any(event["auditID"] in ours for event in self.cluster.audit()),
              "the cluster's own audit knows each request by Corral's decision")

    def keep(self):
        super().keep()
        pids = " ".join(str(process.pid) for process in self.cluster.processes.values())
        print(f"        kill {pids}; rm -r {self.cluster.folder}")

    def tear_down(self):
        super().tear_down()
        if self.cluster:
            self.cluster.close()


if __name__ == "__main__":
    sys.exit(main(KubernetesDemo))
