"""Security events and global revocation: what a provider's transmitter says ends people here."""

import base64
import http.client
import json
import ssl
import time
import urllib.parse

import psycopg
import pytest

from harness.scim import Scim
from harness.shop import Shop
from harness.transmitter import CAEP, RISC, SigningKey, Transmitter
from harness.waiting import wait_until

SCIM_TOKEN = "the-scim-token-of-corp"
SIGNALS_TOKEN = "the-token-of-the-transmitter"


def provider(transmitter, name="corp", token=True):
    shown = f', token: {{value: "{SIGNALS_TOKEN}"}}' if token else ""
    # The other one's groups are those of its tokens, not of SCIM.
    claim = "" if name == "corp" else ", groups_claim: groups"
    return f"""
kind: IdentityProvider
name: {name}
oidc: {{issuer: "{transmitter.issuer}", client_id: corral{claim}}}
groups: {{Agents: agents}}
scim: {{token: {{value: "{SCIM_TOKEN if name == 'corp' else name}"}}}}
signals: {{issuer: "{transmitter.issuer}", audience: "{transmitter.audience}",
          jwks_uri: "{transmitter.jwks_uri}"{shown}}}
---
"""


@pytest.fixture(scope="module")
def transmitter():
    with Transmitter() as running:
        yield running


@pytest.fixture(scope="module")
def other():
    """The transmitter of another provider, which has no bearer token."""
    with Transmitter() as running:
        yield running


@pytest.fixture(scope="module")
def shop(server, transmitter, other):
    more = provider(transmitter) + provider(other, "other", token=False)
    with Shop(server, more=more) as open_shop:
        yield open_shop


@pytest.fixture(scope="module")
def scim(shop):
    return Scim(shop.gateway, SCIM_TOKEN)


@pytest.fixture
def ada(shop, scim, request):
    """A person of corp with a live session of a run."""
    name = f"p{abs(hash(request.node.name)) % 10**8}@corp.example"
    user = scim.create_user(name, externalId=f"sub-{name}",
                            emails=[{"value": f"alias-{name}", "primary": True}])
    group = scim.create_group("Agents", [user["id"]])
    yield Person(shop, user)
    scim.send("DELETE", f"/Groups/{group['id']}")


class Person:
    def __init__(self, shop, user):
        self.shop, self.user, self.name = shop, user, user["userName"]

    def spec(self):
        return self.shop.gateway.json("get", "user", self.name)

    def connect(self):
        run = self.shop.gateway.json("runs", "start", "--name", "job", "--for", self.name)
        connection = self.shop.connect(token=run["token"])
        connection.execute("select 1")
        return connection

    def email(self):
        return {"format": "email", "email": self.name}

    def iss_sub(self, transmitter):
        return {"format": "iss_sub", "iss": transmitter.issuer, "sub": f"sub-{self.name}"}


def is_over(connection):
    try:
        connection.execute("select 1")
    except psycopg.OperationalError:
        return True
    return False


def post(shop, path, body, media_type, token=SIGNALS_TOKEN):
    address = urllib.parse.urlsplit(shop.gateway.ready["api"])
    context = ssl.create_default_context(cafile=shop.gateway.ready["ca_file"])
    connection = http.client.HTTPSConnection(address.hostname, address.port, context=context,
                                             timeout=30)
    headers = {"Content-Type": media_type}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(text) if is_json else None


def push(shop, event, **options):
    return post(shop, "/ssf/events", event, "application/secevent+jwt", **options)


def revoke(shop, subject, **options):
    body = json.dumps({"sub_id": subject})
    return post(shop, "/oauth2/global-token-revocation", body, "application/json", **options)


def recorded(shop, name):
    return [event for event in shop.gateway.events("--event", "signal.received")
            if event["signal"].endswith(name)]


# -- events

@pytest.mark.parametrize("event, state", [
    (CAEP + "session-revoked", "suspended"), (CAEP + "credential-change", "suspended"),
    (CAEP + "token-claims-change", "suspended"), (RISC + "sessions-revoked", "suspended"),
    (RISC + "credential-compromise", "suspended"),
    (RISC + "account-credential-change-required", "suspended"),
    (RISC + "account-disabled", "disabled"),
    (RISC + "account-purged", "disabled"),
])
def test_an_event_ends_what_the_person_has(shop, transmitter, ada, event, state):
    with ada.connect() as connection:
        token = transmitter.event(event, ada.iss_sub(transmitter), {"change_type": "revoke"})
        assert push(shop, token) == (202, None)
        wait_until(lambda: is_over(connection), "the session ends")
    spec = ada.spec()
    if state == "disabled":
        assert spec["disabled"] and spec["disabled_cause"] == "signal"
    else:
        assert spec["suspended"] == "signal" and not spec["disabled"]
    shop.gateway.run("runs", "start", "--name", "again", "--for", ada.name, expect=3)
    last = recorded(shop, event.rsplit("/", 1)[1])[-1]
    assert (last["effect"], last["people"], last["provider"]) == (state, [ada.name], "corp")


@pytest.mark.parametrize("subject", ["email", "alias", "opaque", "complex", "in the event"])
def test_people_are_found_however_they_are_named(shop, transmitter, ada, subject):
    named = {
        "email": ada.email(),
        "alias": {"format": "email", "email": f"ALIAS-{ada.name}"},
        "opaque": {"format": "opaque", "id": ada.user["id"]},
        "complex": {"format": "complex", "user": ada.iss_sub(transmitter),
                    "session": {"format": "opaque", "id": "s-1"}},
        "in the event": None,
    }[subject]
    payload = {"subject": ada.email()} if named is None else {}
    assert push(shop, transmitter.event(CAEP + "session-revoked", named, payload))[0] == 202
    assert ada.spec()["suspended"] == "signal"


def test_what_a_signal_disabled_a_signal_enables_but_not_against_scim(shop, scim, transmitter, ada):
    disabled = RISC + "account-disabled"
    enabled = RISC + "account-enabled"
    push(shop, transmitter.event(disabled, ada.email()))
    assert ada.spec()["disabled"]
    assert push(shop, transmitter.event(enabled, ada.email()))[0] == 202
    assert not ada.spec()["disabled"]
    push(shop, transmitter.event(disabled, ada.email()))
    scim.set_active(ada.user, False)
    push(shop, transmitter.event(enabled, ada.email()))
    assert ada.spec()["disabled"]


def test_an_event_is_taken_once(shop, transmitter, ada):
    token = transmitter.event(RISC + "account-disabled", ada.email())
    assert push(shop, token)[0] == 202
    shop.gateway.run("users", "enable", ada.name)
    assert push(shop, token) == (202, None)
    assert not ada.spec()["disabled"]


def test_a_new_credential_ends_nothing(shop, transmitter, ada):
    with ada.connect() as connection:
        event = transmitter.event(CAEP + "credential-change", ada.email(),
                                  {"change_type": "create"})
        assert push(shop, event)[0] == 202
        assert recorded(shop, "credential-change")[-1]["effect"] == "none"
        connection.execute("select 1")
    assert "suspended" not in ada.spec()


def test_unknown_events_and_people_are_recorded_and_change_nothing(shop, transmitter, ada):
    before = ada.spec()
    assert push(shop, transmitter.event("https://example.com/event/strange", ada.email()))[0] == 202
    nobody = {"format": "email", "email": "nobody@corp.example"}
    assert push(shop, transmitter.event(CAEP + "session-revoked", nobody))[0] == 202
    unread = {"format": "phone_number", "phone_number": "+1"}
    assert push(shop, transmitter.event(CAEP + "session-revoked", unread))[0] == 202
    # ada@example.com is not this provider's.
    local = {"format": "email", "email": "ada@example.com"}
    assert push(shop, transmitter.event(RISC + "account-disabled", local))[0] == 202
    assert not shop.gateway.json("get", "user", "ada@example.com")["disabled"]
    assert ada.spec() == before
    assert recorded(shop, "strange")[-1]["effect"] == "none"
    last = recorded(shop, "session-revoked")[-1]
    assert (last["effect"], last["people"]) == ("none", [])


@pytest.fixture
def lin(shop, request):
    """A person of the other provider, without groups."""
    name = f"q{abs(hash(request.node.name)) % 10**8}@other.example"
    return Person(shop, Scim(shop.gateway, "other").create_user(name))


def change_claims(shop, other, person, claims):
    event = other.event(CAEP + "token-claims-change", person.email(), {"claims": claims})
    assert push(shop, event, token=None) == (202, None)
    return recorded(shop, "token-claims-change")[-1]["effect"]


def test_changed_claims_that_tell_the_groups_are_taken_over(shop, other, lin):
    assert change_claims(shop, other, lin, {"groups": ["Agents", "Others"]}) == "reevaluated"
    with lin.connect() as connection:
        again = {"groups": ["Agents"], "locale": "de"}
        assert change_claims(shop, other, lin, again) == "reevaluated"
        assert not is_over(connection)
        assert lin.spec()["groups"] == ["agents"]
        # Out of the group that lets it in: what is open is decided anew.
        assert change_claims(shop, other, lin, {"groups": []}) == "reevaluated"
        spec = lin.spec()
        assert not spec.get("groups") and "suspended" not in spec
        with pytest.raises(psycopg.Error):
            connection.execute("select 1")


@pytest.mark.parametrize("claims", [
    {}, {"locale": "de"}, {"groups": ["Agents"], "email": "x@corp.example"},
    {"groups": ["Agents"], "sub": "x"}, {"groups": ["Agents"], "email_verified": False},
    {"groups": {"Agents": True}}, {"groups": ["g"] * 2_000}, ["groups"],
], ids=["none", "others", "email", "sub", "unverified", "no list", "too many", "no object"])
def test_changed_claims_that_do_not_suffice_suspend(shop, other, lin, claims):
    assert change_claims(shop, other, lin, claims) == "suspended"
    assert lin.spec()["suspended"] == "signal"


def test_where_scim_says_the_groups_changed_claims_change_nothing(shop, transmitter, ada):
    with ada.connect() as connection:
        before = ada.spec()
        for claims in ({"groups": []}, {"groups": ["Others"], "role": "x"}, {"locale": "de"}):
            event = transmitter.event(CAEP + "token-claims-change", ada.email(), {"claims": claims})
            assert push(shop, event) == (202, None)
            last = recorded(shop, "token-claims-change")[-1]
            assert (last["effect"], last["people"]) == ("none", [ada.name])
        assert ada.spec() == before and not is_over(connection)


@pytest.mark.parametrize("claims", [
    {}, {"email": "x@corp.example"}, {"groups": [], "sub": "x"}, {"email_verified": False},
], ids=["none", "email", "sub", "unverified"])
def test_where_scim_says_the_groups_claims_that_name_the_person_suspend(shop, transmitter, ada,
                                                                        claims):
    event = transmitter.event(CAEP + "token-claims-change", ada.email(), {"claims": claims})
    assert push(shop, event) == (202, None)
    assert ada.spec()["suspended"] == "signal"


def test_one_provider_ends_nobody_of_another(shop, transmitter, other, ada):
    for subject in (ada.email(), {"format": "opaque", "id": ada.user["id"]},
                    ada.iss_sub(transmitter)):
        assert push(shop, other.event(RISC + "account-disabled", subject), token=None)[0] == 202
    assert not ada.spec()["disabled"]


def test_events_that_are_not_the_transmitters_are_refused(shop, transmitter, other, ada):
    now = int(time.time())

    def check(error, status=400, token=SIGNALS_TOKEN, key=None, header=None, **claims):
        made = transmitter.event(RISC + "account-disabled", ada.email(), key=key, header=header,
                                 **claims)
        found, body = push(shop, made, token=token)
        assert (found, body and body["err"]) == (status, error), body
        assert body["description"]

    check("authentication_failed", status=401, token=None)
    check("authentication_failed", status=401, token="wrong")
    check("invalid_issuer", iss="https://nobody.example")
    check("invalid_audience", aud="https://elsewhere.example")
    check("invalid_key", key=SigningKey())
    forged = SigningKey()
    forged.key_id = transmitter.key.key_id
    check("invalid_key", key=forged)
    check("invalid_key", key=other.key)
    check("invalid_request", header={"typ": "JWT"})
    check("invalid_request", header={"typ": "at+jwt"})
    check("invalid_request", jti=None)
    check("invalid_request", iat=None)
    check("invalid_request", iat=now - 2 * 24 * 3600)
    check("invalid_request", iat=now + 3600)
    check("invalid_request", exp=now - 3600)
    check("invalid_request", events={})
    check("invalid_request", events=None)
    check("invalid_request", sub_id="ada")
    assert not ada.spec()["disabled"]


def test_an_event_whose_keys_cannot_be_fetched_is_taken_when_it_comes_again(shop):
    with Transmitter() as late:
        late.is_away = True
        shop.gateway.apply(provider(late, "late", token=False))
        event = late.event(RISC + "account-disabled", {"format": "opaque", "id": "nobody"})
        status, body = push(shop, event, token=None)
        assert status == 503 and body["err"] and "again" in body["description"], body
        assert not [one for one in shop.gateway.events("--event", "principal.refused")
                    if one["name"] == "late"]
        late.is_away = False
        wait_until(lambda: push(shop, event, token=None)[0] == 202, "the keys are there")
        assert [one["provider"] for one in recorded(shop, "account-disabled")].count("late") == 1


def test_what_is_no_token_is_refused_in_the_form_of_rfc_8935(shop, transmitter):
    good = transmitter.event(CAEP + "session-revoked", {"format": "opaque", "id": "x"})
    header, claims, _ = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"secevent+jwt"}').rstrip(b"=").decode()
    for token in ["", "x", "a.b.c", f"{none}.{claims}.", f"{header}.{claims}.", "x" * 60_000]:
        status, body = push(shop, token)
        assert status == 400 and body["err"] in ("invalid_request", "invalid_key"), body
    assert push(shop, "x" * 100_000)[0] == 413
    status, body = post(shop, "/ssf/events", good, "application/json")
    assert (status, body["err"]) == (400, "invalid_request")


# -- global token revocation

def test_a_revocation_suspends_the_person(shop, transmitter, ada):
    with ada.connect() as connection:
        assert revoke(shop, ada.iss_sub(transmitter)) == (204, None)
        wait_until(lambda: is_over(connection), "the session ends")
    assert ada.spec()["suspended"] == "revoked"
    assert revoke(shop, ada.email()) == (204, None)
    suspended = [event for event in shop.gateway.events("--event", "principal.suspended")
                 if event["name"] == ada.name]
    assert len(suspended) == 1 and suspended[0]["cause"] == "revoked"


def test_a_revocation_is_authenticated_by_a_jwt_once(shop, transmitter, ada):
    token = transmitter.revocation()
    assert revoke(shop, {"format": "opaque", "id": ada.user["id"]}, token=token)[0] == 204
    assert ada.spec()["suspended"] == "revoked"
    assert revoke(shop, ada.email(), token=token)[0] == 401


def test_a_revocation_by_anybody_else_is_refused(shop, transmitter, ada):
    now = int(time.time())
    for token in [None, "wrong", shop.gateway.admin_token(), SCIM_TOKEN,
                  transmitter.revocation(aud="https://elsewhere.example"),
                  transmitter.revocation(iss="https://nobody.example"),
                  transmitter.revocation(exp=now - 3600), transmitter.revocation(exp=None),
                  transmitter.revocation(jti=None), transmitter.revocation(iat=now - 3600),
                  transmitter.event(CAEP + "session-revoked", ada.email()),
                  SigningKey().sign({"typ": "JWT"}, {"iss": transmitter.issuer})]:
        status, body = revoke(shop, ada.email(), token=token)
        assert (status, body["error"]) == (401, "invalid_token"), (token, body)
    assert "suspended" not in ada.spec()


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"sub_id": "ada"}',
                                  '{"sub_id": {"format": "phone_number", "phone_number": "1"}}'])
def test_a_revocation_that_names_nobody_in_a_known_form_is_refused(shop, body):
    status, answer = post(shop, "/oauth2/global-token-revocation", body, "application/json")
    assert (status, answer["error"]) == (400, "invalid_request"), answer


def test_a_revocation_of_nobody_is_told_and_recorded(shop):
    status, body = revoke(shop, {"format": "email", "email": "nobody@corp.example"})
    assert (status, body["error"]) == (404, "unknown_subject")
    assert recorded(shop, "global-token-revocation")[-1]["effect"] == "none"
    for subject in [None, "ada", {}, {"format": "email"}, {"format": "did", "url": "x"},
                    {"format": "opaque", "id": "x" * 1000}]:
        status, body = revoke(shop, subject)
        assert (status, body["error"]) == (400, "invalid_request"), subject
    assert post(shop, "/oauth2/global-token-revocation", "{", "application/json")[0] == 400


# -- floods

def test_a_burst_of_forged_events_is_recorded_once_and_hides_no_good_one(shop, other):
    """From one address, for one provider; a provider that nobody has is answered the same."""
    def refusals():
        return [event for event in shop.gateway.events("--event", "principal.refused")
                if "an event is not taken" in event["reason"]]

    before = len(refusals())
    local = {"format": "email", "email": "nobody@example.com"}
    for claims in ({}, {"iss": "https://flood.example"}):
        forged = other.event(CAEP + "session-revoked", local, key=SigningKey(), **claims)
        answers = [push(shop, forged, token=None) for _ in range(40)]
        assert [status for status, _ in answers] == [400] * 20 + [429] * 20
        assert answers[-1][1]["err"] == "access_denied"
    recorded_now = refusals()[before:]
    assert len(recorded_now) == 21 and "sends too many" in recorded_now[-1]["reason"]
    assert len({event["name"] for event in recorded_now}) == 1
    good = other.event(CAEP + "session-revoked", local)
    assert push(shop, good, token=None)[0] == 202
