"""People from an OpenID provider: let in, kept out, and ended, each with real clients."""

import base64
import concurrent.futures
import contextlib
import hashlib
import json
import pathlib
import secrets
import shutil
import time
import urllib.parse

import psycopg
import pytest

from harness.oidc import (AUDIENCE, CLIENT_ID, JOB_ID, Browser, RealProvider, ScriptedProvider,
                          SigningKey, node_module)
from harness.shop import Shop
from harness.waiting import wait_until

CREATE = "groups: {team: agents, boss: dba}\nsign_in: create\n"
FAST = "identity_recheck_interval: 1s\n"
REDIRECT = "http://127.0.0.1:9/callback"


@pytest.fixture(scope="module")
def place(server):
    with Shop(server, config=FAST) as shop, ScriptedProvider() as provider:
        shop.gateway.apply(provider.manifest(more=CREATE))
        yield shop, provider


class SignIn:
    """A sign-in as the command line begins it."""

    def __init__(self, gateway, browser=None):
        self.gateway = gateway
        self.browser = browser or Browser(gateway.ready["ca_file"])
        self.verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.query = {
            "response_type": "code", "client_id": "corral-cli", "redirect_uri": REDIRECT,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256", "state": "st-1",
        }

    @property
    def api(self):
        return self.gateway.ready["api"]

    def begin(self, **changes):
        query = urllib.parse.urlencode(self.query | changes)
        return self.browser.get(f"{self.api}/oauth2/authorize?{query}")

    def callback(self, answer, name="corp", browser=None):
        query = urllib.parse.urlencode(answer)
        return (browser or self.browser).get(f"{self.api}/auth/callback/{name}?{query}")

    def redeem(self, location, **changes):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query))
        assert query["state"] == "st-1"
        form = {"grant_type": "authorization_code", "client_id": "corral-cli",
                "code": query["code"], "redirect_uri": REDIRECT,
                "code_verifier": self.verifier} | changes
        answer = self.browser.post(f"{self.api}/oauth2/token", form)
        return answer.status, json.loads(answer.text)

    def token(self, provider, name="corp"):
        answer = provider.answer(self.begin(provider=name).location)
        location = self.callback(answer, name).headers["location"]
        status, answer = self.redeem(location)
        assert status == 200, answer
        return answer["access_token"]


def sign_in(place, sub, groups=("team",), **more):
    shop, provider = place
    provider.is_person(sub, f"{sub}@example.com", groups, **more)
    return SignIn(shop.gateway).token(provider)


def user(shop, name):
    return shop.gateway.json("get", "user", f"{name}@example.com")


def cli_address(process):
    """The address that a waiting command line shows."""
    while line := process.stderr.readline():
        for word in line.split():
            if word.startswith("https://"):
                return word
    raise AssertionError("the command line shows no address")


def test_a_person_signs_in_with_the_command_line(place):
    shop, provider = place
    provider.is_person("sub-lin", "Lin@example.com", ["team", "unknown"])
    command = shop.gateway.background("login", "-o", "json")
    try:
        browser = Browser(shop.gateway.ready["ca_file"])
        sent = browser.get(cli_address(command))
        assert sent.status == 303, sent.text
        cookie = sent.headers["set-cookie"]
        for part in ("__Host-corral-sign-in=", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert part in cookie
        answer = SignIn(shop.gateway, browser).callback(provider.answer(sent.location))
        assert answer.status == 303, answer.text
        assert "signed in" in browser.get(answer.location).text
        output, errors = command.communicate(timeout=20)
        assert command.returncode == 0, errors
    finally:
        command.kill()
    token = json.loads(output)["token"]
    whoami = shop.gateway.json("whoami", token=token)
    assert whoami["name"] == "lin@example.com"
    assert (whoami["groups"], whoami["provider"]) == (["agents"], "corp")
    assert shop.psql("plain-db", "select 1", token=token).stdout.strip() == "1"
    listed = shop.gateway.run("users", "list").stdout
    assert any("lin@example.com" in line and "active" in line and "corp" in line
               for line in listed.splitlines()), listed
    events = shop.gateway.events("--event", "principal.signed_in")
    mine = [event for event in events if event["name"] == "lin@example.com"]
    assert [(event["method"], event["provider"]) for event in mine] == [("browser", "corp")]


def test_a_device_is_signed_in_by_whoever_says_yes_in_the_same_browser(place):
    shop, provider = place
    provider.is_person("sub-dev", "dev@example.com", ["team"])
    command = shop.gateway.background("login", "--device", "-o", "json")
    try:
        browser = Browser(shop.gateway.ready["ca_file"])
        page = browser.get(cli_address(command))
        action, _ = page.form()
        shown = next(line for line in iter(command.stderr.readline, "") if "user_code=" in line)
        code = shown.split("user_code=")[1].split()[0]
        assert browser.post(action, {"user_code": "BBBB-BBBB"}).status == 404
        choose = browser.post(action, {"user_code": code.lower()})
        [link] = choose.links()
        sent = browser.get(link)
        confirm = SignIn(shop.gateway, browser).callback(provider.answer(sent.location))
        assert confirm.status == 200 and code in confirm.text
        assert "script" not in confirm.text
        policy = confirm.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        action, fields = confirm.form()
        stranger = Browser(shop.gateway.ready["ca_file"])
        assert stranger.post(action, fields | {"answer": "allow"}).status == 400
        assert browser.post(action, fields | {"answer": "allow"}).status == 200
        output, errors = command.communicate(timeout=30)
        assert command.returncode == 0, errors
    finally:
        command.kill()
    whoami = shop.gateway.json("whoami", token=json.loads(output)["token"])
    assert whoami["name"] == "dev@example.com"


def test_a_refused_device_gets_nothing(place):
    shop, provider = place
    provider.is_person("sub-dev", "dev@example.com", ["team"])
    browser = Browser(shop.gateway.ready["ca_file"])
    api = shop.gateway.ready["api"]
    asked = browser.post(f"{api}/oauth2/device_authorization", {"client_id": "corral-cli"})
    device = json.loads(asked.text)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "client_id": "corral-cli", "device_code": device["device_code"]}

    def poll():
        return json.loads(browser.post(f"{api}/oauth2/token", form).text)["error"]

    assert [poll(), poll()] == ["authorization_pending", "slow_down"]
    [link] = browser.get(device["verification_uri_complete"]).links()
    sent = browser.get(link)
    confirm = SignIn(shop.gateway, browser).callback(provider.answer(sent.location))
    action, fields = confirm.form()
    assert browser.post(action, fields | {"answer": "deny"}).status == 200
    assert wait_until(lambda: (p := poll()) != "slow_down" and p, "an answer") == "access_denied"
    assert poll() == "expired_token"


BAD_TOKENS = {
    "another audience": {"aud": "other"},
    "several audiences": {"aud": ["corral", "other"]},
    "issued to another party": {"azp": "other"},
    "another issuer": {"iss": "https://evil.example"},
    "another question": {"nonce": "other"},
    "no nonce": {"nonce": None},
    "expired": {"exp": 1_000_000_000},
    "no subject": {"sub": None},
    "an address that nobody verified": {"email_verified": False},
    "a word for verified": {"email_verified": "true"},
    "no address": {"email": None},
    "groups that are none": {"groups": {"team": True}},
    "ten thousand groups": {"groups": [f"g{n}" for n in range(10_000)]},
    "somebody's local account": {"email": "ada@example.com"},
}


@pytest.mark.parametrize("changes", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_an_id_token_is_refused(place, changes):
    shop, provider = place
    provider.is_person("sub-bad", "bad@example.com", ["team"])
    provider.changes = changes
    try:
        attempt = SignIn(shop.gateway)
        answer = attempt.callback(provider.answer(attempt.begin().location))
    finally:
        provider.changes = {}
    assert answer.status == 403, answer.text
    assert "location" not in answer.headers
    shop.gateway.run("get", "user", "bad@example.com", expect=4)


def test_an_unsigned_or_foreign_token_is_refused(place):
    shop, provider = place
    provider.is_person("sub-bad", "bad@example.com", ["team"])
    own = provider.key
    for header, key in (({"alg": "none"}, own), ({"alg": "HS256"}, own), ({}, SigningKey())):
        attempt = SignIn(shop.gateway)
        location = attempt.begin().location
        provider.header = header
        real_kid, provider.key = own.kid, key
        key.kid = real_kid
        # The keys that are published stay the provider's own.
        jwk = own.jwk()
        key.jwk, saved = (lambda: jwk), key.jwk
        try:
            answer = attempt.callback(provider.answer(location))
        finally:
            provider.header, provider.key, key.jwk = {}, own, saved
        assert answer.status == 403, (header, answer.text)


def test_an_answer_counts_once_and_in_its_own_browser(place):
    shop, provider = place
    provider.is_person("sub-once", "once@example.com", ["team"])
    attempt = SignIn(shop.gateway)
    answer = provider.answer(attempt.begin().location)
    stranger = Browser(shop.gateway.ready["ca_file"])
    assert attempt.callback(answer, browser=stranger).status == 403
    assert attempt.callback(answer | {"iss": "https://evil.example"}).status == 403
    assert attempt.callback(answer).status == 403, "the wrong issuer used it up"
    answer = provider.answer(attempt.begin().location)
    location = attempt.callback(answer).headers["location"]
    assert attempt.callback(answer).status == 403
    assert attempt.callback({"code": "x", "state": "never"}).status == 403
    status, body = attempt.redeem(location, code_verifier=secrets.token_urlsafe(48))
    assert (status, body["error"]) == (400, "invalid_grant")
    assert attempt.redeem(location)[1]["error"] == "invalid_grant", "the wrong proof used it up"
    denied = attempt.begin().location
    state = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(denied).query))["state"]
    assert attempt.callback({"error": "access_denied", "state": state}).status == 403


def test_nobody_else_is_sent_a_code(place):
    shop, _ = place
    for changes in ({"redirect_uri": "https://evil.example/callback"},
                    {"redirect_uri": "http://localhost:80/callback"},
                    {"client_id": "other"}, {"code_challenge_method": "plain"},
                    {"code_challenge": ""}, {"response_type": "token"}):
        answer = SignIn(shop.gateway).begin(**changes)
        assert (answer.status, answer.headers["location"]) == (400, None), changes


def test_a_provider_that_fails_lets_nobody_in_and_keeps_nobody_waiting(place):
    shop, provider = place
    provider.is_person("sub-lin", "lin@example.com", ["team"])
    for mode in ("error", "huge", "hang"):
        attempt = SignIn(shop.gateway)
        answer = provider.answer(attempt.begin().location)
        provider.mode = mode
        started = time.monotonic()
        try:
            answer = attempt.callback(answer)
        finally:
            provider.mode = "ok"
        assert answer.status == 503, (mode, answer.text)
        assert time.monotonic() - started < 10


def test_groups_are_those_of_the_last_sign_in(place):
    shop, _ = place
    token = sign_in(place, "sub-groups", ["team", "boss"])
    assert user(shop, "sub-groups")["groups"] == ["agents", "dba"]
    assert shop.psql("plain-db", "select 1", token=token).stdout.strip() == "1"
    sign_in(place, "sub-groups", ["boss"])
    assert user(shop, "sub-groups")["groups"] == ["dba"]
    shop.psql("plain-db", "select 1", token=token, expect=2)


def test_a_group_counts_by_a_name_that_groups_can_have(server):
    with Shop(server) as shop, ScriptedProvider() as provider:
        place, told = (shop, provider), ["agents", "R&D (all)", "über"]
        shop.gateway.apply(provider.manifest(more="sign_in: create\n"))
        sign_in(place, "sub-named", told)
        assert user(shop, "sub-named")["groups"] == ["agents"]
        mapped = 'groups: {"R&D (all)": dba, agents: agents}\nsign_in: create\n'
        shop.gateway.apply(provider.manifest(more=mapped))
        sign_in(place, "sub-named", told)
        assert sorted(user(shop, "sub-named")["groups"]) == ["agents", "dba"]
        # Where none are named at all, the person is in none.
        provider.changes = {"groups": None}
        sign_in(place, "sub-named", told)
        assert not user(shop, "sub-named").get("groups")


def test_a_user_of_a_manifest_is_linked_only_where_it_says_so(place):
    shop, provider = place
    shop.gateway.apply("kind: User\nname: kay@example.com\nprovider: corp\n")
    token = sign_in(place, "kay")
    assert shop.gateway.json("whoami", token=token)["name"] == "kay@example.com"
    linked = user(shop, "kay")["identity"]
    assert linked == {"provider": "corp", "subject": "kay"}
    # The manifest again, and one without her: neither takes anything from her.
    shop.gateway.apply("kind: User\nname: kay@example.com\nprovider: corp\n")
    assert user(shop, "kay")["groups"] == ["agents"]
    # Another person with her address is not her.
    provider.is_person("somebody else", "kay@example.com", ["boss"])
    attempt = SignIn(shop.gateway)
    assert attempt.callback(provider.answer(attempt.begin().location)).status == 403
    assert user(shop, "kay")["identity"] == linked


def test_with_several_providers_the_person_chooses(place):
    shop, provider = place
    second = provider.manifest("second", "sign_in: create\n").replace(
        "  groups_claim: groups\n", "  groups_claim: groups\n  user_claim: nickname\n")
    shop.gateway.apply(second)
    try:
        shop.gateway.run("login", "--provider", "nowhere", expect=4)
        attempt = SignIn(shop.gateway)
        page = attempt.begin()
        assert page.status == 200 and page.text.count("<a ") == 2
        # A name that is no verified address makes people, but links nobody.
        shop.gateway.apply("kind: User\nname: amy@example.com\nprovider: second\n")
        for nickname, status in (("amy@example.com", 403), ("admin", 403), ("zed", 303)):
            provider.is_person(f"nick-{nickname}", "x@example.com", nickname=nickname)
            [link] = [link for link in attempt.begin().links() if "provider=second" in link]
            sent = attempt.browser.get(link)
            arrived = attempt.callback(provider.answer(sent.location), name="second")
            assert arrived.status == status, (nickname, arrived.text)
        # An answer for one provider is none for the other.
        other = attempt.begin(provider="second")
        assert attempt.callback(provider.answer(other.location), name="corp").status == 403
    finally:
        shop.gateway.run("delete", "user", "amy@example.com")
        shop.gateway.run("delete", "user", "zed")
        shop.gateway.run("delete", "identityprovider", "second")


def test_a_local_account_is_break_glass_and_says_so(place):
    shop, _ = place
    shop.gateway.login("grace@example.com", shop.env["GRACE_PASSWORD"])
    events = shop.gateway.events("--event", "principal.signed_in")
    mine = [event for event in events if event["name"] == "grace@example.com"]
    assert mine[-1]["break_glass"] is True


def test_a_new_key_of_the_provider_is_taken(place):
    shop, provider = place
    sign_in(place, "sub-keys")
    provider.key = SigningKey()

    def again():
        with contextlib.suppress(KeyError, AssertionError, TypeError, AttributeError):
            return sign_in(place, "sub-keys")
        return None

    # The provider is asked for keys once in ten seconds at most.
    assert wait_until(again, "a token by the new key is taken", 20)


@contextlib.contextmanager
def busy_session(shop, token):
    """A session that waits for the target; gives what it ended with."""
    marker = f"busy-{secrets.token_hex(4)}"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        connection = shop.connect("plain-db", token=token)
        try:
            query = f"select pg_sleep(60) /* {marker} */"
            waiting = pool.submit(connection.execute, query)

            def at_target():
                text = ("select count(*) from pg_stat_activity where state = 'active' and "
                        f"query like '%{marker}%' and pid <> pg_backend_pid()")
                with shop.owner() as owner:
                    return owner.execute(text).fetchone()[0]

            wait_until(at_target, "the query runs at the target")
            yield waiting, at_target
        finally:
            connection.close()


def assert_ended(waiting, at_target):
    with pytest.raises(psycopg.errors.AdminShutdown) as ended:
        waiting.result(10)
    assert ended.value.sqlstate == "57P01"
    wait_until(lambda: not at_target(), "nothing runs at the target")


def suspensions(shop, name):
    events = shop.gateway.events("--event", "principal.suspended")
    return [event["cause"] for event in events if event["name"] == f"{name}@example.com"]


def test_a_grant_that_is_over_ends_everything_until_the_next_sign_in(place):
    shop, provider = place
    token = sign_in(place, "sub-gone")
    run = shop.gateway.start_run("job", token)
    with busy_session(shop, run["token"]) as (waiting, at_target):
        provider.grants.clear()
        assert_ended(waiting, at_target)
    assert user(shop, "sub-gone")["suspended"] == "refresh_failed"
    assert "suspended (refresh_failed)" in shop.gateway.run("users", "list").stdout
    shop.gateway.run("whoami", token=token, expect=3)
    again = sign_in(place, "sub-gone")
    assert "suspended" not in user(shop, "sub-gone")
    assert shop.psql("plain-db", "select 1", token=again).stdout.strip() == "1"
    shop.gateway.run("whoami", token=token, expect=3)
    assert suspensions(shop, "sub-gone") == ["refresh_failed"]


def test_a_provider_that_cannot_answer_is_no_refusal(place):
    shop, provider = place
    token = sign_in(place, "sub-stays")
    for mode in ("error", "huge"):
        provider.mode = mode
        asked = len(provider.asked)
        try:
            wait_until(lambda: len(provider.asked) > asked + 1, "the gateway asks")
        finally:
            provider.mode = "ok"
        assert shop.gateway.json("whoami", token=token)["name"] == "sub-stays@example.com"
    assert suspensions(shop, "sub-stays") == []


def test_rotated_grants_are_kept_and_groups_follow(place):
    shop, provider = place
    sign_in(place, "sub-rotates")
    provider.person["groups"] = ["boss"]
    wait_until(lambda: user(shop, "sub-rotates")["groups"] == ["dba"], "the groups follow")
    asked = len(provider.asked)
    wait_until(lambda: len(provider.asked) > asked + 2, "the rotated grant is used")
    assert suspensions(shop, "sub-rotates") == []


def test_groups_may_stand_in_the_userinfo_alone(server):
    with Shop(server, config=FAST) as shop, ScriptedProvider() as provider:
        place = shop, provider
        shop.gateway.apply(provider.manifest(more=CREATE))
        provider.changes = {"groups": None}
        provider.userinfo = {"sub": "sub-info", "groups": ["team"], "email": "other@example.com"}
        token = sign_in(place, "sub-info")
        assert user(shop, "sub-info")["groups"] == ["agents"]
        # Nothing but the groups is taken from there, and they follow.
        assert shop.gateway.json("whoami", token=token)["name"] == "sub-info@example.com"
        provider.userinfo = provider.userinfo | {"groups": ["boss"]}
        wait_until(lambda: user(shop, "sub-info")["groups"] == ["dba"], "the groups follow", 20)
        # One that fails is no answer: neither groups nor suspension come of it.
        for broken in (500, {"groups": [], "sub": 7, "x": "x" * 300_000}, 302):
            provider.userinfo = broken
            asked = len(provider.asked)
            wait_until(lambda: len(provider.asked) > asked + 1, "it is asked", 20)
            assert user(shop, "sub-info")["groups"] == ["dba"]
            assert "suspended" not in user(shop, "sub-info")
        # The ID token's own groups count before those of the userinfo.
        provider.userinfo = {"sub": "sub-info", "groups": ["boss"]}
        provider.changes = {"groups": ["team"]}
        wait_until(lambda: user(shop, "sub-info")["groups"] == ["agents"], "the ID token's", 20)
        provider.changes = {"groups": None}
        # Of somebody else it says nothing about this person.
        provider.userinfo = {"sub": "sub-other", "groups": ["boss"]}
        wait_until(lambda: user(shop, "sub-info").get("suspended") == "refresh_failed",
                   "what speaks of somebody else is refused", 20)
        assert user(shop, "sub-info")["groups"] == ["agents"]


@pytest.mark.parametrize("told, words", [
    ({"sub": "sub-other", "groups": ["team"]}, "somebody else"), ({"groups": ["team"]}, "else"),
    (500, None), (302, None), ({"sub": "sub-in", "groups": ["x" * 300_000]}, None),
], ids=["another", "nobody", "broken", "redirect", "huge"])
def test_a_userinfo_that_is_not_the_persons_lets_nobody_in(server, told, words):
    with Shop(server) as shop, ScriptedProvider() as provider:
        shop.gateway.apply(provider.manifest(more=CREATE))
        provider.changes, provider.userinfo = {"groups": None}, told
        provider.is_person("sub-in", "sub-in@example.com", ["team"])
        attempt = SignIn(shop.gateway)
        answer = attempt.callback(provider.answer(attempt.begin().location))
        assert answer.status in (403, 503), (answer.status, answer.text)
        assert all(one["name"] != "sub-in@example.com" for one in shop.gateway.json("users", "list"))
        refused = [event["reason"] for event in
                   shop.gateway.events("--event", "principal.refused")]
        assert words is None or any(words in reason for reason in refused), refused


def test_ten_thousand_groups_let_nobody_in(server):
    with Shop(server, config=FAST) as shop, ScriptedProvider() as provider:
        place = shop, provider
        shop.gateway.apply(provider.manifest(more=CREATE))
        many = [f"g{number}" for number in range(10_000)]
        # The token is too large; the list is too long; the same from the userinfo endpoint.
        cases = [(many, None, 403), (many[:2_000], None, 403), (None, many, 403),
                 (["team"] + many[:999], None, 303)]
        for groups, told, status in cases:
            provider.is_person("sub-many", "sub-many@example.com", groups or ())
            provider.changes = {"groups": groups}
            provider.userinfo = {"sub": "sub-many", "groups": told}
            attempt = SignIn(shop.gateway)
            answer = attempt.callback(provider.answer(attempt.begin().location))
            assert answer.status == status, answer.text
        refused = [event["reason"] for event in
                   shop.gateway.events("--event", "principal.refused")]
        assert len(refused) == 3, refused
        for number in (2_000, 10_000):
            assert any(f"has {number} groups; at most 1000" in reason for reason in refused)
        assert "agents" in user(shop, "sub-many")["groups"]
        # Who has so many at a later look is suspended: what they are cannot be told.
        token = sign_in(place, "sub-many")
        shop.gateway.json("whoami", token=token)
        provider.changes = {"groups": many[:2_000]}
        wait_until(lambda: user(shop, "sub-many").get("suspended") == "refresh_failed",
                   "the person is suspended", 20)


def test_a_provider_that_hangs_delays_nobody_elses_people(server):
    with Shop(server, config=FAST) as shop, ScriptedProvider() as slow, ScriptedProvider() as fine:
        slow.mode = "hang refresh"
        shop.gateway.apply(slow.manifest("slow", more=CREATE))
        # More of them than are asked after at once: one look at all takes fifteen seconds.
        for number in range(20):
            slow.is_person(f"slow-{number}", f"slow-{number}@example.com", ["team"])
            SignIn(shop.gateway).token(slow, "slow")
        wait_until(lambda: slow.asked.count("refresh_token") >= 8, "the slow one is asked", 20)
        shop.gateway.apply(fine.manifest("fine", more=CREATE))
        fine.is_person("quick", "quick@example.com", ["team"])
        SignIn(shop.gateway).token(fine, "fine")
        asked = len(fine.asked)
        wait_until(lambda: len(fine.asked) > asked + 1, "it is asked after, again and again", 12)
        fine.grants.clear()
        wait_until(lambda: user(shop, "quick").get("suspended") == "refresh_failed",
                   "its refusal is acted on at once", 12)
        assert "suspended" not in user(shop, "slow-0")


def logout(shop, token):
    url = f"{shop.gateway.ready['api']}/oidc/backchannel-logout"
    return Browser(shop.gateway.ready["ca_file"]).post(url, {"logout_token": token})


@pytest.mark.parametrize("by", ["sub", "sid"])
def test_a_logout_at_the_provider_ends_everything_here(place, by):
    shop, provider = place
    name = f"sub-out-{by}"
    token = sign_in(place, name, sid=f"session-of-{by}")
    means = {"sub": name} if by == "sub" else {"sid": f"session-of-{by}"}
    with busy_session(shop, token) as (waiting, at_target):
        shown = provider.logout_token(**means)
        assert logout(shop, shown).status == 200
        assert_ended(waiting, at_target)
    assert user(shop, name)["suspended"] == "logout"
    shop.gateway.run("whoami", token=token, expect=3)
    again = sign_in(place, name)
    assert logout(shop, shown).status == 400, "shown before"
    assert shop.gateway.json("whoami", token=again)["provider"] == "corp"
    assert suspensions(shop, name) == ["logout"]


def test_what_is_no_logout_token_ends_nothing(place):
    shop, provider = place
    token = sign_in(place, "sub-in")
    old = int(time.time()) - 3600
    bad = [
        provider.logout_token(sub="sub-in", events={}),
        provider.logout_token(sub="sub-in", nonce="x"),
        provider.logout_token(sub="sub-in", aud="other"),
        provider.logout_token(sub="sub-in", iss="https://evil.example"),
        provider.logout_token(sub="sub-in", iat=old, exp=None),
        provider.logout_token(sub="sub-in", jti=None),
        provider.logout_token(),
        provider.id_token("x"),
        "nonsense", "x" * 100_000,
    ]
    for shown in bad:
        assert logout(shop, shown).status in (400, 413), shown[:40]
    assert shop.gateway.json("whoami", token=token)["name"] == "sub-in@example.com"
    assert logout(shop, provider.logout_token(sub="nobody here")).status == 200


needs_real_provider = pytest.mark.skipif(
    not node_module("oidc-provider").exists(),
    reason="npm's oidc-provider is not installed; run .ci/setup clients")


def sign_in_at(provider, shop, login):
    """A sign-in at the real provider, by its own pages."""
    api = shop.gateway.ready["api"]
    attempt = SignIn(shop.gateway)
    page = attempt.browser.get(attempt.begin().location)
    back = attempt.browser.sign_in_at_real_provider(page, login, f"{api}/auth/callback")
    arrived = attempt.browser.get(back.location)
    assert arrived.status == 303, arrived.text
    status, tokens = attempt.redeem(arrived.headers["location"])
    assert status == 200, tokens
    return attempt.browser, tokens["access_token"]


@needs_real_provider
def test_a_logout_at_a_real_provider_ends_everything_here(server):
    with Shop(server) as shop, RealProvider(shop.gateway.ready["api"]) as provider:
        provider.start(shop.gateway.ready["ca_file"])
        shop.gateway.apply(provider.manifest("sign_in: create\n"))
        browser, token = sign_in_at(provider, shop, "lin")
        whoami = shop.gateway.json("whoami", token=token)
        assert (whoami["name"], whoami["groups"]) == ("lin@example.com", ["agents"])
        with busy_session(shop, token) as (waiting, at_target):
            action, fields = browser.follow(f"{provider.issuer}/session/end", "never").form()
            answer = browser.post(action, fields | {"logout": "yes"})
            assert answer.status in (200, 302, 303), answer.text
            provider.wait_for_line("told of the logout")
            assert_ended(waiting, at_target)
        assert user(shop, "lin")["suspended"] == "logout"


@needs_real_provider
def test_a_real_provider_renews_and_comes_back_with_other_keys(server):
    with Shop(server, config=FAST) as shop, RealProvider(shop.gateway.ready["api"]) as provider:
        provider.start(shop.gateway.ready["ca_file"])
        shop.gateway.apply(provider.manifest("sign_in: create\n"))
        _, token = sign_in_at(provider, shop, "lin")
        for _ in range(3):
            provider.wait_for_line("granted refresh_token")
        assert shop.gateway.json("whoami", token=token)["provider"] == "corp"
        # It forgets everybody, and signs with other keys.
        provider.close()
        provider.start(shop.gateway.ready["ca_file"])
        wait_until(lambda: user(shop, "lin").get("suspended") == "refresh_failed", "it refuses")
        shop.gateway.run("whoami", token=token, expect=3)

        def again():
            with contextlib.suppress(AssertionError, TypeError):
                return sign_in_at(provider, shop, "lin")
            return None

        _, token = wait_until(again, "its new keys are taken", 20)
        assert shop.psql("plain-db", "select 1", token=token).stdout.strip() == "1"


@needs_real_provider
def test_a_device_is_signed_in_at_a_real_provider(server):
    with Shop(server) as shop, RealProvider(shop.gateway.ready["api"]) as provider:
        provider.start(shop.gateway.ready["ca_file"])
        shop.gateway.apply(provider.manifest("sign_in: create\n"))
        command = shop.gateway.background("login", "--device", "-o", "json")
        try:
            shown = next(word for line in iter(command.stderr.readline, "")
                         for word in line.split() if "user_code=" in word)
            browser = Browser(shop.gateway.ready["ca_file"])
            [link] = browser.get(shown).links()
            page = browser.get(browser.get(link).location)
            callback = f"{shop.gateway.ready['api']}/auth/callback"
            back = browser.sign_in_at_real_provider(page, "dev", callback)
            action, fields = browser.get(back.location).form()
            assert browser.post(action, fields | {"answer": "allow"}).status == 200
            output, errors = command.communicate(timeout=30)
            assert command.returncode == 0, errors
        finally:
            command.kill()
        whoami = shop.gateway.json("whoami", token=json.loads(output)["token"])
        assert (whoami["name"], whoami["groups"]) == ("dev@example.com", ["agents"])


@needs_real_provider
def test_a_client_of_a_real_provider_starts_a_run(server):
    with Shop(server) as shop, RealProvider(shop.gateway.ready["api"]) as provider:
        provider.start(shop.gateway.ready["ca_file"])
        shop.gateway.apply(f"""
kind: User
name: lin@example.com
---
kind: Workload
name: nightly
groups: [agents]
sponsor: lin@example.com
trust: [{{platform: oidc, issuer: '{provider.issuer}', audience: '{AUDIENCE}',
          match: {{client_id: {JOB_ID}}}}}]
""")

        def run(token, expect=0):
            return shop.gateway.run("run", "--name", "job", "--target", "plain-db", "--", "psql",
                                    "-Atc", "select 1", token=token, expect=expect)

        token = provider.token_of_job()
        assert run(token).stdout.strip() == "1"
        run(token, expect=3)
        run(provider.token_of_job("https://elsewhere.example.com"), expect=3)
        before = provider.token_of_job()
        # It comes back with other keys, which are asked for.
        provider.close()
        provider.start(shop.gateway.ready["ca_file"])
        wait_until(lambda: shop.gateway.run("run", "--name", "job", "--target", "plain-db", "--",
                                            "true", token=provider.token_of_job(),
                                            expect=None).returncode == 0,
                   "its new keys are taken", 20)
        run(before, expect=3)


@pytest.mark.long
@needs_real_provider
@pytest.mark.skipif(not shutil.which("chromium"),
                    reason="chromium is not installed; run .ci/setup browser")
def test_a_person_signs_in_with_a_real_browser(server, tmp_path):
    with Shop(server) as shop, RealProvider(shop.gateway.ready["api"]) as provider:
        provider.start(shop.gateway.ready["ca_file"])
        shop.gateway.apply(provider.manifest("sign_in: create\n"))
        program = pathlib.Path(__file__).parents[1] / "harness" / "browser_login.mjs"
        opener = tmp_path / "browser"
        opener.write_text(f'#!/bin/sh\nexec node "{program}" "$1"\n')
        opener.chmod(0o700)
        log = tmp_path / "log"
        env = shop.gateway.client_env() | {
            "BROWSER": str(opener), "LOGIN_LOG": str(log), "CHROMIUM": shutil.which("chromium"),
            "PLAYWRIGHT": str(node_module("playwright-core", "index.js"))}
        answer = shop.gateway.run("login", "-o", "json", env=env)
        token = json.loads(answer.stdout)["token"]
        wait_until(lambda: "You are signed in" in log.read_text(), "the browser shows the end")
        assert "failed" not in log.read_text()
        whoami = shop.gateway.json("whoami", token=token)
        assert (whoami["name"], whoami["provider"]) == ("lin@example.com", "corp")
        assert shop.psql("plain-db", "select 1", token=token).stdout.strip() == "1"


def test_groups_may_stand_in_a_signed_userinfo(server):
    with Shop(server, config=FAST) as shop, ScriptedProvider() as provider:
        shop.gateway.apply(provider.manifest(more=CREATE))
        provider.changes = {"groups": None}
        provider.userinfo = provider.signed_userinfo(sub="sub-signed", groups=["team"])
        sign_in((shop, provider), "sub-signed")
        assert user(shop, "sub-signed")["groups"] == ["agents"]
        # They follow, also when the provider changes its key.
        provider.userinfo = provider.signed_userinfo(
            sub="sub-signed", groups=["boss"], aud=[CLIENT_ID, "another"])
        wait_until(lambda: user(shop, "sub-signed")["groups"] == ["dba"], "they follow", 20)
        provider.key = SigningKey()
        provider.userinfo = provider.signed_userinfo(sub="sub-signed", groups=["team"])
        wait_until(lambda: user(shop, "sub-signed")["groups"] == ["agents"], "a new key", 40)


def test_a_signed_userinfo_that_is_not_good_lets_nobody_in(server):
    with Shop(server) as shop, ScriptedProvider() as provider:
        shop.gateway.apply(provider.manifest(more=CREATE))
        provider.changes = {"groups": None}
        provider.is_person("sub-in", "sub-in@example.com", ["team"])

        def signed(**claims):
            return provider.signed_userinfo(**({"sub": "sub-in", "groups": ["team"]} | claims))

        good, past = signed(), int(time.time()) - 3600
        head, body, signature = good.split(".")
        forged = SigningKey()
        forged.kid = provider.key.kid
        cases = {
            "another issuer": (signed(iss="https://evil.example"), "iss"),
            "no issuer": (signed(iss=None), "iss"),
            "another client": (signed(aud="another"), "aud"),
            "no audience": (signed(aud=None), "aud"),
            "expired": (signed(exp=past), "exp"),
            "somebody else": (signed(sub="sub-other"), "somebody else"),
            "nobody": (signed(sub=None), "sub"),
            "unsigned": (signed(header={"alg": "none"}), "algorithm"),
            "another key": (signed(key=forged), "signature"),
            "changed": (f"{head}.{signed(groups=['boss']).split('.')[1]}.{signature}", "signature"),
            "encrypted": (f"{head}.a.b.c.d", "encrypted"),
            "no JWT": ("nonsense", "not taken"),
            "JSON": (json.dumps({"sub": "sub-in", "groups": ["team"]}), "not taken"),
        }
        for why, (told, words) in cases.items():
            provider.userinfo = told
            attempt = SignIn(shop.gateway)
            answer = attempt.callback(provider.answer(attempt.begin().location))
            assert answer.status in (403, 503), (why, answer.status, answer.text)
            reason = shop.gateway.events("--event", "principal.refused")[-1]["reason"]
            assert words in reason.lower(), (why, reason)
        assert all(one["name"] != "sub-in@example.com" for one in shop.gateway.json("users", "list"))
        provider.userinfo = good
        sign_in((shop, provider), "sub-in")
        assert user(shop, "sub-in")["groups"] == ["agents"]
