"""Policies on fields of objects, in every form that a client may write an object in, and the verbs
that amount to more than a write."""

import json
import secrets

import pytest

from objects import config_map, manifest

PERSON = """
kind: User
name: fields@example.com
groups: [fielders]
password: {env: PASSWORD}
---
kind: Policy
name: fielders
cedar: |
  permit (principal in Corral::Group::"fielders", action, resource in Corral::Target::"cluster");
"""
FORBID = """
  @id("no-{name}") @reason("Not {name}.")
  forbid (principal in Corral::Group::"fielders", {action}, resource)
  when {{ {condition} }};
"""


def in_pod(**spec):
    """A change of a pod's spec."""
    return spec


def in_container(**more):
    return {"containers": [{"name": "main", "image": "shop/main:1"} | more]}


def volume(**source):
    return in_pod(volumes=[{"name": "v"} | source])


# The field: what policies say of it, a pod's spec that has it, and one that differs in it alone.
FIELDS = {
    "host-path": ('context has host_paths && context.host_paths.contains("/etc")',
                  volume(hostPath={"path": "/etc"}), volume(hostPath={"path": "/srv/shared"})),
    "privileged": ("context has is_privileged && context.is_privileged",
                   in_container(securityContext={"privileged": True}),
                   in_container(securityContext={"privileged": False})),
    "host-network": ('context has host_namespaces && context.host_namespaces.contains("network")',
                     in_pod(hostNetwork=True), in_pod(hostNetwork=False)),
    "secret": ('context has secrets_mounted && context.secrets_mounted.contains("vault")',
               volume(secret={"secretName": "vault"}), volume(secret={"secretName": "shop"})),
    "account": ('context has service_account && context.service_account == "deployer"',
                in_pod(serviceAccountName="deployer"), in_pod(serviceAccountName="shop")),
    "image": ('context has images && context.images.contains("evil:1")',
              in_container(image="evil:1"), in_container(image="shop/main:2")),
}
# Verbs beside the right to write: a request that has one, and its twin without.
RULES = "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"


def role(name, verb, resource, group="rbac.authorization.k8s.io"):
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name},
            "rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]}


VERBS = {
    "kube_delete_all": (("DELETE", "/api/v1/namespaces/{namespace}/configmaps?labelSelector=app",
                         None),
                        ("DELETE", "/api/v1/namespaces/{namespace}/configmaps/one", None)),
    "kube_escalate": (("POST", RULES, role("over", "escalate", "roles")),
                      ("POST", RULES, role("plain", "get", "roles"))),
    "kube_bind": (("POST", RULES, role("binder", "bind", "roles")),
                  ("POST", RULES, role("lister", "list", "roles"))),
    "kube_impersonate": (("POST", RULES, role("mask", "impersonate", "serviceaccounts", "")),
                         ("POST", RULES, role("reader", "get", "serviceaccounts", ""))),
    "kube_node_proxy": (("GET", "/api/v1/nodes/fake-1/proxy/healthz", None),
                        ("GET", "/api/v1/nodes/fake-1", None)),
}


@pytest.fixture(scope="module")
def side(corral):
    rules = "".join(FORBID.format(name=name, action="action", condition=condition)
                    for name, (condition, _, _) in FIELDS.items())
    rules += "".join(FORBID.format(name=name, action=f'action == Corral::Action::"{name}"',
                                   condition="true") for name in VERBS)
    corral.apply(PERSON + rules, env={"PASSWORD": corral.password})
    token = corral.login("fields@example.com", corral.password)
    run = corral.start_run("fields", token, "--ttl", "1h")
    side = corral.side("fields", "cluster", run)
    side.enter_namespace()
    return side


def deployment(name, spec):
    """Without replicas: what is compared is what the cluster stored."""
    template = in_container() | spec
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}}, "spec": template}}}


# -- the forms, each as `(method, path below the namespace's deployments, content type, body)`


def as_json(direct, side, name, spec):
    return "POST", "", "application/json", json.dumps(deployment(name, spec))


def as_apply(direct, side, name, spec):
    """Server-side apply. JSON would be YAML: this is what only YAML is."""
    def lines(value, indent=0):
        pad = "  " * indent
        if isinstance(value, dict):
            return "".join(f"\n{pad}{key}:{lines(one, indent + 1)}" for key, one in value.items())
        if isinstance(value, list):
            return "".join(f"\n{pad}-{lines(one, indent + 1)}" for one in value)
        return f" {json.dumps(value)}"
    text = lines(deployment(name, spec)).lstrip("\n") + "\n"
    return "PATCH", f"/{name}?fieldManager=tests", "application/apply-patch+yaml", text


def as_strategic(direct, side, name, spec):
    """Of one that is there and has none of it."""
    side.cluster.apply(json.dumps(deployment(name, {})), "-n", side.namespace)
    patch = {"spec": {"template": {"spec": spec}}}
    return "PATCH", f"/{name}", "application/strategic-merge-patch+json", json.dumps(patch)


def as_protobuf(direct, side, name, spec):
    """As the API server itself writes the object."""
    status, _, body = direct.request(
        "POST", f"{deployments(side)}?dryRun=All", json.dumps(deployment(name, spec)),
        Content_Type="application/json", Accept="application/vnd.kubernetes.protobuf")
    assert status == 201 and body.startswith(b"k8s\0"), body
    return "POST", "", "application/vnd.kubernetes.protobuf", body


FORMS = [as_json, as_apply, as_strategic, as_protobuf]


def deployments(side):
    return f"/apis/apps/v1/namespaces/{side.namespace}/deployments"


def stored(direct, side, name):
    """The pod's spec that the cluster has; None when it has no such object."""
    status, _, body = direct.request("GET", f"{deployments(side)}/{name}")
    return json.loads(body)["spec"]["template"]["spec"] if status == 200 else None


def has(found, wanted):
    """Whether what is wanted stands in what was found, with what a server adds."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            has(found.get(key), one) for key, one in wanted.items() if one is not False)
    if isinstance(wanted, list):
        return isinstance(found, list) and all(map(has, found, wanted))
    return found == wanted


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_policy_forbids_reaches_the_cluster_in_no_form(direct, side, field, form):
    _, forbidden, allowed = FIELDS[field]

    def send(spec):
        name = f"d-{secrets.token_hex(4)}"
        method, path, content_type, body = form(direct, side, name, spec)
        status, _, answer = side.request(method, deployments(side) + path, body,
                                         Content_Type=content_type)
        return status, json.loads(answer), stored(direct, side, name)

    status, answer, found = send(forbidden)
    assert status == 403 and f"corral: no-{field}: Not {field}." in answer["message"], answer
    if form is as_strategic:
        assert found and not has(found, forbidden)
    else:
        assert found is None
    status, answer, found = send(allowed)
    assert status in (200, 201), answer
    assert has(found, allowed), found


@pytest.mark.parametrize("verb", VERBS)
def test_what_amounts_to_more_than_a_write_is_denied_for_itself(cluster, corral, side, verb):
    cluster.apply(manifest(config_map("one"), config_map("two")), "-n", side.namespace)
    (method, path, body), twin = VERBS[verb]

    def send(method, path, body):
        path = path.format(namespace=side.namespace)
        status, _, answer = side.request(
            method, path, json.dumps(body) if body else None,
            **({"Content_Type": "application/json"} if body else {}))
        return status, json.loads(answer)

    status, answer = send(method, path, body)
    assert status == 403 and f"corral: no-{verb}: Not {verb}." in answer["message"], answer
    names = cluster.kubectl("get", "configmaps,roles", "-n", side.namespace, "-o", "name").stdout
    assert "configmap/one\n" in names and "configmap/two\n" in names
    assert not body or f"/{body['metadata']['name']}\n" not in names
    status, answer = send(*twin)
    assert status in (200, 201), answer
    decided = corral.events("--event", "statement.decided", "--run", side.run["run_id"], "--outcome",
                            "deny")
    assert any(verb in event["verbs"] for event in decided)
