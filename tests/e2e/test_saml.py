"""SAML 2.0: people of SimpleSAMLphp sign in by a browser, and forgers do not."""

import base64
import re

import pytest

from harness.saml_idp import Browser, SamlIdp, forms, is_installed
from harness.saml_sign_in import CALLBACK, SignIn, check_refused, provider
from harness.shop import Shop

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


def provider_of(idp):
    return provider(idp.metadata(), "mail", '{Agents: agents, "DB Admins": dba}')


@pytest.fixture(scope="module")
def idp():
    with SamlIdp(PEOPLE) as running:
        yield running


@pytest.fixture(scope="module")
def shop(server, idp):
    with Shop(server, more=provider_of(idp)) as open_shop:
        base = open_shop.gateway.ready["api"] + "/auth/saml/corp"
        idp.trust(base + "/metadata", base + "/acs")
        yield open_shop


def forged(response, change):
    text = change(base64.b64decode(response).decode())
    return base64.b64encode(text.encode()).decode()


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
    good = provider_of(idp)
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
