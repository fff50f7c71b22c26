"""SCIM at its size: what a provider's thousandth person costs, and what one too many is told.

The long test goes to the limits that docs/scim-and-signals.md names.
"""

import statistics
import time

import psycopg
import pytest

from harness.scim import GROUP, Scim
from harness.shop import Shop
from harness.waiting import wait_until

PROVIDER = """
kind: IdentityProvider
name: corp
oidc: {issuer: "http://127.0.0.1:9/corp", client_id: corral}
groups: {Everybody: agents, Others: others}
scim: {token: {value: "the-scim-token-of-corp"}}
"""
USERS_MAX = 10_000
GROUPS_MAX = 2_000
MEMBERSHIPS_MAX = 200_000
PATCH_MAX = 1_000
PAGE_MAX = 500
# Writes whose middle time is compared, at the beginning and at the end.
SAMPLE = 100


class Company:
    """A provider with many people, and what its writes took."""

    def __init__(self, shop, people):
        self.scim = Scim(shop.gateway, "the-scim-token-of-corp", stays=True)
        self.took_s = []
        self.users = [self.timed(self.hire, number) for number in range(people)]

    def timed(self, write, *arguments):
        begin = time.perf_counter()
        done = write(*arguments)
        self.took_s.append(time.perf_counter() - begin)
        return done

    def hire(self, number):
        name = f"person-{number:05}@corp.example"
        return self.scim.create_user(name, externalId=f"E-{number}",
                                     emails=[{"value": f"mail-{number}@corp.example"}])

    def growth(self):
        """How much longer the last writes took than the first ones."""
        first, last = self.took_s[SAMPLE:2 * SAMPLE], self.took_s[-SAMPLE:]
        return statistics.median(last) / statistics.median(first)

    def group(self, name):
        """A group of everybody, by patches with one operation for each member."""
        path = f"/Groups/{self.scim.create_group(name)['id']}"
        for begin in range(0, len(self.users), PATCH_MAX):
            self.scim.patch(path, *[
                {"op": "add", "path": "members", "value": [{"value": user["id"]}]}
                for user in self.users[begin:begin + PATCH_MAX]])
        return path

    def members(self, path):
        shown = self.scim.send("GET", path, expect=200)[2]
        return [member["value"] for member in shown.get("members", [])]

    def put(self, path, name, users):
        body = {"schemas": [GROUP], "displayName": name,
                "members": [{"value": user["id"]} for user in users]}
        self.scim.send("PUT", path, body, expect=200)


@pytest.fixture
def shop(server):
    with Shop(server, more=PROVIDER) as open_shop:
        yield open_shop


def groups_of(shop, user):
    return shop.gateway.json("get", "user", user["userName"]).get("groups", [])


def check_reading(company):
    """Every page together is everybody once, and every question finds the one that it is for."""
    scim, users = company.scim, company.users
    seen = []
    while len(seen) < len(users):
        page = scim.list("/Users", startIndex=len(seen) + 1, count=PAGE_MAX)
        assert page["totalResults"] == len(users) and page["Resources"], page["startIndex"]
        seen += [user["id"] for user in page["Resources"]]
    assert seen == [user["id"] for user in users]
    number = len(users) // 2
    wanted = users[number]
    for question in [
        f'userName eq "PERSON-{number:05}@corp.example"', f'externalId eq "E-{number}"',
        f'id eq "{wanted["id"]}"', f'emails.value eq "mail-{number}@corp.example"',
        f'active eq true and externalId eq "E-{number}"', f'userName ew "{number:05}@corp.example"',
    ]:
        found = scim.list("/Users", filter=question)
        assert [user["id"] for user in found["Resources"]] == [wanted["id"]], question
    assert scim.list("/Users", filter='externalId eq "e-1"')["totalResults"] == 0
    assert scim.list("/Users", filter="active eq true", count=1)["totalResults"] == len(users)


def check_group(shop, company):
    """A group of everybody: patched, replaced, asked for; its people have what follows from it."""
    scim, users = company.scim, company.users
    ids = [user["id"] for user in users]
    path = company.group("Everybody")
    assert company.members(path) == ids
    assert groups_of(shop, users[-1]) == ["agents"]
    gone = [{"op": "remove", "path": f'members[value eq "{user["id"]}"]'}
            for user in users[1:PATCH_MAX]]
    scim.patch(path, *gone)
    assert company.members(path) == [ids[0], *ids[PATCH_MAX:]]
    assert groups_of(shop, users[1]) == []
    company.put(path, "Others", users)
    assert groups_of(shop, users[0]) == groups_of(shop, users[1]) == ["others"]
    company.put(path, "Everybody", users)
    assert groups_of(shop, users[0]) == groups_of(shop, users[-1]) == ["agents"]
    for question in ['displayName eq "everybody"', f'members eq "{ids[7]}"',
                     f'members[value eq "{ids[7]}"] and displayName sw "Every"']:
        found = scim.list("/Groups", filter=question, excludedAttributes="members")
        assert [f"/Groups/{group['id']}" for group in found["Resources"]] == [path], question
    return path


def check_end(shop, company, sessions):
    """Who is deactivated is out at once, and nobody else is."""
    leaver, other = company.users[3], company.users[4]
    tokens = {user["id"]: shop.gateway.json("runs", "start", "--name", "job", "--for",
                                            user["userName"])["token"]
              for user in (leaver, other)}
    connections = [shop.connect(token=tokens[leaver["id"]]) for _ in range(sessions)]
    with shop.connect(token=tokens[other["id"]]) as kept:
        for connection in (kept, *connections):
            connection.execute("select 1")
        begin = time.perf_counter()
        assert company.scim.set_active(leaver, False)["active"] is False

        def is_over(connection):
            try:
                connection.execute("select 1")
            except psycopg.OperationalError:
                return True
            return False

        for connection in connections:
            wait_until(lambda one=connection: is_over(one), "the session ends")
        took_s = time.perf_counter() - begin
        kept.execute("select 1")
    for connection in connections:
        connection.close()
    ended = [event for event in shop.gateway.events("--event", "principal.disabled")
             if event["name"] == leaver["userName"]]
    assert [event["sessions_closed"] for event in ended] == [sessions]
    return took_s


def test_a_thousand_people_are_written_asked_for_and_offboarded(shop):
    company = Company(shop, people=1_000)
    check_reading(company)
    page = company.scim.list("/Users", count=1_000)
    assert (page["totalResults"], page["itemsPerPage"]) == (1_000, PAGE_MAX)
    check_group(shop, company)
    check_end(shop, company, sessions=5)


def test_one_group_may_not_be_sent_in_a_body_without_end(shop):
    scim = Scim(shop.gateway, "the-scim-token-of-corp")
    body = {"schemas": [GROUP], "displayName": "Huge", "externalId": "x" * (4 * 1024 * 1024)}
    error = scim.send("POST", "/Groups", body, expect=413)[2]
    assert error["detail"] == "the request is larger than 4194304 bytes"
    assert scim.list("/Groups")["totalResults"] == 0


@pytest.mark.long
@pytest.mark.deadline(1200)
def test_a_provider_reaches_every_limit_and_is_told_at_the_next(shop, capsys):
    company = Company(shop, people=USERS_MAX)
    users, scim = company.users, company.scim
    growth = company.growth()
    check_reading(company)
    begin = time.perf_counter()
    scim.list("/Users", startIndex=USERS_MAX - PAGE_MAX + 1, count=PAGE_MAX)
    page_s = time.perf_counter() - begin
    path = check_group(shop, company)
    begin = time.perf_counter()
    shop.login("ada")
    login_s = time.perf_counter() - begin
    end_s = check_end(shop, company, sessions=50)
    assert growth < 2, company.took_s
    assert page_s < 1 and end_s < 5 and login_s < 5

    error = scim.create_user("one-more@corp.example", expect=400)
    assert error["scimType"] == "tooMany"
    assert error["detail"] == "this provider has 10000 Users; at most 10000"
    members = [{"value": user["id"]} for user in users] + [{"value": "one more"}]
    for method, body in [
        ("PATCH", {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [
            {"op": "add", "path": "members", "value": members[-1:]}]}),
        ("PUT", {"schemas": [GROUP], "displayName": "Everybody", "members": members}),
    ]:
        error = scim.send(method, path, body, expect=400)[2]
        assert error["scimType"] == "tooMany" and "10001" in error["detail"], error
    assert len(company.members(path)) == USERS_MAX

    for number in range(MEMBERSHIPS_MAX // USERS_MAX - 1):
        scim.create_group(f"Full {number}", [user["id"] for user in users])
    error = scim.create_group("One more", [users[0]["id"]], expect=400)
    assert error["scimType"] == "tooMany"
    assert "200001 memberships" in error["detail"] and "at most 200000" in error["detail"]

    for number in range(GROUPS_MAX - MEMBERSHIPS_MAX // USERS_MAX):
        scim.create_group(f"Empty {number}")
    error = scim.create_group("One more", expect=400)
    assert error["scimType"] == "tooMany"
    assert error["detail"] == "this provider has 2000 Groups; at most 2000"

    shop.gateway.stop()
    shop.gateway.start()
    company.scim = Scim(shop.gateway, "the-scim-token-of-corp", stays=True)
    assert company.scim.list("/Users", count=1)["totalResults"] == USERS_MAX
    assert company.scim.list("/Groups", count=0)["totalResults"] == GROUPS_MAX
    assert groups_of(shop, users[0]) == ["agents"]
    with capsys.disabled():
        print(f"\nwrites at {USERS_MAX} take {growth:.2f} times those at {SAMPLE}; a page of "
              f"{PAGE_MAX}: {page_s * 1000:.0f} ms; 50 sessions ended in {end_s * 1000:.0f} ms")
