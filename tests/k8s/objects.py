"""Small Kubernetes objects that the tests create."""

import json


def manifest(*objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def _meta(name, labels=None):
    return {"name": name, "labels": {"app": name} | (labels or {})}


def config_map(name="settings", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(name),
            "data": data or {"colour": "blue"}}


def secret(name="door", **data):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _meta(name),
            "stringData": data or {"password": "open-sesame"}}


def container(command, **more):
    return {"name": "main", "image": "shop/main:1", "command": command} | more


# A web server on the pod's own address that answers with what it is sent.
ECHO = "#!/bin/sh\\necho Content-Type: x/y; echo; exec cat\\n"
SERVE = ["sh", "-c", f"mkdir -p /www/cgi-bin; printf '{ECHO}' > /www/cgi-bin/echo;"
         " chmod 755 /www/cgi-bin/echo; exec httpd -f -p $POD_IP:8080 -h /www"]
TALK = ["sh", "-c", "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done"]
SLEEP = ["sleep", "100000"]


def pod(name="box", command=SLEEP, restart="Always", **more):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _meta(name),
            "spec": {"restartPolicy": restart, "terminationGracePeriodSeconds": 0,
                     "containers": [container(list(command), **more)]}}


def deployment(name="web", command=SERVE, replicas=1, **more):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _meta(name),
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}},
                                  "spec": {"terminationGracePeriodSeconds": 0,
                                           "containers": [container(list(command), **more)]}}}}


def service(name="web"):
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(name),
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}}


def custom_definition(group):
    schema = {"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"size": {"type": "integer"}}}}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"things.{group}"},
            "spec": {"group": group, "scope": "Namespaced",
                     "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
                     "versions": [{"name": "v1", "served": True, "storage": True,
                                   "schema": {"openAPIV3Schema": schema}}]}}
