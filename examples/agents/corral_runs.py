"""Executors as child runs, with the standard library alone. Copy it; there is no SDK.

A program that `corral run` started finds its gateway and its own run in the environment
(CORRAL_GATEWAY, CORRAL_TOKEN, CORRAL_CA_FILE). Here it starts runs below its own.
"""

import contextlib
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request

REQUEST_DEADLINE_S = 20
PURPOSE_CHARACTERS_MAX = 200


class Refused(Exception):
    """What the gateway refused, in its own words."""


class Run:
    """A run that this program started, and holds the token of."""

    def __init__(self, started):
        self.id = started["run_id"]
        self.name = started["name"]
        self.token = started["token"]

    def connection(self, target):
        """Where a client connects for this target: `host`, `port`, `database`."""
        return call("GET", f"/api/v1/targets/{urllib.parse.quote(target, safe='')}/connection", self.token)

    def host_keys(self, where):
        """What an SSH client must know to recognise the gateway there, as in known_hosts."""
        address = urllib.parse.urlencode({"host": where["host"], "port": where["port"]})
        return call("GET", f"/api/v1/published/ssh?{address}", self.token)["clients"]


@contextlib.contextmanager
def child_run(name, targets, purpose, ttl_s=600):
    """A run below this program's own, for these targets only; it ends with the block.

    It can do no more than this program's run, and ends with it at the latest.
    """
    # A purpose is one line; a model's task may be more.
    one_line = " ".join(purpose.split())[:PURPOSE_CHARACTERS_MAX]
    wanted = {"name": name, "targets": targets, "purpose": one_line, "ttl_s": ttl_s}
    run = Run(call("POST", "/api/v1/runs", os.environ["CORRAL_TOKEN"], wanted))
    try:
        yield run
    finally:
        # Refused where it has ended already, by itself or with this program's run.
        with contextlib.suppress(Refused):
            call("POST", f"/api/v1/runs/{run.id}/end", run.token)


def call(method, path, token, body=None):
    """One request to the gateway; its answer, or why it refused."""
    request = urllib.request.Request(
        os.environ["CORRAL_GATEWAY"] + path, method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    trust = ssl.create_default_context(cafile=os.environ["CORRAL_CA_FILE"])
    try:
        with urllib.request.urlopen(request, context=trust, timeout=REQUEST_DEADLINE_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(json.load(error)["error"]["message"]) from error
