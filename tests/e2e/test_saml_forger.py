"""SAML 2.0 against pysaml2: what a second maker of responses signs is read, and what a forger with
its tools makes of them is refused."""

import base64
import re
import shutil

import pytest

from harness.saml_forger import OTHER_SERVICE, SamlForger
from harness.saml_sign_in import CALLBACK, SignIn, check_refused, provider
from harness.shop import Shop

DAY_S = 24 * 3600
MAIL = "urn:oid:0.9.2342.19200300.100.1.3"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("xmlsec1") is None,
                       reason="xmlsec1 is not installed; `.ci/setup saml` installs it"),
]


def provider_of(forger):
    return provider(forger.metadata(), MAIL, "{Agents: agents}")


@pytest.fixture(scope="module")
def forger():
    with SamlForger() as running:
        yield running


@pytest.fixture(scope="module")
def shop(server, forger):
    with Shop(server, more=provider_of(forger)) as open_shop:
        sign_in = SignIn(open_shop)
        status, _, metadata = sign_in.send("GET", "/auth/saml/corp/metadata")
        assert status == 200
        forger.trust(metadata)
        yield open_shop


def is_known(shop, name):
    return name in [user["name"] for user in shop.gateway.json("get", "users")]


class Forgery:
    """A sign-in, and the response that pysaml2 makes to it."""

    def __init__(self, shop, forger):
        self.sign_in, self.forger = SignIn(shop), forger
        base = self.sign_in.api + "/auth/saml/corp"
        self.asked = {"request_id": self.sign_in.request_id, "acs": base + "/acs",
                      "audience": base + "/metadata"}

    def make(self, **told):
        return self.forger.response(**(self.asked | told))

    def finish(self, text):
        return self.sign_in.finish(base64.b64encode(text.encode()).decode())


@pytest.mark.parametrize("signed", [
    {}, {"sign_response": False}], ids=["both signed", "assertion signed"])
def test_what_pysaml2_signs_is_read(shop, forger, signed):
    forgery = Forgery(shop, forger)
    status, headers, text = forgery.finish(forgery.make(**signed))
    assert status == 303 and headers["Location"].startswith(CALLBACK), text
    who = shop.gateway.json("whoami", token=forgery.sign_in.token(headers["Location"]))
    assert who["name"] == "ada@corp.example" and who["groups"] == ["agents"]
    assert is_known(shop, "ada@corp.example")


@pytest.mark.parametrize("told, words", [
    ({"sign_response": False, "sign_assertion": False}, "signature"),
    ({"sign_assertion": False}, "signature"),
    ({"audience": OTHER_SERVICE}, "audience"),
    ({"acs": "https://other.example/acs"}, "another address"),
    ({"request_id": "_never-asked"}, "no pending request"),
    ({"skew_s": -DAY_S}, "from another time"),
    ({"skew_s": DAY_S}, "from another time"),
    ({"attributes": {"mail": ["ada@corp.example", "root@corp.example"]}}, "not one value"),
    ({"attributes": {"memberOf": ["Agents"]}}, "not one value"),
], ids=["unsigned", "assertion unsigned", "audience", "recipient", "request", "past", "future",
        "two people", "nobody"])
def test_what_is_not_for_us_or_not_of_now_is_refused(shop, forger, told, words):
    forgery = Forgery(shop, forger)
    check_refused(shop, forgery.finish(forgery.make(**told)), words)


def test_a_response_is_good_once(shop, forger):
    forgery = Forgery(shop, forger)
    text = forgery.make()
    assert forgery.finish(text)[0] == 303
    check_refused(shop, forgery.finish(text), "no pending request")


def test_a_key_of_somebody_else_signs_nothing(shop, forger):
    with SamlForger() as other:
        _, _, metadata = SignIn(shop).send("GET", "/auth/saml/corp/metadata")
        other.trust(metadata)
        forgery = Forgery(shop, other)
        check_refused(shop, forgery.finish(forgery.make()), "signature")


def element(text, name):
    """The first element of that name, whole."""
    found = re.search(rf"<(\w+):{name}\b.*?</\1:{name}>", text, re.S)
    return found[0]


def evil_copy(assertion, identifier="_evil"):
    """The same assertion about another person, without a signature."""
    copy = re.sub(r"<(\w+):Signature\b.*?</\1:Signature>", "", assertion, count=1, flags=re.S)
    copy = re.sub(r' ID="[^"]*"', f' ID="{identifier}"', copy, count=1)
    return copy.replace("ada@corp.example", "root@corp.example")


def after_original(text, assertion):
    return text.replace(assertion, assertion + evil_copy(assertion))


def before_original(text, assertion):
    return text.replace(assertion, evil_copy(assertion) + assertion)


def around_original(text, assertion):
    evil = evil_copy(assertion)
    end = re.search(r"</\w+:Assertion>$", evil)[0]
    return text.replace(assertion, evil[:-len(end)] + assertion + end)


def in_signature_object(text, assertion):
    """The signed original moves into an Object of its own signature, which moves to the evil one."""
    signature = element(assertion, "Signature")
    prefix = re.match(r"<(\w+):", signature)[1]
    bare = assertion.replace(signature, "")
    end = f"</{prefix}:Signature>"
    wrapped = signature[:-len(end)] + f"<{prefix}:Object>{bare}</{prefix}:Object>" + end
    evil = evil_copy(assertion)
    issuer = element(evil, "Issuer")
    return text.replace(assertion, evil.replace(issuer, issuer + wrapped))


def in_extensions(text, assertion):
    prefix = re.search(r"<(\w+):Response\b", text)[1]
    box = f"<{prefix}:Extensions>{assertion}</{prefix}:Extensions>"
    return text.replace(assertion, evil_copy(assertion)).replace(
        f"<{prefix}:Status>", box + f"<{prefix}:Status>", 1)


def same_identifier(text, assertion):
    identifier = re.search(r' ID="([^"]*)"', assertion)[1]
    return text.replace(assertion, evil_copy(assertion, identifier) + assertion)


def response_in_object(text, _assertion):
    """The whole signed response becomes an Object inside its own signature, in an evil response."""
    signature = element(text, "Signature")
    prefix = re.match(r"<(\w+):", signature)[1]
    declaration, root = text.split("\n", 1)
    bare = root.replace(signature, "", 1)
    end = f"</{prefix}:Signature>"
    wrapped = signature[:-len(end)] + f"<{prefix}:Object>{bare}</{prefix}:Object>" + end
    evil = root.replace(signature, wrapped, 1)
    evil = re.sub(r' ID="[^"]*"', ' ID="_evil"', evil, count=1)
    return declaration + "\n" + evil.replace("ada@corp.example", "root@corp.example")


@pytest.mark.parametrize("sign_response", [True, False])
@pytest.mark.parametrize("wrap", [
    after_original, before_original, around_original, in_signature_object, in_extensions,
    same_identifier])
def test_a_signed_assertion_vouches_for_no_other(shop, forger, wrap, sign_response):
    forgery = Forgery(shop, forger)
    text = forgery.make(sign_response=sign_response)
    assertion = element(text, "Assertion")
    forged = wrap(text, assertion)
    assert "root@corp.example" in forged and "ada@corp.example" in forged
    status, _, answer = forgery.finish(forged)
    assert status == 403, answer
    assert not is_known(shop, "root@corp.example")


def test_a_signed_response_vouches_for_no_other(shop, forger):
    forgery = Forgery(shop, forger)
    forged = response_in_object(forgery.make(), None)
    status, _, answer = forgery.finish(forged)
    assert status == 403, answer
    assert not is_known(shop, "root@corp.example")


def test_groups_by_the_thousand_are_bounded(shop, forger):
    forgery = Forgery(shop, forger)
    groups = [f"group {number}" for number in range(10_000)]
    answer = forgery.finish(forgery.make(attributes={"mail": ["ada@corp.example"],
                                                     "memberOf": groups}))
    assert answer[0] == 403, answer
