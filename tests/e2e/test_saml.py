"""SAML 2.0: people of SimpleSAMLphp sign in by a browser, and forgers do not."""

import base64
import hashlib
import http.client
import re
import secrets
import ssl
import urllib.parse
import urllib.request

import pytest

from harness.saml_idp import Browser, SamlIdp, forms, is_installed
from harness.shop import Shop

CALLBACK = "http://127.0.0.1:9/callback"
PEOPLE = {
    "ada": {"mail": ["ada@corp.example"], "memberOf": ["Agents", "DB Admins", "Unmapped"]},
    "eve": {"mail": ["ada@example.com"], "memberOf": ["Agents"]},
    "two": {"mail": ["one@corp.example", "two@corp.example"], "memberOf": []},
}

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not is_installed(), reason="SimpleSAMLphp is not installed; "
                                                  "`.ci/setup saml` installs it"),
]


def provider(idp):
    metadata = "\n".join("    " + line for line in idp.metadata().splitlines())
    return f"""
kind: IdentityProvider
name: corp
saml:
  metadata: |
{metadata}
  user_attribute: mail
  groups_attribute: memberOf
groups: {{Agents: agents, "DB Admins": dba}}
sign_in: create
---
"""


@pytest.fixture(scope="module")
def idp():
    with SamlIdp(PEOPLE) as running:
        yield running


@pytest.fixture(scope="module")
def shop(server, idp):
    with Shop(server, more=provider(idp)) as open_shop:
        base = open_shop.gateway.ready["api"] + "/auth/saml/corp"
        idp.trust(base + "/metadata", base + "/acs")
        yield open_shop


class SignIn:
    """One browser on its way, as `corral login` would send it."""

    def __init__(self, shop, idp):
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


def forged(response, change):
    text = change(base64.b64decode(response).decode())
    return base64.b64encode(text.encode()).decode()


def refusals(shop):
    return [event["reason"] for event in shop.gateway.events("--event", "principal.refused")]


def check_refused(shop, answer, words):
    status, _, text = answer
    assert status == 403, (status, text)
    assert words not in text, "the person reads no details"
    assert words in refusals(shop)[-1], refusals(shop)[-1]


def test_a_person_signs_in_by_a_browser_with_the_groups_of_the_mapping(shop, idp):
    sign_in = SignIn(shop, idp)
    status, headers, text = sign_in.finish(sign_in.response())
    assert status == 303 and headers["Location"].startswith(CALLBACK), text
    token = sign_in.token(headers["Location"])
    who = shop.gateway.json("whoami", token=token)
    assert who["name"] == "ada@corp.example" and who["groups"] == ["agents", "dba"]
    run = shop.gateway.start_run("job", token)
    assert shop.psql("plain-db", "select 40 + 2", token=run["token"]).stdout == "42\n"
    found = shop.gateway.json("get", "user", "ada@corp.example")
    assert found["identity"] == {"provider": "corp", "subject": "ada"}


def test_a_response_signed_once_only_is_enough(shop, idp):
    base = shop.gateway.ready["api"] + "/auth/saml/corp"
    idp.trust(base + "/metadata", base + "/acs", sign_response=False)
    try:
        sign_in = SignIn(shop, idp)
        assert sign_in.finish(sign_in.response())[0] == 303
    finally:
        idp.trust(base + "/metadata", base + "/acs")


def test_what_was_taken_is_not_taken_again(shop, idp):
    sign_in = SignIn(shop, idp)
    response = sign_in.response()
    assert sign_in.finish(response)[0] == 303
    check_refused(shop, sign_in.post(response), "no pending request")
    other = SignIn(shop, idp)
    check_refused(shop, other.finish(response), "no pending request")


def test_another_browser_gets_nothing(shop, idp):
    sign_in = SignIn(shop, idp)
    other = SignIn(shop, idp)
    status, headers, _ = sign_in.post(sign_in.response())
    assert status == 303
    for cookie in (None, other.cookie):
        answer = sign_in.send("GET", headers["Location"], cookie=cookie)
        check_refused(shop, answer, "no sign-in of this browser")
    assert sign_in.send("GET", headers["Location"], cookie=sign_in.cookie)[0] == 303
    again = sign_in.send("GET", headers["Location"], cookie=sign_in.cookie)
    check_refused(shop, again, "no sign-in of this browser")


def test_nobody_becomes_somebody_elses_account(shop, idp):
    sign_in = SignIn(shop, idp)
    check_refused(shop, sign_in.finish(sign_in.response("eve")), "somebody else's account")
    sign_in = SignIn(shop, idp)
    check_refused(shop, sign_in.post(sign_in.response("two")), "not one value")


def without_signatures(text):
    return re.sub(r"<ds:Signature .*?</ds:Signature>", "", text, flags=re.S)


def without_assertion_signature(text):
    before, assertion = text.split("<saml:Assertion", 1)
    return before + "<saml:Assertion" + without_signatures(assertion)


def wrapped(text):
    assertion = re.search(r"<saml:Assertion .*?</saml:Assertion>", text, re.S)[0]
    evil = without_signatures(assertion).replace("ada@corp.example", "root@corp.example")
    evil = re.sub(r' ID="_[^"]*"', ' ID="_evil"', evil, count=1)
    return text.replace(assertion, f"{evil}<samlp:Extensions>{assertion}</samlp:Extensions>")


@pytest.mark.parametrize("change, words", [
    (without_signatures, "signature"),
    (without_assertion_signature, "signature"),
    (lambda text: text.replace("ada@corp.example", "root@corp.example"), "changed after"),
    (lambda text: text.replace("ada@", "ada<!-- x -->@"), "comment"),
    (lambda text: '<!DOCTYPE x [<!ENTITY e "x">]>' + text, "DTD"),
    (wrapped, "2 assertions"),
    (lambda text: text.replace(">Agents<", ">DB Admins<"), "changed after"),
    (lambda text: text.replace("/auth/saml/corp/acs", "/auth/saml/other/acs"), "another address"),
    (lambda text: text.replace("status:Success", "status:Responder"), "did not sign"),
    (lambda text: "nonsense", "DTD"),
], ids=["unsigned", "assertion unsigned", "changed", "comment", "dtd", "wrapped", "groups",
        "recipient", "status", "nonsense"])
def test_a_forged_response_is_refused(shop, idp, change, words):
    sign_in = SignIn(shop, idp)
    answer = sign_in.post(forged(sign_in.response(), change))
    check_refused(shop, answer, words)


def test_a_response_for_another_service_or_of_another_key_is_refused(shop, idp, server):
    base = shop.gateway.ready["api"] + "/auth/saml/corp"
    with SamlIdp(PEOPLE) as other:
        other.trust(base + "/metadata", base + "/acs")
        sign_in = SignIn(shop, idp)
        url = sign_in.url.replace(idp.base, other.base)
        _, fields = other.sign_in(url, "ada")
        check_refused(shop, sign_in.post(fields["SAMLResponse"]), "another issuer")


def test_metadata_is_served_and_checked(shop, idp):
    sign_in = SignIn(shop, idp)
    status, headers, text = sign_in.send("GET", "/auth/saml/corp/metadata")
    assert status == 200 and headers["Content-Type"] == "application/samlmetadata+xml"
    assert 'WantAssertionsSigned="true"' in text
    assert sign_in.send("GET", "/auth/saml/none/metadata")[0] == 404
    good = provider(idp)
    for bad, words in [
        (good.replace("X509Certificate>M", "X509Certificate>A"), "certificate"),
        (good.replace("HTTP-Redirect", "HTTP-Artifact"), "HTTP-Redirect"),
        (good.replace("IDPSSODescriptor", "PDPDescriptor"), "IDPSSODescriptor"),
    ]:
        assert bad != good
        result = shop.gateway.apply(bad, expect=None)
        assert result.returncode == 1 and words in result.stderr, result.stderr


def test_the_pages_need_no_response_of_the_right_shape(shop, idp):
    sign_in = SignIn(shop, idp)
    for response in ["", "x", base64.b64encode(b"<x/>").decode(), "A" * 1_000_000]:
        assert sign_in.post(response)[0] == 403
    try:
        assert sign_in.post("A" * 5_000_000)[0] == 413
    except OSError:
        pass  # The gateway read no further and closed the connection.
    assert sign_in.send("GET", "/auth/saml/corp/done?state=x")[0] == 403
    assert forms("<form></form>") == [("", {})]
    assert Browser().url is None
