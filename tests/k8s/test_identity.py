"""Who the cluster takes the gateway for, and whom its own audit names."""

import datetime
import json

import pytest

from harness.waiting import wait_until
from objects import config_map

RIGHTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %(name)s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects:
- {kind: %(kind)s, name: "%(subject)s", apiGroup: rbac.authorization.k8s.io}
"""
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def as_ada(cluster, corral):
    """The gateway's account may only impersonate; Ada's group may view."""
    cluster.apply(RIGHTS % {"name": "devs-view", "kind": "Group", "subject": "devs"})
    corral.add_target("as-principal", user="gateway", options="{impersonate: principal}")
    return corral.side("as-principal", "as-principal")


def audited(cluster, corral, side, uri):
    """The cluster's own event of this side's latest request for `uri`, with ours."""
    def both():
        ours = [event for event in corral.events("--run", side.run["run_id"])
                if event["event"] == "statement.decided" and event["statement"] == f"GET {uri}"]
        if not ours:
            return None
        theirs = [event for event in cluster.audit() if event["auditID"] == ours[-1]["decision"]]
        return theirs and (theirs[0], ours[-1])
    return wait_until(both, f"both audits have {uri}", 10)


def test_the_clusters_audit_names_the_principal_and_the_run(cluster, corral, as_ada):
    status, _, _ = as_ada.request("GET", f"{MAPS}?limit=7")
    assert status == 200
    theirs, ours = audited(cluster, corral, as_ada, f"{MAPS}?limit=7")
    assert theirs["user"]["username"] == "gateway"
    user = theirs["impersonatedUser"]
    assert user["username"] == "ada@example.com"
    assert {"agents", "devs"} <= set(user["groups"])
    extra = user["extra"]
    assert extra["corral-run"] == [as_ada.run["run_id"]]
    assert extra["corral-session"] == [ours["session"]]
    assert extra["corral-principal"] == ["user:ada@example.com"]
    assert "ada@example.com" in extra["corral-sponsor"][0]


def test_the_clusters_rights_are_the_floor(as_ada):
    status, _, body = as_ada.request("POST", MAPS, json.dumps(config_map("mine")).encode(),
                                     Content_Type="application/json")
    answer = json.loads(body)
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert "ada@example.com" in answer["message"] and "corral:" not in answer["message"]


@pytest.mark.parametrize("headers", [
    {"Impersonate_User": "admin", "Impersonate_Group": "system:masters"},
    {"impersonate_uid": "1"},
    {"IMPERSONATE_EXTRA_Corral_Run": "another"},
    {"X_Remote_User": "admin", "X_Remote_Group": "system:masters"},
])
def test_a_clients_own_claims_are_not_passed_on(cluster, corral, as_ada, headers):
    uri = f"{MAPS}?labelSelector=n={len(str(headers))}"
    status, _, _ = as_ada.request("GET", uri, **headers)
    assert status == 200
    theirs, ours = audited(cluster, corral, as_ada, uri)
    assert theirs["impersonatedUser"]["username"] == "ada@example.com"
    assert "system:masters" not in theirs["impersonatedUser"]["groups"]
    assert theirs["impersonatedUser"]["extra"]["corral-run"] == [as_ada.run["run_id"]]
    asks = any(name.lower().startswith("impersonate") for name in headers)
    assert ours["attributes"]["asks_impersonation"] == asks


def test_one_user_for_all_still_names_the_run(cluster, corral):
    cluster.apply(RIGHTS % {"name": "robots-view", "kind": "User", "subject": "robots"})
    corral.add_target("as-robots", user="gateway", options="{impersonate: {user: robots}}")
    side = corral.side("as-robots", "as-robots")
    status, _, _ = side.request("GET", f"{MAPS}?limit=8")
    assert status == 200
    theirs, _ = audited(cluster, corral, side, f"{MAPS}?limit=8")
    assert theirs["impersonatedUser"]["username"] == "robots"
    assert theirs["impersonatedUser"]["extra"]["corral-run"] == [side.run["run_id"]]
    assert theirs["impersonatedUser"]["extra"]["corral-principal"] == ["user:ada@example.com"]


def test_without_impersonation_the_account_is_the_gateways(cluster, corral):
    side = corral.side("plain", "cluster")
    assert side.request("GET", f"{MAPS}?limit=9")[0] == 200
    theirs, _ = audited(cluster, corral, side, f"{MAPS}?limit=9")
    assert theirs["user"]["username"] == "admin" and "impersonatedUser" not in theirs


def test_a_client_certificate_is_shown_to_the_cluster(cluster, corral):
    certificate, key = cluster.client_certificate("robot", "system:masters")
    corral.add_target("by-certificate", credential=(
        f"{{client_certificate: {certificate},"
        f" client_key: {{file: {key}}}}}"))
    side = corral.side("by-certificate", "by-certificate")
    who = side.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", expect=0)
    assert who.stdout == "robot"


def test_a_service_accounts_token_is_shown_to_the_cluster(cluster, corral):
    cluster.kubectl("create", "clusterrolebinding", "accounts-view", "--clusterrole=view",
                    "--serviceaccount=default:default")
    token_file = corral.folder / "account.token"
    token_file.write_text(cluster.kubectl("create", "token", "default").stdout)
    corral.add_target("by-account", credential=f"{{token: {{file: {token_file}}}}}")
    side = corral.side("by-account", "by-account")
    who = side.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", expect=0)
    assert who.stdout == "system:serviceaccount:default:default"


def test_a_service_accounts_token_is_renewed(cluster, corral):
    cluster.kubectl("create", "serviceaccount", "gateway")
    cluster.kubectl("create", "role", "gateway-token", "--verb=create",
                    "--resource=serviceaccounts/token", "--resource-name=gateway")
    cluster.kubectl("create", "clusterrolebinding", "gateway-view", "--clusterrole=view",
                    "--serviceaccount=default:gateway")
    token_file = corral.folder / "gateway.token"
    # The shortest there is, so that it is due at once where one of an hour is wanted.
    short = cluster.kubectl("create", "token", "gateway", "--duration=10m").stdout
    token_file.write_text(short)
    corral.add_target("renewed", credential=f"{{token: {{file: {token_file}}}}}",
                      options="{token_lifetime: 1h}")

    def events(name):
        return [event for event in corral.events("--event", f"credential.{name}")
                if event["target"] == "renewed"]

    refused = wait_until(lambda: events("renewal_failed"), "a refusal", 30)
    assert "permit it to create serviceaccounts/token" in refused[0]["reason"]
    cluster.kubectl("create", "rolebinding", "gateway-token", "--role=gateway-token",
                    "--serviceaccount=default:gateway")
    renewed = wait_until(lambda: events("renewed"), "the token is renewed", 60)
    until = datetime.datetime.fromisoformat(renewed[0]["until"])
    left = until - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=50) < left < datetime.timedelta(minutes=61), left
    side = corral.side("renewed", "renewed")
    who = side.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", expect=0)
    assert who.stdout == "system:serviceaccount:default:gateway"


def test_another_authoritys_cluster_gets_no_token(cluster, corral):
    corral.add_target("stranger", ca_file=corral.ready["ca_file"])
    seen = len(cluster.audit())
    side = corral.side("stranger", "stranger")
    status, _, body = side.request("GET", "/version")
    assert status == 502 and b"corral:" in body
    assert cluster.address.encode() not in body
    assert not [event for event in cluster.audit()[seen:] if event["requestURI"] == "/version"]
