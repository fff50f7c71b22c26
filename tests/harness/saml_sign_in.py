"""A browser's way through a SAML sign-in at the gateway, step by step, and what a refusal is."""

import base64
import hashlib
import http.client
import re
import secrets
import ssl
import urllib.parse
import zlib

CALLBACK = "http://127.0.0.1:9/callback"


def provider(metadata, user_attribute, groups):
    """The identity provider `corp`; `groups` maps its groups, as YAML."""
    indented = "\n".join("    " + line for line in metadata.splitlines())
    return f"""
kind: IdentityProvider
name: corp
saml:
  metadata: |
{indented}
  user_attribute: {user_attribute}
  groups_attribute: memberOf
groups: {groups}
sign_in: create
---
"""


class SignIn:
    """One browser on its way, as `corral login` would send it."""

    def __init__(self, shop, idp=None):
        self.gateway, self.idp = shop.gateway, idp
        self.context = ssl.create_default_context(cafile=self.gateway.ready["ca_file"])
        self.api = self.gateway.ready["api"]
        self.verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        query = urllib.parse.urlencode({
            "client_id": "corral-cli", "response_type": "code", "redirect_uri": CALLBACK,
            "code_challenge": challenge, "code_challenge_method": "S256", "state": "s",
            "provider": "corp"})
        status, headers, _ = self.send("GET", f"/oauth2/authorize?{query}")
        assert status == 303, status
        self.cookie = headers["Set-Cookie"].split(";")[0]
        self.url = headers["Location"]

    def send(self, method, path, fields=None, cookie=None):
        address = urllib.parse.urlsplit(self.api)
        connection = http.client.HTTPSConnection(address.hostname, address.port,
                                                 context=self.context, timeout=30)
        headers = {"Cookie": cookie} if cookie else {}
        body = None
        if fields is not None:
            body = urllib.parse.urlencode(fields)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    @property
    def request_id(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.url).query)
        request = zlib.decompress(base64.b64decode(query["SAMLRequest"][0]), -15).decode()
        return re.search(r'\bID="([^"]+)"', request)[1]

    def response(self, name="ada"):
        action, fields = self.idp.sign_in(self.url, name)
        assert action == self.api + "/auth/saml/corp/acs"
        return fields["SAMLResponse"]

    def post(self, response):
        """What the provider's page does: no cookie of ours comes with it."""
        return self.send("POST", "/auth/saml/corp/acs", {"SAMLResponse": response})

    def finish(self, response, cookie=True):
        status, headers, text = self.post(response)
        if status != 303:
            return status, headers, text
        own = self.cookie if cookie is True else cookie
        return self.send("GET", headers["Location"], cookie=own)

    def token(self, location):
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"][0]
        status, _, text = self.send("POST", "/oauth2/token", {
            "grant_type": "authorization_code", "client_id": "corral-cli", "code": code,
            "redirect_uri": CALLBACK, "code_verifier": self.verifier})
        assert status == 200, text
        return re.search(r'"access_token": ?"(crl_[a-z2-7]+)"', text)[1]


def refusals(shop):
    return [event["reason"] for event in shop.gateway.events("--event", "principal.refused")]


def check_refused(shop, answer, words):
    status, _, text = answer
    assert status == 403, (status, text)
    assert words not in text, "the person reads no details"
    assert words in refusals(shop)[-1], refusals(shop)[-1]
