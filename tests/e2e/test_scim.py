"""SCIM 2.0: what a provider writes becomes people here, and what it takes away ends at once."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse

import psycopg
import pytest

from harness.scim import GROUP, PATCH, USER, Scim
from harness.shop import Shop
from harness.waiting import wait_until

TOKEN = "the-scim-token-of-corp"
PROVIDER = """
kind: IdentityProvider
name: corp
oidc: {issuer: "http://127.0.0.1:9/corp", client_id: corral}
groups: {Agents: agents, "DB Admins": dba}
scim: {token: {value: "the-scim-token-of-corp"}}
---
kind: IdentityProvider
name: other
oidc: {issuer: "http://127.0.0.1:9/other", client_id: corral}
scim: {token: {value: "the-scim-token-of-other"}}
---
kind: IdentityProvider
name: claims
oidc: {issuer: "http://127.0.0.1:9/claims", client_id: corral, groups_claim: groups}
scim: {token: {value: "the-scim-token-of-claims"}}
---
kind: IdentityProvider
name: plain
oidc: {issuer: "http://127.0.0.1:9/plain", client_id: corral}
"""


@pytest.fixture(scope="module")
def shop(server):
    with Shop(server, more=PROVIDER) as open_shop:
        yield open_shop


@pytest.fixture
def own_shop(server):
    with Shop(server, more=PROVIDER) as open_shop:
        yield open_shop


@pytest.fixture(scope="module")
def scim(shop):
    return Scim(shop.gateway, TOKEN)


def person(shop, name):
    return shop.gateway.json("get", "user", name)


def start(shop, name, run="job"):
    """A run for a person whom no password signs in."""
    return shop.gateway.json("runs", "start", "--name", run, "--for", name)


def names(events):
    return [event["event"] for event in events]


def ended(connection):
    try:
        connection.execute("select 1")
    except psycopg.OperationalError as error:
        return error
    return None


# -- the service

def test_the_compliance_checks_of_scim2_tester_pass(shop):
    environment = dict(os.environ) | {
        "SCIM_CLI_URL": shop.gateway.ready["api"] + "/scim/v2",
        "SCIM_CLI_HEADERS": f"Authorization: Bearer {TOKEN}",
        "SSL_CERT_FILE": shop.gateway.ready["ca_file"],
    }
    program = os.path.join(os.path.dirname(sys.executable), "scim2")
    result = subprocess.run(
        [program, "--url", environment["SCIM_CLI_URL"], "test", "--verbose"],
        text=True, capture_output=True, env=environment, timeout=120,
    )
    report = result.stdout + result.stderr
    verdicts = re.findall(r"^(SUCCESS|COMPLIANT|ACCEPTABLE|DEVIATION|ERROR|CRITICAL|SKIPPED)"
                          r" (\S+)\n(.*)$", report, re.M)
    failed = [verdict for verdict in verdicts if verdict[0] != "SUCCESS"]
    assert not failed and result.returncode == 0, failed or report
    assert len(verdicts) > 80, report


@pytest.mark.parametrize("token", [None, "", "wrong", "crl_" + "a" * 52, "x" * 20000,
                                   "the-scim-token-of-plain"])
@pytest.mark.parametrize("path", ["/Users", "/Schemas", "/nothing"])
def test_nobody_is_served_without_a_providers_token(shop, token, path):
    stranger = Scim(shop.gateway, token)
    headers = {} if token is not None else {"Authorization": "Basic eDp5"}
    status, answer_headers, body = stranger.send("GET", path, headers=headers)
    assert status == 401 and body["status"] == "401", body
    assert answer_headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_of_the_gateways_own_is_none_of_a_provider(shop):
    Scim(shop.gateway, shop.gateway.admin_token()).send("GET", "/Users", expect=401)
    Scim(shop.gateway, shop.login("ada")).send("GET", "/Users", expect=401)


def test_a_providers_token_opens_nothing_else(shop):
    shop.gateway.run("whoami", token=TOKEN, expect=3)


def test_errors_have_the_form_of_scim(scim):
    for method, path, body, status in [
        ("GET", "/Users/none", None, 404), ("GET", "/nothing", None, 404),
        ("POST", "/Bulk", {}, 501), ("POST", "/.search", {}, 400), ("GET", "/Me", None, 501),
        ("PUT", "/Users", {}, 405), ("POST", "/Users", "{", 400), ("POST", "/Users", [], 400),
        ("GET", "/Users?filter=nonsense", None, 400), ("GET", "/Users?count=many", None, 400),
    ]:
        found, headers, error = scim.send(method, path, body)
        assert found == status, (method, path, error)
        assert error["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert error["status"] == str(status)
        assert headers["Content-Type"] == "application/scim+json"
    scim.send("POST", "/Users", "x=y", headers={"Content-Type": "text/plain"}, expect=415)


def test_one_provider_does_not_see_what_another_wrote(shop, scim):
    mine = scim.create_user("seen@corp.example")
    other = Scim(shop.gateway, "the-scim-token-of-other")
    other.send("GET", f"/Users/{mine['id']}", expect=404)
    other.send("DELETE", f"/Users/{mine['id']}", expect=404)
    assert other.send("GET", "/Users")[2]["totalResults"] == 0
    assert other.create_user("seen@corp.example", expect=409)["scimType"] == "uniqueness"


# -- people

def test_a_user_becomes_a_person_with_the_groups_of_the_mapping(shop, scim):
    user = scim.create_user("ida@corp.example", externalId="E1",
                            emails=[{"value": "ida@corp.example", "primary": True}])
    found = person(shop, "ida@corp.example")
    assert found["identity"] == {"provider": "corp"} and not found["disabled"]
    scim.create_group("Agents", [user["id"]])
    scim.create_group("DB Admins", [user["id"]])
    scim.create_group("Not mapped", [user["id"]])
    assert person(shop, "ida@corp.example")["groups"] == ["agents", "dba"]
    shown = scim.send("GET", f"/Users/{user['id']}")[2]
    assert sorted(group["display"] for group in shown["groups"]) == [
        "Agents", "DB Admins", "Not mapped"]
    run = start(shop, "ida@corp.example")
    assert shop.psql("plain-db", "select 40 + 2", token=run["token"]).stdout == "42\n"


def test_leaving_a_group_takes_its_rights_from_live_sessions(shop, scim):
    user = scim.create_user("leaver@corp.example")
    group = scim.create_group("Agents", [user["id"]])
    run = start(shop, "leaver@corp.example")
    with shop.connect(token=run["token"]) as connection:
        connection.execute("select 1")
        path = f"members[value eq \"{user['id']}\"]"
        scim.patch(f"/Groups/{group['id']}", {"op": "remove", "path": path})
        assert person(shop, "leaver@corp.example").get("groups", []) == []
        wait_until(lambda: ended(connection), "the session ends")


def test_where_sign_ins_say_the_groups_those_of_scim_mean_nothing(shop):
    scim = Scim(shop.gateway, "the-scim-token-of-claims")
    user = scim.create_user("claims@corp.example")
    scim.create_group("agents", [user["id"]])
    assert person(shop, "claims@corp.example").get("groups", []) == []
    scim.set_active(user, False)
    assert person(shop, "claims@corp.example")["disabled"]


def test_another_mapping_gives_other_groups(own_shop):
    scim = Scim(own_shop.gateway, TOKEN)
    user = scim.create_user("mapped@corp.example")
    scim.create_group("DB Admins", [user["id"]])
    assert person(own_shop, "mapped@corp.example")["groups"] == ["dba"]
    own_shop.gateway.apply(PROVIDER.replace('"DB Admins": dba', '"DB Admins": platform'))
    assert person(own_shop, "mapped@corp.example")["groups"] == ["platform"]


@pytest.mark.parametrize("name", ["two words", "ünïcode", "semi;colon", "x" * 300, "back`tick"])
def test_a_name_that_no_principal_can_have_is_refused_with_what_would_be_right(scim, name):
    error = scim.create_user(name, expect=400)
    assert error["scimType"] == "invalidValue"
    assert "letters, digits and -_.@+:/" in error["detail"] or "254" in error["detail"], error


def test_names_are_taken_once_without_regard_to_case(scim):
    scim.create_user("Twice@corp.example")
    for name in ["Twice@corp.example", "tWICE@corp.example"]:
        assert scim.create_user(name, expect=409)["scimType"] == "uniqueness"


def test_people_and_workloads_that_are_not_the_providers_are_left_alone(shop, scim):
    before = person(shop, "ada@example.com")
    for name in ["ada@example.com", "nightly-report"]:
        assert scim.create_user(name, expect=409)["scimType"] == "uniqueness"
    assert person(shop, "ada@example.com") == before


def test_a_manifest_can_hand_a_person_over(shop, scim):
    shop.gateway.apply("kind: User\nname: handed@corp.example\nprovider: corp\n")
    scim.create_user("handed@corp.example")
    assert person(shop, "handed@corp.example")["identity"]["provider"] == "corp"


def test_a_user_who_is_renamed_is_another_person(shop, scim):
    user = scim.create_user("maiden@corp.example")
    group = scim.create_group("Agents", [user["id"]])
    run = start(shop, "maiden@corp.example")
    with shop.connect(token=run["token"]) as connection:
        connection.execute("select 1")
        scim.patch(f"/Users/{user['id']}",
                   {"op": "replace", "path": "userName", "value": "married@corp.example"})
        wait_until(lambda: ended(connection), "the session ends")
    assert person(shop, "maiden@corp.example")["disabled"]
    renamed = person(shop, "married@corp.example")
    assert not renamed["disabled"] and renamed["groups"] == ["agents"]
    scim.send("DELETE", f"/Groups/{group['id']}", expect=204)


# -- the end of somebody

@pytest.mark.parametrize("how", ["patch", "put", "delete"])
def test_deactivation_ends_live_sessions_and_runs(shop, scim, how):
    name = f"gone-by-{how}@corp.example"
    user = scim.create_user(name)
    scim.create_group("Agents", [user["id"]])
    run = start(shop, name)
    child = shop.gateway.json("runs", "start", "--name", "child", token=run["token"])
    with shop.connect(token=child["token"]) as connection:
        connection.execute("select 1")
        if how == "patch":
            assert scim.set_active(user, False)["active"] is False
        elif how == "put":
            body = {"schemas": [USER], "userName": name, "active": False}
            scim.send("PUT", f"/Users/{user['id']}", body, expect=200)
        else:
            scim.send("DELETE", f"/Users/{user['id']}", expect=204)
            scim.send("GET", f"/Users/{user['id']}", expect=404)
        error = wait_until(lambda: ended(connection), "the session ends")
        assert error.sqlstate in ("57P01", None)
    for token in (run["token"], child["token"]):
        with pytest.raises(psycopg.OperationalError):
            shop.gateway.connect(token, "plain-db")
    shop.gateway.run("runs", "start", "--name", "again", "--for", name, expect=3)
    found = person(shop, name)
    assert found["disabled"] and found["disabled_cause"] == "scim"
    disabled = [event for event in shop.gateway.events("--event", "principal.disabled")
                if event["name"] == name]
    assert len(disabled) == 1 and disabled[0]["runs_ended"] == 2, disabled
    assert disabled[0]["cause"] == "scim" and disabled[0]["by"] == "scim corp"


def test_the_same_again_changes_nothing_and_writes_no_second_event(shop, scim):
    user = scim.create_user("twice-gone@corp.example")
    versions = {scim.set_active(user, False)["meta"]["version"] for _ in range(3)}
    assert len(versions) == 1
    disabled = [event for event in shop.gateway.events("--event", "principal.disabled")
                if event["name"] == "twice-gone@corp.example"]
    assert len(disabled) == 1


def test_whom_scim_disabled_it_can_enable_but_not_whom_an_administrator_did(shop, scim):
    user = scim.create_user("back@corp.example")
    scim.create_group("Agents", [user["id"]])
    run = start(shop, "back@corp.example")
    scim.set_active(user, False)
    assert scim.set_active(user, True)["active"] is True
    assert not person(shop, "back@corp.example")["disabled"]
    # What ended stays ended.
    with pytest.raises(psycopg.OperationalError):
        shop.gateway.connect(run["token"], "plain-db")
    start(shop, "back@corp.example")
    shop.gateway.run("users", "disable", "back@corp.example")
    scim.set_active(user, False)
    scim.set_active(user, True)
    assert person(shop, "back@corp.example")["disabled"]
    shop.gateway.run("users", "enable", "back@corp.example")
    assert not person(shop, "back@corp.example")["disabled"]


def test_a_manifest_does_not_take_away_whom_a_provider_made(shop, scim):
    scim.create_user("stays@corp.example")
    shop.gateway.apply("kind: User\nname: stays@corp.example\n")
    assert person(shop, "stays@corp.example")["identity"]["provider"] == "corp"


def test_a_restart_in_the_middle_is_completed(own_shop):
    scim = Scim(own_shop.gateway, TOKEN)
    users = [scim.create_user(f"u{n}@corp.example") for n in range(8)]
    scim.create_group("Agents", [user["id"] for user in users])
    runs = [start(own_shop, user["userName"]) for user in users]
    answers = {}

    def deactivate(user):
        try:
            scim.set_active(user, False)
            answers[user["id"]] = True
        except (OSError, http.client.HTTPException):
            answers[user["id"]] = False

    threads = [threading.Thread(target=deactivate, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    own_shop.gateway.kill_hard()
    for thread in threads:
        thread.join()
    own_shop.gateway.start()
    scim = Scim(own_shop.gateway, TOKEN)
    for user, run in zip(users, runs):
        shown = scim.send("GET", f"/Users/{user['id']}", expect=200)[2]
        found = person(own_shop, user["userName"])
        # All of it happened, or none; what was answered did.
        assert found["disabled"] is not shown["active"]
        assert not (answers[user["id"]] and shown["active"])
        # A provider that got no answer asks again.
        scim.set_active(user, False)
        assert person(own_shop, user["userName"])["disabled"]
        with pytest.raises(psycopg.OperationalError):
            own_shop.gateway.connect(run["token"], "plain-db")
    disabled = [event["name"] for event in own_shop.gateway.events("--event", "principal.disabled")]
    assert set(disabled) == {user["userName"] for user in users}


def test_a_provider_that_hangs_up_leaves_no_half_change(shop, scim):
    users = [scim.create_user(f"hangs-up-{n}@corp.example") for n in range(10)]
    body = json.dumps({"schemas": [PATCH], "Operations": [
        {"op": "replace", "path": "active", "value": False}]})
    for user in users:
        connection = http.client.HTTPSConnection(scim.address.hostname, scim.address.port,
                                                 context=scim.context, timeout=20)
        connection.request("PATCH", f"/scim/v2/Users/{user['id']}", body,
                           {"Authorization": f"Bearer {TOKEN}",
                            "Content-Type": "application/scim+json"})
        connection.close()

    def is_whole(user):
        shown = scim.send("GET", f"/Users/{user['id']}", expect=200)[2]
        return person(shop, user["userName"])["disabled"] is not shown["active"]

    for user in users:
        wait_until(lambda user=user: is_whole(user), "document and person agree")
        # The configuration can still be changed.
        scim.set_active(user, False)
        assert person(shop, user["userName"])["disabled"]


def test_documents_survive_a_restart(own_shop):
    scim = Scim(own_shop.gateway, TOKEN)
    user = scim.create_user("kept@corp.example", title="Dr", active=False)
    group = scim.create_group("Agents", [user["id"]])
    paths = [f"/Users/{user['id']}", f"/Groups/{group['id']}", "/Users"]

    def shown():
        """Without the gateway's address, which another start changes."""
        scim = Scim(own_shop.gateway, TOKEN)
        found = json.dumps([scim.send("GET", path, expect=200)[2] for path in paths])
        return found.replace(scim.address.netloc, "GATEWAY")

    before = shown()
    own_shop.gateway.stop()
    own_shop.gateway.start()
    assert shown() == before


# -- bad input

@pytest.mark.parametrize("operation, kind", [
    ({"op": "replace", "path": "nonsense", "value": 1}, "invalidPath"),
    ({"op": "replace", "path": "name.nonsense", "value": "x"}, "invalidPath"),
    ({"op": "add", "path": "urn:example:User:title", "value": "x"}, "invalidPath"),
    ({"op": "replace", "path": "emails[", "value": "x"}, "invalidPath"),
    ({"op": "replace", "value": {"nonsense": 1}}, "invalidPath"),
    ({"op": "replace", "path": 'emails[type eq "work"].value', "value": "x"}, "noTarget"),
    ({"op": "remove"}, "noTarget"),
    ({"op": "replace", "path": "id", "value": "x"}, "mutability"),
    ({"op": "replace", "path": "groups", "value": []}, "mutability"),
    ({"op": "replace", "path": "active", "value": "perhaps"}, "invalidValue"),
    ({"op": "replace", "path": "userName", "value": "two words"}, "invalidValue"),
    ({"op": "explode", "path": "title"}, "invalidSyntax"),
])
def test_a_patch_that_cannot_be_done_changes_nothing(scim, operation, kind):
    user = scim.create_user(f"patched-{abs(hash(str(operation)))}@corp.example", title="Dr")
    first = {"op": "replace", "path": "title", "value": "Prof"}
    error = scim.patch(f"/Users/{user['id']}", first, operation, expect=400)
    assert error["scimType"] == kind, error
    shown = scim.send("GET", f"/Users/{user['id']}")[2]
    assert shown == user


def test_a_stale_version_changes_nothing(scim):
    user = scim.create_user("versioned@corp.example")
    path = f"/Users/{user['id']}"
    stale = user["meta"]["version"]
    scim.patch(path, {"op": "add", "path": "title", "value": "Dr"}, headers={"If-Match": stale})
    scim.patch(path, {"op": "add", "path": "title", "value": "Prof"}, expect=412,
               headers={"If-Match": stale})
    scim.send("DELETE", path, headers={"If-Match": stale}, expect=412)
    status, headers, shown = scim.send("GET", path)
    assert shown["title"] == "Dr" and headers["ETag"] == shown["meta"]["version"] != stale
    assert scim.send("GET", path, headers={"If-None-Match": headers["ETag"]})[0] == 304


def test_a_group_holds_ten_thousand_members_and_users_only(scim):
    user = scim.create_user("member@corp.example")
    many = [f"no-such-{n}" for n in range(10_001)]
    assert scim.create_group("Full", many, expect=400)["scimType"] == "tooMany"
    error = scim.create_group("Strange", [user["id"], "no-such"], expect=400)
    assert error["scimType"] == "invalidValue" and "no-such" in error["detail"]
    group = scim.create_group("Nested", [user["id"]])
    assert scim.create_group("Outer", [group["id"]], expect=400)["scimType"] == "invalidValue"


def test_filters_and_pages_answer_what_providers_ask(scim):
    for n in range(3):
        scim.create_user(f"page-{n}@corp.example", externalId=f"page-{n}")
    ask = urllib.parse.quote
    found = scim.send("GET", "/Users?filter=" + ask('userName eq "PAGE-1@corp.example"'))[2]
    assert found["totalResults"] == 1
    query = ask('externalId sw "page-" and active eq true and not (externalId eq "page-0")')
    found = scim.send("GET", f"/Users?filter={query}&startIndex=2&count=1&attributes=externalId")[2]
    assert (found["totalResults"], found["startIndex"], found["itemsPerPage"]) == (2, 2, 1)
    assert [set(one) for one in found["Resources"]] == [{"schemas", "id", "externalId"}]
    search = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
              "filter": 'externalId ew "ge-2"'}
    assert scim.send("POST", "/Users/.search", search, expect=200)[2]["totalResults"] == 1
    search["filter"] = 'displayName pr or externalId ew "ge-2"'
    everything = scim.send("POST", "/.search", search, expect=200)[2]["Resources"]
    assert {one["meta"]["resourceType"] for one in everything} == {"User", "Group"}
    deep = "(" * 4000 + "title pr" + ")" * 4000
    assert scim.send("GET", "/Users?filter=" + ask(deep))[0] in (400, 414, 431)


def test_no_password_is_taken(shop, scim):
    user = scim.create_user("secretive@corp.example", password="a password of theirs")
    assert "password" not in user
    shop.gateway.run("login", "--user", "secretive@corp.example", "--password-stdin",
                     stdin="a password of theirs\n", expect=3)
    assert b"a password of theirs" not in (shop.gateway.data / "corral.db").read_bytes()


def test_groups_are_documents_too(scim):
    group = scim.create_group("Renamed")
    body = {"schemas": [GROUP], "displayName": "New name"}
    scim.send("PUT", f"/Groups/{group['id']}", body, expect=200)
    assert scim.send("GET", f"/Groups/{group['id']}")[2]["displayName"] == "New name"
    scim.send("DELETE", f"/Groups/{group['id']}", expect=204)
    scim.send("GET", f"/Groups/{group['id']}", expect=404)
