"""JWTs are short: they end before their runs, and are exchanged for others of the same run."""

import time

import pytest

from harness.bound import PODS, Bound
from harness.issuer import Prover
from harness.shop import Shop
from harness.token_service import TYPES, TokenService
from harness.waiting import wait_until

LIFETIME_S = 5
SHORT = f"access_token_lifetime: {LIFETIME_S}s\n"
USUAL_S = 15 * 60
JWT = {"requested_token_type": TYPES + "jwt"}


@pytest.fixture(scope="module")
def short():
    running = Bound(config=SHORT)
    yield running
    running.close()


@pytest.fixture(scope="module")
def service(shop):
    return TokenService(shop.gateway)


def proof(service, prover):
    return {"DPoP": prover.proof("POST", f"{service.gateway.ready['api']}/oauth2/token")}


def ask(bound, token, connection=None, path=PODS):
    """The status of a request with a bearer, and its words."""
    status, words, _ = bound.ask(None, token=token, scheme="Bearer", connection=connection,
                                 path=path)
    return status, words


def test_an_expired_jwt_is_refused_everywhere_while_its_run_goes_on(short):
    service, admin = short.service, short.gateway.admin_token()
    _, run = service.exchange(short.login, "planner", "access_token")
    opaque, run_id = run["access_token"], run["authorization_details"][0]["run_id"]
    connection = short.gateway.https()
    following = short.gateway.https()
    status, answer = service.same_run(opaque, run_id)
    assert status == 200, answer
    token = answer["access_token"]
    assert 0 < answer["expires_in"] <= LIFETIME_S
    following.request("GET", f"/k8s/prod{PODS}/web/log?follow=true",
                      headers={"Authorization": f"Bearer {token}"})
    log = following.getresponse()
    assert log.status == 200 and log.readline()
    assert service.whoami(token)[0] == 200
    assert ask(short, token, connection)[0] == 200
    wait_until(lambda: service.whoami(token)[0] == 401, "the token expires")
    reached = len(short.api.lines(f"GET {PODS}"))
    # Also where its session is open.
    for where in (connection, None):
        status, words = ask(short, token, where)
        assert status == 401 and "expired" in words, words
    assert len(short.api.lines(f"GET {PODS}")) == reached, "nothing of it reached the cluster"
    assert service.introspect(token, admin) == {"active": False}
    for again in (service.exchange(token, "child", "access_token"),
                  service.same_run(token, run_id)):
        assert (again[0], again[1]["error"]) == (400, "invalid_grant"), again
    # Taking it back is as if it was taken back: the run goes on.
    assert service.post("/oauth2/revoke", {"token": token})[0] == 200
    assert service.whoami(opaque)[1]["run_id"] == run_id
    assert log.readline(), "what runs goes on"
    status, answer = service.same_run(opaque, run_id)
    assert status == 200 and ask(short, answer["access_token"], connection)[0] == 200
    following.close()


def test_an_expired_bound_jwt_is_refused_with_a_good_proof(short):
    token, run_id = short.bind(short.prover)
    connection = short.gateway.https()

    def asked():
        return short.ask(short.proof(token=token), token=token, connection=connection)[0]

    def who():
        url = f"{short.url}/api/v1/whoami"
        return short.service.whoami(token, {"DPoP": short.prover.proof("GET", url, token)},
                                    "DPoP")[0]

    def again(token):
        return short.service.same_run(token, run_id, proof(short.service, short.prover))

    assert asked() == 200
    status, answer = again(token)
    assert status == 200 and answer["token_type"] == "DPoP", answer
    wait_until(lambda: asked() == 401, "the token expires")
    assert who() == 401
    status, answer = again(token)
    assert (status, answer["error"]) == (400, "invalid_grant"), answer


def test_a_session_of_another_protocol_outlives_the_token_and_not_the_run(server):
    with Shop(server, config=SHORT) as shop:
        service = TokenService(shop.gateway)
        root = shop.run("planner")
        _, answer = service.same_run(root["token"], root["run_id"])
        with shop.connect("plain-db", answer["access_token"]) as connection:
            wait_until(lambda: service.whoami(answer["access_token"])[0] == 401, "it expires")
            assert connection.execute("select 1").fetchone() == (1,)
            with pytest.raises(Exception, match="not valid"):
                shop.connect("plain-db", answer["access_token"])
            shop.gateway.run("runs", "end", root["run_id"])
            with pytest.raises(Exception, match="corral"):
                connection.execute("select 1")


def test_another_jwt_is_one_of_the_same_run(shop, service):
    root = shop.run("planner")
    _, child = service.exchange(root["token"], "executor", "access_token", **JWT,
                                detail={"targets": ["plain-db"], "ttl_s": 600})
    [made] = child["authorization_details"]
    run_id, admin = made["run_id"], shop.gateway.admin_token()
    before = len(shop.gateway.events("--event", "run.started"))
    tokens = [child["access_token"]]
    for _ in range(2):
        status, answer = service.same_run(tokens[-1], run_id)
        assert status == 200, answer
        assert answer["authorization_details"] == [made] and answer["token_type"] == "Bearer"
        assert answer["issued_token_type"] == TYPES + "jwt"
        assert 0 < answer["expires_in"] <= 600
        tokens.append(answer["access_token"])
    assert len(set(tokens)) == 3
    told = [service.introspect(token, admin) for token in tokens]
    assert all(one["active"] and one["run_id"] == run_id for one in told)
    assert told[0]["act"] == told[-1]["act"]
    assert len(shop.gateway.events("--event", "run.started")) == before, "no run was started"
    renewed = [event for event in shop.gateway.events("--event", "token.renewed")
               if event["run"] == run_id]
    assert len(renewed) == 2 and not any("key" in event for event in renewed)
    assert all(event["sponsor"] == "ada@example.com" and event["until"] for event in renewed)
    # With a run of an hour the token is the shorter one.
    long = shop.run("long", "--ttl", "1h")
    status, answer = service.same_run(long["token"], long["run_id"])
    assert status == 200 and 0 < answer["expires_in"] <= USUAL_S
    exp = service.introspect(answer["access_token"], admin)["exp"]
    assert exp <= time.time() + USUAL_S < service.introspect(long["token"], admin)["exp"]
    # All of them end with the run.
    shop.gateway.run("runs", "end", root["run_id"])
    for token in tokens:
        assert service.whoami(token)[0] == 401
        status, answer = service.same_run(token, run_id)
        assert (status, answer["error"]) == (400, "invalid_grant"), answer


def test_only_a_token_of_the_run_itself_is_exchanged_for_another_one_of_it(shop, service):
    root, other = shop.run("planner"), shop.run("other")
    _, child = service.exchange(root["token"], "executor", "access_token")
    child_id = child["authorization_details"][0]["run_id"]
    login = shop.gateway.login("ada@example.com", shop.env["ADA_PASSWORD"])
    for token, run_id in ((root["token"], child_id), (child["access_token"], root["run_id"]),
                          (other["token"], root["run_id"]), (login, root["run_id"]),
                          (shop.gateway.admin_token(), root["run_id"]),
                          (root["token"], "r-00000000000000000000000000000000")):
        status, answer = service.same_run(token, run_id)
        assert (status, answer["error"]) == (400, "access_denied"), answer
    for token in ("crl_" + "a" * 52, "nonsense", "a.b.c"):
        status, answer = service.same_run(token, root["run_id"])
        assert status == 400 and answer["error"] in ("invalid_grant", "access_denied"), answer
    status, answer = service.same_run(root["token"], root["run_id"],
                                      requested_token_type=TYPES + "access_token")
    assert (status, answer["error"]) == (400, "invalid_request"), answer
    for wish in ('"name":"wider"', '"ttl_s":3600', '"targets":["orders-db"]', '"actions":["read"]',
                 '"purpose":"more"', '"renew_within_s":9'):
        detail = f'[{{"type":"corral_run","run_id":"{root["run_id"]}",{wish}}}]'
        status, answer = service.same_run(root["token"], root["run_id"],
                                          authorization_details=detail)
        assert (status, answer["error"]) == (400, "invalid_authorization_details"), answer


def test_a_bound_jwt_is_exchanged_with_its_own_key_only(shop, service):
    root = shop.run("planner")
    prover, thief = Prover(), Prover()
    admin = shop.gateway.admin_token()
    status, answer = service.same_run(root["token"], root["run_id"], proof(service, prover))
    assert status == 200 and answer["token_type"] == "DPoP", answer
    token = answer["access_token"]
    for headers in ({}, proof(service, thief)):
        status, answer = service.same_run(token, root["run_id"], headers)
        assert (status, answer["error"]) == (400, "invalid_grant"), answer
    status, answer = service.same_run(token, root["run_id"], proof(service, prover))
    assert status == 200 and answer["token_type"] == "DPoP", answer
    told = service.introspect(answer["access_token"], admin)
    assert told["cnf"] == {"jkt": prover.thumbprint} and told["run_id"] == root["run_id"]
    renewed = [event["key"] for event in shop.gateway.events("--event", "token.renewed")
               if event["run"] == root["run_id"]]
    assert renewed == [prover.thumbprint] * 2
    shop.gateway.run("runs", "end", root["run_id"])
    status, answer = service.same_run(token, root["run_id"], proof(service, prover))
    assert (status, answer["error"]) == (400, "invalid_grant"), answer


def test_a_run_that_must_be_renewed_is_not_kept_alive_by_its_tokens(shop, service):
    root = shop.run("planner", "--renew-within", "3s")
    _, answer = service.same_run(root["token"], root["run_id"])
    wait_until(lambda: service.same_run(root["token"], root["run_id"])[0] == 400,
               "the run ends although it is asked for tokens", 20)
    assert service.whoami(answer["access_token"])[0] == 401
    [ended] = [event for event in shop.gateway.events("--event", "run.ended")
               if event["run"] == root["run_id"]]
    assert ended["reason"] == "renew_missed"
