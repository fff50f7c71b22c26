"""Root runs from the tokens of CI systems and clusters: six platforms, and every refusal."""

import concurrent.futures
import time
import types
import uuid

import pytest

from harness.certificates import Authority
from harness.gateway import Gateway
from harness.issuer import AUDIENCE, KEYS, Issuer, encoded
from harness.token_service import TokenService

CIRCLECI_SYSTEM = "d9b3fcaa-6032-405a-8c75-40079ce33c3e"
PEOPLE = ("ada", "dora", "gone")


def unique():
    return uuid.uuid4().hex


def github(person, **more):
    actors = {"ada": "1001", "dora": "1002", "gone": "1003", "nobody": "1004"}
    claims = {"repository": "shop/reports", "run_id": unique(), "run_attempt": "1",
              "check_run_id": unique(), "event_name": "push", "ref": "refs/heads/main",
              "sub": "repo:shop/reports:ref:refs/heads/main"}
    if person == "bot":
        return claims | {"actor": "dependabot[bot]", "actor_id": actors["ada"]} | more
    return claims | {"actor": person, "actor_id": actors[person]} | more


def gitlab(person, **more):
    claims = {"project_path": "shop/reports", "job_id": unique(), "pipeline_source": "push",
              "user_login": person, "user_email": f"{person}@example.com", "sub": "project_path"}
    if person == "bot":
        claims |= {"pipeline_source": "schedule", "user_email": "ada@example.com"}
    return claims | more


def buildkite(person, **more):
    claims = {"organization_slug": "shop", "pipeline_slug": "reports", "job_id": unique(),
              "build_source": "ui", "agent_tag:owner": f"{person}@example.com", "sub": "job"}
    if person == "bot":
        claims |= {"build_source": "schedule", "agent_tag:owner": "ada@example.com"}
    return claims | more


def circleci(person, **more):
    users = {"ada": "u-1", "dora": "u-2", "gone": "u-3", "nobody": "u-4", "bot": CIRCLECI_SYSTEM}
    return {"oidc.circleci.com/project-id": "p-1", "oidc.circleci.com/job-id": unique(),
            "sub": f"org/o-1/project/p-1/user/{users[person]}"} | more


def kubernetes(person, **more):
    account = {} if person == "bot" else {"serviceaccount": {"name": f"agent-{person}", "uid": "s"}}
    inside = {"namespace": "agents", "pod": {"name": "planner-0", "uid": unique()}} | account
    return {"kubernetes.io": inside, "sub": "system:serviceaccount:agents:agent"} | more


def oidc(person, **more):
    email = {} if person == "bot" else {"email": f"{person}@example.com"}
    return {"department": "shop", "sub": unique()} | email | more


PLATFORMS = {
    "github": (github, "RS256", "{repository: shop/reports}", ""),
    "gitlab": (gitlab, "RS256", "{project_path: [shop/other, shop/reports]}", ""),
    "buildkite": (buildkite, "ES256", "{organization_slug: shop}",
                  "sponsor_claim: 'agent_tag:owner'"),
    "circleci": (circleci, "RS256", "{oidc.circleci.com/project-id: p-1}", ""),
    "kubernetes": (kubernetes, "RS256", "{kubernetes.io/namespace: agents}",
                   "sponsor_claim: kubernetes.io/serviceaccount/name, sponsor_account: cluster"),
    "oidc": (oidc, "EdDSA", "{department: shop}", "sponsor_claim: email"),
}


def user(name, number):
    return f"""
kind: User
name: {name}@example.com
accounts: {{github: "{1000 + number}", circleci: u-{number}, cluster: agent-{name}}}
"""


def workload(platform, issuer, matched, person, sponsor=None, name=None):
    rule = f"platform: {platform}, issuer: '{issuer.url}', audience: {AUDIENCE}, match: {matched}"
    if person:
        rule += f", {person}"
    text = f"""
kind: Workload
name: {name or f'jobs-{platform}'}
groups: [agents]
trust: [{{{rule}}}]
"""
    return text + (f"sponsor: {sponsor}\n" if sponsor else "")


@pytest.fixture(scope="module")
def world():
    """A gateway that trusts an issuer of each platform; dora is disabled, gone was deleted."""
    issuers = {name: Issuer(algorithm) for name, (_, algorithm, _, _) in PLATFORMS.items()}
    try:
        with Gateway() as gateway:
            people = [user(name, at) for at, name in enumerate(PEOPLE, 1)]
            rules = [workload(name, issuers[name], matched, person)
                     for name, (_, _, matched, person) in PLATFORMS.items()]
            gateway.apply("---".join(people + rules))
            gateway.run("users", "disable", "dora@example.com")
            gateway.run("delete", "User", "gone@example.com")
            yield types.SimpleNamespace(gateway=gateway, service=TokenService(gateway),
                                        issuers=issuers)
    finally:
        for issuer in issuers.values():
            issuer.close()


def expired():
    now = int(time.time())
    return {"iat": now - 900, "nbf": now - 900, "exp": now - 300}


REFUSED = {
    "disabled": lambda issuer, make: issuer.token(**make("dora")),
    "deleted": lambda issuer, make: issuer.token(**make("gone")),
    "unmapped": lambda issuer, make: issuer.token(**make("nobody")),
    "bot": lambda issuer, make: issuer.token(**make("bot")),
    "foreign audience": lambda issuer, make: issuer.token(**make("ada"), aud="sts.amazonaws.com"),
    "several audiences": lambda issuer, make: issuer.token(
        **make("ada"), aud=[AUDIENCE, "sts.amazonaws.com"]),
    "expired": lambda issuer, make: issuer.token(**make("ada"), **expired()),
    "without an end": lambda issuer, make: issuer.token(**make("ada"), exp=None),
    "alg none": lambda issuer, make: issuer.unsigned(**make("ada")),
    "key confusion": lambda issuer, make: issuer.confused(**make("ada")),
    "another key": lambda issuer, make: issuer.token(
        **make("ada"), key=KEYS[issuer.algorithm]()),
    "another issuer": lambda issuer, make: issuer.token(
        **make("ada"), iss="https://token.actions.githubusercontent.com"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_active_persons_job_has_its_root(world, platform):
    make = PLATFORMS[platform][0]
    token = world.issuers[platform].token(**make("ada"))
    status, answer = world.service.exchange(token, "nightly")
    assert status == 200, answer
    assert answer["token_type"] == "Bearer" and answer["access_token"].startswith("crl_")
    [detail] = answer["authorization_details"]
    assert detail["sponsor"] == "ada@example.com" and detail["principal"] == f"jobs-{platform}"
    _, who = world.service.whoami(answer["access_token"])
    assert (who["kind"], who["sponsor"]) == ("run", "ada@example.com")
    run = world.gateway.json("runs", "show", detail["run_id"])
    run = run["run"] if "run" in run else run
    assert run["job"]["platform"] == platform
    assert run["job"]["issuer"] == world.issuers[platform].url
    # The same token again, and another token of the same job.
    status, again = world.service.exchange(token, "replayed")
    assert (status, again["error"]) == (400, "access_denied"), again


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_other_token_has_none(world, platform, why):
    make = PLATFORMS[platform][0]
    token = REFUSED[why](world.issuers[platform], make)
    name = f"refused-{unique()[:12]}"
    status, answer = world.service.exchange(token, name)
    assert status == 400, answer
    assert answer["error"] in ("invalid_grant", "access_denied"), answer
    assert token not in answer["error_description"]
    names = {run["name"] for run in world.gateway.json("runs", "list")}
    assert name not in names
    [event] = [event for event in world.gateway.events("--text", name)
               if event["event"] == "run.refused"]
    assert event["name"] == name and event["reason"]


@pytest.mark.parametrize("platform", [name for name in PLATFORMS if name != "oidc"])
def test_another_token_of_the_same_job_starts_nothing(world, platform):
    claims = PLATFORMS[platform][0]("ada")
    issuer = world.issuers[platform]
    status, first = world.service.exchange(issuer.token(**claims), "first")
    assert status == 200, first
    status, second = world.service.exchange(issuer.token(**claims), "second")
    assert (status, second["error"]) == (400, "access_denied"), second
    world.gateway.run("runs", "end", first["authorization_details"][0]["run_id"])
    status, third = world.service.exchange(issuer.token(**claims), "third")
    assert (status, third["error"]) == (400, "access_denied"), third


def test_of_many_exchanges_for_one_job_at_once_one_starts_it(world):
    claims = github("ada")
    tokens = [world.issuers["github"].token(**claims) for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(len(tokens)) as pool:
        answers = list(pool.map(lambda token: world.service.exchange(token, "crowd"), tokens))
    assert sorted(status for status, _ in answers) == [200] + [400] * 7, answers
    same = world.issuers["github"].token(**github("ada"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: world.service.exchange(same, "crowd-2"), range(8)))
    assert sorted(status for status, _ in answers) == [200] + [400] * 7, answers
    runs = [run for run in world.gateway.json("runs", "list") if run["name"] == "crowd"]
    assert len(runs) == 1


def test_a_claim_that_does_not_match_is_refused(world):
    token = world.issuers["github"].token(**github("ada", repository="evil/reports"))
    status, answer = world.service.exchange(token)
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert "repository" in answer["error_description"]
    missing = world.issuers["gitlab"].token(**gitlab("ada", job_id=None))
    status, answer = world.service.exchange(missing)
    assert (status, answer["error"]) == (400, "access_denied"), answer


def test_every_rule_whose_keys_are_good_is_looked_at():
    """Two workloads read one issuer's keys at two places, and a third where there are none."""
    with Issuer() as issuer, Issuer(behaviour="fails") as away, Gateway() as gateway:
        service = TokenService(gateway)
        gateway.apply("---".join([
            user("ada", 1), workload("github", issuer, "{repository: shop/one}", "", name="a-one"),
            workload("github", issuer, "{repository: [shop/two, shop/both]}",
                     f"jwks_uri: '{issuer.url}/elsewhere'", name="b-two"),
            workload("github", issuer, "{repository: [shop/both, shop/three]}",
                     f"jwks_uri: '{away.url}/keys'", name="c-three")]))

        def exchange(repository, **options):
            return service.exchange(issuer.token(**github("ada", repository=repository)), **options)

        for repository in ("shop/one", "shop/two"):
            status, answer = exchange(repository)
            assert status == 200, (repository, answer)
        # Whose it is must not depend on which keys can be had at the moment.
        for repository in ("shop/both", "shop/three"):
            status, answer = exchange(repository)
            assert (status, answer["error"]) == (503, "temporarily_unavailable"), repository
        status, answer = exchange("shop/both", client_id="b-two")
        assert status == 200, answer
        status, answer = exchange("shop/nobody")
        assert (status, answer["error"]) == (400, "invalid_grant")
        # A token that no keys are good for is none's, however many rules there are.
        with Issuer() as forger:
            forged = forger.token(iss=issuer.url, **github("ada", repository="shop/one"))
            status, answer = service.exchange(forged, client_id="a-one")
            assert (status, answer["error"]) == (400, "invalid_grant")
            assert service.exchange(forged)[0] == 503


def test_a_bot_needs_a_named_sponsor_who_is_active():
    with Issuer() as issuer, Gateway() as gateway:
        service = TokenService(gateway)
        gateway.apply("---".join([user("ada", 1), user("dora", 2), workload(
            "github", issuer, "{repository: shop/reports}", "sponsor_claim: actor_id, "
            "sponsor_account: github", sponsor="dora@example.com")]))
        status, answer = service.exchange(issuer.token(**github("bot")), "scheduled")
        assert status == 200, answer
        assert answer["authorization_details"][0]["sponsor"] == "dora@example.com"
        root = answer["access_token"]
        status, _ = service.exchange(root, "child", kind="access_token")
        assert status == 200
        # A person's own job is answered for by that person.
        status, own = service.exchange(issuer.token(**github("ada")), "pushed")
        assert own["authorization_details"][0]["sponsor"] == "ada@example.com"
        gateway.run("users", "disable", "dora@example.com")
        assert service.whoami(root)[0] == 401
        status, answer = service.exchange(issuer.token(**github("bot")), "late")
        assert (status, answer["error"]) == (400, "access_denied")


def test_a_person_who_is_disabled_takes_the_jobs_runs_along():
    with Issuer() as issuer, Gateway() as gateway:
        service = TokenService(gateway)
        gateway.apply("---".join([user("ada", 1), workload(
            "github", issuer, "{repository: shop/reports}", "")]))
        _, answer = service.exchange(issuer.token(**github("ada")), "job")
        root = answer["access_token"]
        _, child = service.exchange(root, "child", kind="access_token")
        assert service.whoami(child["access_token"])[0] == 200
        # After a restart the run still belongs to whom its token named.
        gateway.stop()
        gateway.start()
        service = TokenService(gateway)
        assert service.whoami(root)[1]["sponsor"] == "ada@example.com"
        gateway.run("users", "disable", "ada@example.com")
        assert service.whoami(root)[0] == 401
        assert service.whoami(child["access_token"])[0] == 401
        assert gateway.json("runs", "list", "--active") == []


def test_a_workload_needs_somebody_who_answers():
    with Issuer() as issuer, Gateway() as gateway:
        def refused(text):
            return gateway.apply("---".join([user("ada", 1), text]), expect=None)
        for platform in ("buildkite", "kubernetes", "oidc"):
            result = refused(workload(platform, issuer, "{sub: x}", ""))
            assert result.returncode != 0 and "answers" in result.stderr, result.stderr
        result = refused(workload("github", issuer, "{}", ""))
        assert result.returncode != 0 and "match" in result.stderr, result.stderr
        plain = workload("github", issuer, "{sub: x}", "").replace(issuer.url, "http://ci.example")
        result = refused(plain)
        assert result.returncode != 0 and "https" in result.stderr, result.stderr
        twice = gateway.apply(user("ada", 1) + "---" + user("bob", 1), expect=None)
        assert twice.returncode != 0 and "same account" in twice.stderr, twice.stderr


def test_an_issuer_over_tls_is_known_by_its_own_authority(tmp_path):
    authority = Authority(tmp_path, "ci-authority")
    certificate = authority.issue("ci", "IP:127.0.0.1")
    with Issuer("ES256", certificate) as issuer, Gateway() as gateway:
        service = TokenService(gateway)
        pem = "\n".join("      " + line for line in authority.file.read_text().splitlines())
        trust = f"""
kind: Workload
name: jobs
sponsor: ada@example.com
trust:
  - issuer: {issuer.url}
    audience: {AUDIENCE}
    match: {{sub: planner}}
    ca: |
{pem}
"""
        gateway.apply(user("ada", 1) + "---" + trust)
        status, answer = service.exchange(issuer.token(sub="planner"))
        assert status == 200, answer
        without = trust.split("    ca: |")[0]
        gateway.apply(user("ada", 1) + "---" + without)
        status, answer = service.exchange(issuer.token(sub="planner"))
        assert (status, answer["error"]) == (503, "temporarily_unavailable"), answer


@pytest.mark.parametrize("behaviour", ["hangs", "fails", "floods", "rotates"])
def test_a_bad_issuer_costs_nobody_else_anything(behaviour):
    with Issuer(behaviour=behaviour) as bad, Issuer() as good, Gateway() as gateway:
        service = TokenService(gateway)
        rule = "{repository: shop/reports}"
        gateway.apply("---".join([
            user("ada", 1), workload("github", bad, rule, "", name="bad"),
            workload("github", good, rule, "", name="good")]))
        token = bad.token(**github("ada"))
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(service.exchange, token) for _ in range(20)]
            before = time.monotonic()
            status, answer = service.exchange(good.token(**github("ada")))
            assert status == 200, answer
            assert time.monotonic() - before < 3
            for one in waiting:
                status, answer = one.result()
                assert status in (400, 503), answer
        assert time.monotonic() - began < 10
        assert bad.requests <= 2
        assert service.get("/api/v1/version")[0] == 200


def test_input_that_is_no_request_is_refused(world):
    service, issuer = world.service, world.issuers["github"]
    good = issuer.token(**github("ada"))

    def check(status, error, answer):
        assert (answer[0], answer[1].get("error")) == (status, error), answer

    for length in (1, 10, len(good) // 2, len(good) - 1):
        check(400, "invalid_grant", service.exchange(good[:length] if "." in good[:length]
                                                     else good[:length] + ".."))
    many = issuer.token(**github("ada", groups=[f"group-{n}" for n in range(10_000)]))
    assert service.exchange(many)[0] == 400
    larger = issuer.token(**github("ada", groups=[f"group-{n}" for n in range(4_000)]))
    check(400, "invalid_grant", service.exchange(larger))
    assert service.exchange("x." * 200_000)[0] == 400
    head = encoded(b'{"alg":"RS256","alg":"none"}')
    check(400, "invalid_grant", service.exchange(f"{head}.{encoded(b'{}')}.AA"))
    check(400, "invalid_request", service.post("/oauth2/token", [("grant_type", "a"),
                                                                 ("grant_type", "b")]))
    check(400, "invalid_request", service.request("POST", "/oauth2/token", "{}", {
        "Content-Type": "application/json"}))
    check(400, "unsupported_grant_type", service.post("/oauth2/token", {"grant_type": "password"}))
    check(400, "invalid_target", service.exchange(good, audience="orders-db"))
    check(400, "invalid_scope", service.exchange(good, scope="everything"))
    check(400, "invalid_request", service.exchange(good, actor_token="x"))
    check(400, "invalid_request", service.exchange(good, requested_token_type="saml2"))
    check(400, "invalid_authorization_details", service.exchange(good, detail={"for": "ada"}))
    check(400, "invalid_authorization_details", service.exchange(
        good, detail={"targets": ["no-such-db"]}))
    check(400, "invalid_request", service.exchange(good, detail={"ttl_s": 0}))
    # Nothing of this used the token up.
    assert service.exchange(good)[0] == 200


def test_a_job_only_sets_its_token(world):
    token = world.issuers["gitlab"].token(**gitlab("ada"))
    result = world.gateway.run("run", "--name", "nightly", "--", "sh", "-c",
                               "printf '%s ' $CORRAL_TOKEN $CORRAL_RUN_ID", token=token)
    run_token, run_id = result.stdout.split()
    assert run_token.startswith("crl_")
    [run] = [run for run in world.gateway.json("runs", "list") if run["id"] == run_id]
    assert (run["state"], run["sponsor"]) == ("ended", "ada@example.com")
    # A job that nobody answers for exits as refused.
    refused = world.issuers["gitlab"].token(**gitlab("nobody"))
    result = world.gateway.run("run", "--name", "late", "--", "true", token=refused, expect=3)
    assert "no user here" in result.stderr
    text = world.gateway.run("runs", "show", run_id).stdout
    assert "gitlab" in text and "verified" in text


@pytest.mark.parametrize("claimed, kept", [
    ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",) * 2, ("00-nonsense", None)])
def test_a_jobs_trace_is_kept_as_a_claim(world, claimed, kept):
    token = world.issuers["gitlab"].token(**gitlab("ada"))
    run_id = world.gateway.run("run", "--name", "traced", "--", "sh", "-c",
                               "printf $CORRAL_RUN_ID",
                               env=world.gateway.client_env(token) | {"TRACEPARENT": claimed}).stdout
    assert world.gateway.json("runs", "show", run_id).get("claimed_traceparent") == kept
