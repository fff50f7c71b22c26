"""The differential list's bare requests: what is answered to each method, path and header.

All read one quiet namespace, so that bodies are compared byte by byte; a request that writes is a
dry run there.
"""

import json

from objects import config_map, deployment, manifest, secret, service

QUIET = "quiet"
QUIET_OBJECTS = manifest(config_map(), config_map("second"), secret(), service(),
                         deployment(replicas=0))
NS = f"/api/v1/namespaces/{QUIET}"
APPS = f"/apis/apps/v1/namespaces/{QUIET}"

PROTOBUF = "application/vnd.kubernetes.protobuf"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

# What no two answers share, or what belongs to one connection only.
OWN_HEADERS = {"date", "audit-id", "connection", "transfer-encoding", "content-length",
               "keep-alive"}

JSON = {"Content_Type": "application/json"}
YAML = {"Content_Type": "application/yaml"}
MAP = json.dumps(config_map("third")).encode()
DRY = "?dryRun=All"

# name: (method, path, body, headers)
REQUESTS = {
    "version": ("GET", "/version", None, {}),
    "api": ("GET", "/api", None, {}),
    "apis": ("GET", "/apis", None, {}),
    "aggregated discovery": ("GET", "/apis", None, {
        "Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}),
    "one group": ("GET", "/apis/apps/v1", None, {}),
    "core group": ("GET", "/api/v1", None, {}),
    "openapi v2": ("GET", "/openapi/v2", None, {}),
    "openapi v2 protobuf": ("GET", "/openapi/v2", None, {
        "Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}),
    "openapi v3 group": ("GET", "/openapi/v3/apis/apps/v1", None, {}),
    "healthz": ("GET", "/healthz", None, {}),
    "livez verbose": ("GET", "/livez?verbose&exclude=etcd", None, {}),
    "issuer": ("GET", "/.well-known/openid-configuration", None, {}),
    "list": ("GET", f"{NS}/configmaps", None, {}),
    "list protobuf": ("GET", f"{NS}/configmaps", None, {"Accept": PROTOBUF}),
    "list protobuf or json": ("GET", f"{NS}/configmaps", None, {
        "Accept": f"{PROTOBUF},application/json"}),
    "list yaml": ("GET", f"{NS}/configmaps", None, {"Accept": "application/yaml"}),
    "list table": ("GET", f"{NS}/services", None, {"Accept": TABLE}),
    "list partial": ("GET", f"{NS}/configmaps", None, {"Accept": PARTIAL_LIST}),
    "list gzip": ("GET", f"{NS}/configmaps", None, {"Accept_Encoding": "gzip"}),
    "list pretty": ("GET", f"{NS}/configmaps?pretty=true", None, {}),
    "list selected": ("GET", f"{NS}/configmaps?labelSelector=app%3Dsecond", None, {}),
    "list by field": ("GET", f"{NS}/configmaps?fieldSelector=metadata.name%21%3Dsecond", None, {}),
    "list wrong selector": ("GET", f"{NS}/configmaps?labelSelector=%21%21", None, {}),
    "list of all namespaces": ("GET", "/api/v1/services", None, {}),
    "list old version": ("GET", f"{NS}/configmaps?resourceVersion=1&resourceVersionMatch=Exact",
                         None, {}),
    "get": ("GET", f"{NS}/configmaps/settings", None, {}),
    "get protobuf": ("GET", f"{NS}/configmaps/settings", None, {"Accept": PROTOBUF}),
    "get partial": ("GET", f"{NS}/configmaps/settings", None, {"Accept": PARTIAL}),
    "get absent": ("GET", f"{NS}/configmaps/absent", None, {}),
    "get unacceptable": ("GET", f"{NS}/configmaps/settings", None, {"Accept": "text/csv"}),
    "get unknown kind": ("GET", f"{NS}/nothings", None, {}),
    "get unknown group": ("GET", "/apis/absent.example.com/v1", None, {}),
    "get scale": ("GET", f"{APPS}/deployments/web/scale", None, {}),
    "get status": ("GET", f"{APPS}/deployments/web/status", None, {}),
    "get trailing slash": ("GET", f"{NS}/configmaps/", None, {}),
    "get secret": ("GET", f"{NS}/secrets/door", None, {}),
    "get secret protobuf": ("GET", f"{NS}/secrets/door", None, {"Accept": PROTOBUF}),
    "list secrets table": ("GET", f"{NS}/secrets", None, {"Accept": TABLE}),
    "list secrets partial": ("GET", f"{NS}/secrets", None, {"Accept": PARTIAL_LIST}),
    "head": ("HEAD", f"{NS}/configmaps/settings", None, {}),
    "options": ("OPTIONS", f"{NS}/configmaps", None, {}),
    "wrong method": ("PATCH", f"{NS}/configmaps", b"{}", JSON),
    "create json": ("POST", f"{NS}/configmaps{DRY}", MAP, JSON),
    "create yaml": ("POST", f"{NS}/configmaps{DRY}",
                    b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: third}\n", YAML),
    "create unknown type": ("POST", f"{NS}/configmaps{DRY}", b"a,b", {"Content_Type": "text/csv"}),
    "create broken json": ("POST", f"{NS}/configmaps{DRY}", b'{"kind":', JSON),
    "create empty": ("POST", f"{NS}/configmaps{DRY}", b"", JSON),
    "create twice": ("POST", f"{NS}/configmaps{DRY}", json.dumps(config_map()).encode(), JSON),
    "create wrong kind": ("POST", f"{NS}/configmaps{DRY}",
                          json.dumps(service("third")).encode(), JSON),
    "create strict": ("POST", f"{NS}/configmaps{DRY}&fieldValidation=Strict",
                      json.dumps(config_map("third") | {"dada": 1}).encode(), JSON),
    "create warned": ("POST", f"{NS}/configmaps{DRY}&fieldValidation=Warn",
                      json.dumps(config_map("third") | {"dada": 1}).encode(), JSON),
    "update": ("PUT", f"{NS}/configmaps/settings{DRY}",
               json.dumps(config_map(colour="red")).encode(), JSON),
    "update wrong name": ("PUT", f"{NS}/configmaps/second{DRY}",
                          json.dumps(config_map()).encode(), JSON),
    "update stale": ("PUT", f"{NS}/configmaps/settings{DRY}", json.dumps(
        config_map() | {"metadata": {"name": "settings", "resourceVersion": "1"}}).encode(), JSON),
    "merge patch": ("PATCH", f"{NS}/configmaps/settings{DRY}", b'{"data":{"colour":"red"}}',
                    {"Content_Type": "application/merge-patch+json"}),
    "strategic patch": ("PATCH", f"{NS}/configmaps/settings{DRY}", b'{"data":{"colour":"red"}}',
                        {"Content_Type": "application/strategic-merge-patch+json"}),
    "json patch": ("PATCH", f"{NS}/configmaps/settings{DRY}",
                   b'[{"op":"test","path":"/data/colour","value":"red"}]',
                   {"Content_Type": "application/json-patch+json"}),
    "apply patch": ("PATCH", f"{NS}/configmaps/settings{DRY}&fieldManager=me&force=true",
                    b"apiVersion: v1\nkind: ConfigMap\ndata: {colour: red}\n",
                    {"Content_Type": "application/apply-patch+yaml"}),
    "apply patch without manager": ("PATCH", f"{NS}/configmaps/settings{DRY}", b"{}",
                                    {"Content_Type": "application/apply-patch+yaml"}),
    "scale": ("PUT", f"{APPS}/deployments/web/scale{DRY}", json.dumps(
        {"apiVersion": "autoscaling/v1", "kind": "Scale",
         "metadata": {"name": "web", "namespace": QUIET},
         "spec": {"replicas": 2}}).encode(), JSON),
    "delete": ("DELETE", f"{NS}/configmaps/settings{DRY}", None, {}),
    "delete options": ("DELETE", f"{NS}/configmaps/settings{DRY}", json.dumps(
        {"kind": "DeleteOptions", "apiVersion": "v1",
         "preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}).encode(), JSON),
    "delete collection": ("DELETE", f"{NS}/configmaps{DRY}&labelSelector=app%3Dsecond", None, {}),
    "self review": ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json.dumps(
        {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode(), JSON),
    "access review": ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json.dumps(
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
         "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).encode(), JSON),
    "watch that ends": ("GET", f"{NS}/configmaps?watch=1&resourceVersion=0&timeoutSeconds=1",
                        None, {}),
    "watch protobuf": ("GET", f"{NS}/configmaps?watch=1&resourceVersion=0&timeoutSeconds=1", None,
                       {"Accept": f"{PROTOBUF};stream=watch"}),
    "watch table": ("GET", f"{NS}/services?watch=1&resourceVersion=0&timeoutSeconds=1", None,
                    {"Accept": TABLE}),
    "watch secrets": ("GET", f"{NS}/secrets?watch=1&resourceVersion=0&timeoutSeconds=1", None, {}),
    "watch too old": ("GET", f"{NS}/configmaps?watch=1&resourceVersion=1&timeoutSeconds=1",
                      None, {}),
    "exec without upgrade": ("GET", f"{NS}/pods/absent/exec?command=true&stdout=1", None, {}),
    "log of absent pod": ("GET", f"{NS}/pods/absent/log", None, {}),
}


def ask(side, name):
    """`(status, headers that count, body)`."""
    method, path, body, headers = REQUESTS[name]
    status, found, answer = side.request(method, path, body, **headers)
    kept = {key.lower(): side.normal(value) for key, value in found.items()
            if key.lower() not in OWN_HEADERS}
    if method != "GET" or "table" in name:
        # A dry run makes an object that nobody else sees, and a table tells ages.
        answer = side.normal(answer)
    return status, kept, answer
