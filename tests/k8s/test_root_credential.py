"""A real cluster's service account tokens as root credentials: what its API server signs, verified
with what its API server publishes."""

import textwrap
import time

import pytest

from harness.token_service import TokenService
from harness.waiting import wait_until
from objects import manifest, pod

SPONSOR = "grace@example.com"
NAMESPACE = "reports"
# How an administrator lets everybody read the keys.
MAY_DISCOVER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: everybody-may-read-the-keys}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole,
          name: "system:service-account-issuer-discovery"}
subjects:
- {kind: Group, name: "system:unauthenticated", apiGroup: rbac.authorization.k8s.io}
"""
WORKLOAD = """
kind: Workload
name: {name}
sponsor: {sponsor}
groups: [agents]
trust:
  - platform: kubernetes
    issuer: {issuer}
    audience: corral
    match: {{kubernetes.io/namespace: {namespace}, kubernetes.io/serviceaccount/name: {account}}}
    {keys}
    ca: |
{ca}
---
"""


class Jobs:
    """Two workloads of one namespace: the keys of `nightly` are discovered, those of `weekly` are
    named."""

    def __init__(self, cluster, gateway):
        self.cluster, self.gateway = cluster, gateway
        self.service = TokenService(gateway)
        ca = textwrap.indent(cluster.ca_file.read_text(), " " * 6)
        text = f"kind: User\nname: {SPONSOR}\n---\n"
        for account, keys in (("nightly", ""),
                              ("weekly", f"jwks_uri: {cluster.server}/openid/v1/jwks")):
            text += WORKLOAD.format(name=f"{account}-in-cluster", sponsor=SPONSOR, ca=ca,
                                    issuer=cluster.server, namespace=NAMESPACE,
                                    account=account, keys=keys)
        gateway.apply(text)
        cluster.kubectl("create", "namespace", NAMESPACE)
        for account in ("nightly", "weekly", "gone"):
            self.create_account(account)

    def create_account(self, name, namespace=NAMESPACE):
        self.cluster.kubectl("-n", namespace, "create", "serviceaccount", name)

    def token(self, account="nightly", *more, audience="corral", namespace=NAMESPACE):
        words = ["-n", namespace, "create", "token", account, "--duration", "10m", *more]
        if audience:
            words += ["--audience", audience]
        return self.cluster.kubectl(*words).stdout.strip()

    def start(self, token):
        status, answer = self.service.exchange(token, "planner")
        return status, answer.get("error"), answer

    def refused(self, token):
        """Why, as the record has it."""
        assert self.start(token)[:2] == (400, "invalid_grant")
        return self.gateway.events("--event", "run.refused")[-1]["reason"]


@pytest.fixture(scope="module")
def jobs(cluster, corral):
    running = Jobs(cluster, corral)
    # Nobody but service accounts may read a cluster's keys unless it is said so.
    token = running.token()
    assert running.start(token)[:2] == (503, "temporarily_unavailable")
    cluster.apply(MAY_DISCOVER)
    # An issuer is asked again after a while; what was refused so is not used up.
    wait_until(lambda: started_after_a_second(running, token), "the keys are read", 60)
    return running


def started_after_a_second(running, token):
    """Seldom enough that each refusal is recorded by itself: more than a hundred are counted."""
    time.sleep(1)
    return running.start(token)[0] == 200


@pytest.mark.parametrize("account", ["nightly", "weekly"])
def test_a_service_account_starts_the_root_run_of_its_workload(jobs, corral, account):
    token = jobs.token(account)
    status, _, answer = jobs.start(token)
    assert status == 200, answer
    [made] = answer["authorization_details"]
    assert (made["principal"], made["sponsor"]) == (f"{account}-in-cluster", SPONSOR)
    shown = corral.json("runs", "show", made["run_id"])
    claims = shown["job"]["claims"]
    assert claims["kubernetes.io/namespace"] == NAMESPACE
    assert claims["kubernetes.io/serviceaccount/name"] == account
    # The cluster itself is reached with it, through the gateway.
    connection = corral.https()
    connection.request("GET", "/k8s/cluster/api/v1/namespaces/default/configmaps?limit=1",
                       headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert connection.getresponse().status == 200
    # One token is one root.
    assert jobs.start(token)[:2] == (400, "access_denied")
    # A token that is bound to no pod is a job of its own.
    assert jobs.start(jobs.token(account))[0] == 200


def test_one_pod_has_one_root_run(jobs, cluster):
    made = pod("planner-0")
    made["spec"]["serviceAccountName"] = "nightly"
    made["spec"]["automountServiceAccountToken"] = False
    cluster.apply(manifest(made), "-n", NAMESPACE)
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", "planner-0")
    first, second = (jobs.token("nightly", *bound) for _ in range(2))
    assert first != second
    status, _, answer = jobs.start(first)
    assert status == 200, answer
    claims = jobs.gateway.json("runs", "show",
                               answer["authorization_details"][0]["run_id"])["job"]["claims"]
    assert claims["kubernetes.io/pod/name"] == "planner-0"
    assert jobs.start(second)[:2] == (400, "access_denied")


def test_a_token_for_somebody_else_is_refused(jobs, cluster):
    for audience in ("vault", "corral-staging", None):
        assert "(aud)" in jobs.refused(jobs.token(audience=audience))
    # Two audiences: the other one could show it here.
    assert "aud" in jobs.refused(jobs.token("nightly", "--audience", "vault"))
    # Another account of the namespace, and an account of that name in another one.
    assert "no workload takes this token" in jobs.refused(jobs.token("gone"))
    cluster.kubectl("create", "namespace", "elsewhere")
    jobs.create_account("nightly", "elsewhere")
    assert "no workload takes this token" in jobs.refused(jobs.token(namespace="elsewhere"))
    # The legs of two tokens.
    one, other = jobs.token().split("."), jobs.token("weekly").split(".")
    assert "signature" in jobs.refused(".".join([one[0], other[1], one[2]]))


def test_the_sponsor_must_be_active_now(jobs, corral):
    token = jobs.token()
    status, _, answer = jobs.start(jobs.token())
    assert status == 200
    corral.run("users", "disable", SPONSOR)
    try:
        assert jobs.start(token)[:2] == (400, "access_denied")
        assert jobs.service.whoami(answer["access_token"])[0] == 401, "what ran has ended"
    finally:
        corral.run("users", "enable", SPONSOR)
    assert jobs.start(token)[0] == 200, "a refused token is not used up"


def test_tokens_of_a_deleted_account_are_good_until_they_end(jobs, corral, cluster):
    # Nobody asks the cluster about each token, so this is what a deleted account leaves behind:
    # ten minutes at least. What ends it at once is at the gateway.
    jobs.create_account("brief")
    corral.apply(WORKLOAD.format(
        name="brief-in-cluster", sponsor=SPONSOR, issuer=cluster.server, namespace=NAMESPACE,
        account="brief", keys="", ca=textwrap.indent(cluster.ca_file.read_text(), " " * 6)))
    first, second = jobs.token("brief"), jobs.token("brief")
    cluster.kubectl("-n", NAMESPACE, "delete", "serviceaccount", "brief")
    assert jobs.start(first)[0] == 200
    corral.run("delete", "Workload", "brief-in-cluster")
    assert "no workload takes this token" in jobs.refused(second)
