"""A client of the gateway's token service."""

import base64
import http.client
import json
import ssl
import urllib.parse

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPES = "urn:ietf:params:oauth:token-type:"
DEADLINE_S = 30


class TokenService:
    """One connection for each request, as many clients would."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.heads = None
        self.context = ssl.create_default_context(cafile=gateway.ready["ca_file"])

    def request(self, method, path, body=None, headers=None):
        """`(status, JSON or None)`; `heads` has the answer's own headers."""
        host, port = self.gateway.address("https")
        connection = http.client.HTTPSConnection(host, port, context=self.context,
                                                 timeout=DEADLINE_S)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            text = response.read()
            self.heads = response.headers
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post(self, path, fields, headers=None):
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, urllib.parse.urlencode(fields), kind | (headers or {}))

    def exchange(self, token, name="job", kind="jwt", headers=None, detail=None, **fields):
        details = [{"type": "corral_run", "name": name} | (detail or {})]
        return self.post("/oauth2/token", {
            "grant_type": EXCHANGE, "subject_token": token, "subject_token_type": TYPES + kind,
            "authorization_details": json.dumps(details),
        } | fields, headers)

    def same_run(self, token, run_id, headers=None, **fields):
        """Another JWT of the token's own run."""
        fields = {"requested_token_type": TYPES + "jwt"} | fields
        details = json.dumps([{"type": "corral_run", "run_id": run_id}])
        return self.exchange(token, kind="access_token", headers=headers,
                             **{"authorization_details": details} | fields)

    def whoami(self, token, headers=None, scheme="Bearer"):
        return self.get("/api/v1/whoami",
                        {"Authorization": f"{scheme} {token}"} | (headers or {}))

    def introspect(self, token, caller):
        status, answer = self.post("/oauth2/introspect", {"token": token},
                                   {"Authorization": f"Bearer {caller}"})
        assert status == 200, (status, answer)
        return answer


def basic(name, secret):
    pair = f"{name}:{secret}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
