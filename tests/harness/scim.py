"""A provider as it writes people by SCIM: plain requests with its token."""

import http.client
import json
import ssl
import urllib.parse

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Scim:
    """A provider; one that `stays` sends everything over one connection."""

    def __init__(self, gateway, token, stays=False):
        self.address = urllib.parse.urlsplit(gateway.ready["api"])
        self.context = ssl.create_default_context(cafile=gateway.ready["ca_file"])
        self.token = token
        self.stays = stays
        self.connection = None

    def send(self, method, path, body=None, headers=(), expect=None):
        """Status, headers and JSON of an answer; None without a body."""
        headers = {"Authorization": f"Bearer {self.token}"} | dict(headers)
        if body is not None:
            headers.setdefault("Content-Type", "application/scim+json")
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                self.address.hostname, self.address.port, context=self.context, timeout=60)
        text = body if isinstance(body, (str, type(None))) else json.dumps(body)
        self.connection.request(method, "/scim/v2" + path, text, headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if not self.stays:
            self.close()
        found = json.loads(text) if text else None
        if expect is not None:
            assert answer.status == expect, (answer.status, found)
        return answer.status, answer.headers, found

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def list(self, path, **query):
        """A list's body."""
        return self.send("GET", f"{path}?{urllib.parse.urlencode(query)}", expect=200)[2]

    def create_user(self, name, expect=201, **more):
        body = {"schemas": [USER], "userName": name} | more
        return self.send("POST", "/Users", body, expect=expect)[2]

    def create_group(self, name, members=(), expect=201):
        body = {"schemas": [GROUP], "displayName": name,
                "members": [{"value": member} for member in members]}
        return self.send("POST", "/Groups", body, expect=expect)[2]

    def patch(self, path, *operations, expect=200, headers=()):
        body = {"schemas": [PATCH], "Operations": list(operations)}
        return self.send("PATCH", path, body, headers=headers, expect=expect)[2]

    def set_active(self, user, is_active):
        operation = {"op": "Replace", "path": "active", "value": str(is_active)}
        return self.patch(f"/Users/{user['id']}", operation)
