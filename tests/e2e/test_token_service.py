"""The token service: children, introspection, revocation, JWTs, keys that tokens are bound to."""

import json
import time

import jwt
import psycopg
import pytest

from harness.issuer import Prover
from harness.token_service import TYPES, TokenService, basic

JWT = {"requested_token_type": TYPES + "jwt"}


@pytest.fixture(scope="module")
def service(shop):
    return TokenService(shop.gateway)


def keys(service):
    status, answer = service.get("/oauth2/jwks")
    assert status == 200
    [jwk] = answer["keys"]
    assert "d" not in jwk
    return jwt.PyJWK(jwk)


def read(service, token):
    """The claims of a JWT, verified as any resource server would."""
    issuer = service.gateway.ready["api"]
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    return jwt.decode(token, keys(service), algorithms=["EdDSA"], audience=issuer, issuer=issuer)


def test_the_service_describes_itself(service):
    status, answer = service.get("/.well-known/oauth-authorization-server")
    assert status == 200
    assert answer["issuer"] == service.gateway.ready["api"]
    for name in ("token_endpoint", "introspection_endpoint", "revocation_endpoint", "jwks_uri"):
        assert answer[name].startswith(answer["issuer"])
    assert answer["authorization_details_types_supported"] == ["corral_run"]
    assert "none" not in answer["dpop_signing_alg_values_supported"]
    assert not any(name.startswith("HS") for name in answer["dpop_signing_alg_values_supported"])


def test_a_runs_token_gives_a_narrower_child(shop, service):
    root = shop.run("planner", "--target", "plain-db")
    detail = {"purpose": "count orders", "targets": ["plain-db"], "ttl_s": 60}
    status, answer = service.exchange(root["token"], "executor-1", "access_token", detail=detail)
    assert status == 200, answer
    assert 0 < answer["expires_in"] <= 60
    [made] = answer["authorization_details"]
    assert made["parent"] == root["run_id"] and made["path"] == "planner/executor-1"
    with shop.connect("plain-db", answer["access_token"]) as connection:
        connection.execute("select 1")
    status, answer = service.exchange(root["token"], "wide", "access_token",
                                      detail={"targets": ["orders-db"]})
    assert (status, answer["error"]) == (400, "access_denied"), answer
    shop.gateway.run("runs", "end", root["run_id"])
    status, answer = service.exchange(root["token"], "late", "access_token")
    assert (status, answer["error"]) == (400, "invalid_grant"), answer


def test_a_workload_with_a_secret_signs_in(shop, service):
    name, secret = "nightly-report", shop.env["NIGHTLY_SECRET"]
    for fields, headers in (({"client_id": name, "client_secret": secret}, {}),
                            ({}, basic(name, secret))):
        status, answer = service.post(
            "/oauth2/token", {"grant_type": "client_credentials"} | fields, headers)
        assert status == 200, answer
        assert service.whoami(answer["access_token"])[1]["kind"] == "workload"
        status, run = service.exchange(answer["access_token"], "root", "access_token")
        assert status == 200 and run["authorization_details"][0]["principal"] == name
    status, answer = service.post("/oauth2/token", {"grant_type": "client_credentials"},
                                  basic(name, "wrong"))
    assert (status, answer["error"]) == (401, "invalid_client")
    status, answer = service.post("/oauth2/token", {"grant_type": "client_credentials"})
    assert (status, answer["error"]) == (401, "invalid_client")


def test_a_jwt_names_the_whole_chain_and_is_good_everywhere(shop, service):
    root = shop.run("planner")
    _, child = service.exchange(root["token"], "executor", "access_token", **JWT)
    assert child["issued_token_type"] == TYPES + "jwt" and child["token_type"] == "Bearer"
    token = child["access_token"]
    claims = read(service, token)
    run_id = child["authorization_details"][0]["run_id"]
    assert claims["sub"] == "nightly-report" and claims["sponsor"] == "ada@example.com"
    assert claims["act"]["sub"] == f"run:{run_id}"
    assert claims["act"]["act"]["sub"] == f"run:{root['run_id']}"
    assert "act" not in claims["act"]["act"]
    assert service.whoami(token)[1]["run_id"] == run_id
    with shop.connect("plain-db", token) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    # It starts children of its own.
    status, below = service.exchange(token, "below", "access_token")
    assert status == 200 and below["authorization_details"][0]["parent"] == run_id
    # Its signature and its time are good; its run decides.
    shop.gateway.run("runs", "end", root["run_id"])
    assert read(service, token)["run_id"] == run_id
    assert service.whoami(token)[0] == 401
    with pytest.raises(psycopg.OperationalError):
        shop.connect("plain-db", token)
    status, answer = service.exchange(token, "late", "access_token")
    assert (status, answer["error"]) == (400, "invalid_grant"), answer


def test_a_jwt_that_somebody_made_or_changed_is_nobodys(shop, service):
    root = shop.run("planner")
    _, answer = service.exchange(root["token"], "executor", "access_token", **JWT)
    token = answer["access_token"]
    head, body, signature = token.split(".")
    claims = read(service, token)
    other = jwt.encode(claims, Prover().key, algorithm="ES256", headers={"typ": "at+jwt"})
    forged_head = jwt.encode({}, "", algorithm="none").split(".")[0]
    for forged in (other, f"{forged_head}.{body}.", f"{head}.{body}.{signature[:-4]}AAAA",
                   f"{head}.{other.split('.')[1]}x.{signature}", token[:-1]):
        assert service.whoami(forged)[0] == 401
        with pytest.raises(psycopg.OperationalError):
            shop.connect("plain-db", forged)
    assert service.whoami(token)[0] == 200


def test_introspection_tells_only_who_may_know(shop, service):
    root = shop.run("planner")
    _, child = service.exchange(root["token"], "executor", "access_token")
    _, bound = service.exchange(root["token"], "bound", "access_token", **JWT, headers={
        "DPoP": Prover().proof("POST", f"{shop.gateway.ready['api']}/oauth2/token")})
    admin = shop.gateway.admin_token()
    answer = service.introspect(child["access_token"], admin)
    assert answer["active"] and answer["sub"] == "nightly-report"
    assert answer["run_path"] == "planner/executor" and answer["exp"] > time.time()
    assert service.introspect(child["access_token"], root["token"])["active"]
    assert service.introspect(bound["access_token"], admin)["token_type"] == "DPoP"
    assert service.introspect(root["token"], child["access_token"]) == {"active": False}
    assert service.introspect(shop.run("other")["token"], root["token"]) == {"active": False}
    assert service.introspect("crl_" + "a" * 52, admin) == {"active": False}
    assert service.introspect("no token", admin) == {"active": False}
    assert service.post("/oauth2/introspect", {"token": root["token"]})[0] == 401
    shop.gateway.run("runs", "end", root["run_id"])
    assert service.introspect(child["access_token"], admin) == {"active": False}


def test_a_revoked_token_ends_its_run_and_its_sessions(shop, service):
    root = shop.run("planner")
    for more in ({}, JWT):
        _, child = service.exchange(root["token"], "executor", "access_token", **more)
        token = child["access_token"]
        with shop.connect("plain-db", token) as connection:
            connection.execute("select 1")
            assert service.post("/oauth2/revoke", {"token": token})[0] == 200
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        assert service.whoami(token)[0] == 401
        # Twice is once, and nonsense is as if it was taken back.
        assert service.post("/oauth2/revoke", {"token": token})[0] == 200
    assert service.post("/oauth2/revoke", {"token": "nonsense"})[0] == 200
    assert service.whoami(root["token"])[0] == 200
    login = shop.gateway.login("ada@example.com", shop.env["ADA_PASSWORD"])
    assert service.post("/oauth2/revoke", {"token": login})[0] == 200
    assert service.whoami(login)[0] == 401
    status, answer = service.post("/oauth2/revoke", {"token": shop.gateway.admin_token()})
    assert (status, answer["error"]) == (400, "unsupported_token_type")


def test_a_bound_token_is_good_with_its_key_only(shop, service):
    api = shop.gateway.ready["api"]
    endpoint, who = f"{api}/oauth2/token", f"{api}/api/v1/whoami"
    prover, thief = Prover(), Prover()
    root = shop.run("planner")

    def bind(proof):
        return service.exchange(root["token"], "bound", "access_token", **JWT,
                                headers={"DPoP": proof})

    proof = prover.proof("POST", endpoint)
    status, answer = bind(proof)
    assert status == 200 and answer["token_type"] == "DPoP", answer
    token = answer["access_token"]
    assert read(service, token)["cnf"] == {"jkt": prover.thumbprint}
    refused = {
        "the same proof again": proof,
        "another method": prover.proof("GET", endpoint),
        "another address": prover.proof("POST", "https://evil.example/oauth2/token"),
        "an old proof": prover.proof("POST", endpoint, iat=int(time.time()) - 3600),
        "no proof": "nonsense",
    }
    for why, wrong in refused.items():
        status, answer = bind(wrong)
        assert (status, answer["error"]) == (400, "invalid_dpop_proof"), why
    status, answer = service.exchange(root["token"], "opaque", "access_token",
                                      headers={"DPoP": prover.proof("POST", endpoint)})
    assert (status, answer["error"]) == (400, "invalid_request"), answer

    def call(proof=None, scheme="DPoP"):
        return service.whoami(token, {"DPoP": proof} if proof else {}, scheme)[0]

    used = prover.proof("GET", who, token)
    assert call(used) == 200
    assert call(used) == 401
    assert call(prover.proof("GET", who, token)) == 200
    assert call() == 401
    assert call(scheme="Bearer") == 401
    assert call(prover.proof("GET", who, token), scheme="Bearer") == 401
    assert call(thief.proof("GET", who, token)) == 401
    assert call(prover.proof("GET", who)) == 401
    assert call(prover.proof("GET", who, "another token")) == 401
    assert call(prover.proof("POST", who, token)) == 401
    assert call(prover.proof("GET", endpoint, token)) == 401
    # Protocols that cannot prove a key do not take it.
    with pytest.raises(psycopg.OperationalError):
        shop.connect("plain-db", token)
    # As a subject it needs its key too.
    status, answer = service.exchange(token, "child", "access_token")
    assert (status, answer["error"]) == (400, "invalid_grant"), answer
    status, answer = service.exchange(token, "child", "access_token", **JWT, headers={
        "DPoP": thief.proof("POST", endpoint)})
    assert (status, answer["error"]) == (400, "invalid_grant"), answer
    status, answer = service.exchange(token, "child", "access_token", **JWT, headers={
        "DPoP": prover.proof("POST", endpoint)})
    assert status == 200, answer


def test_no_token_is_found_in_the_log_or_the_record(shop, service):
    root = shop.run("planner")
    _, answer = service.exchange(root["token"], "executor", "access_token", **JWT)
    signature = answer["access_token"].rsplit(".", 1)[1]
    service.whoami(answer["access_token"])
    assert signature not in shop.gateway.log()
    assert root["token"] not in shop.gateway.log()
    for file in (shop.gateway.data / "record").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert signature.encode() not in data and root["token"].encode() not in data


def test_what_is_not_understood_is_refused_and_never_ignored(shop, service):
    root = shop.run("planner")
    before = len(shop.gateway.events("--event", "run.started"))
    for fields, error in (
            ({"scope": "read"}, "invalid_scope"), ({"resource": "https://x"}, "invalid_target"),
            ({"audience": "orders-db"}, "invalid_target"),
            ({"actor_token": root["token"]}, "invalid_request"),
            ({"actor_token_type": TYPES + "access_token"}, "invalid_request"),
            ({"requested_token_type": TYPES + "saml2"}, "invalid_request")):
        status, answer = service.exchange(root["token"], "executor", "access_token", **fields)
        assert (status, answer["error"]) == (400, error), answer
    for detail in ({"for": "ada@example.com"}, {"type": "another"}, {"targets": "orders-db"},
                   {"sponsor": "grace@example.com"}):
        status, answer = service.exchange(root["token"], "executor", "access_token", detail=detail)
        assert (status, answer["error"]) == (400, "invalid_authorization_details"), answer
    assert len(shop.gateway.events("--event", "run.started")) == before


def test_a_limit_of_the_tree_is_told_as_something_to_wait_for(own_shop):
    own_shop.gateway.apply("""
kind: Limit
name: few
subject: {any: true}
run: {children_max: 1}
""")
    service, root = TokenService(own_shop.gateway), own_shop.run("planner")
    assert service.exchange(root["token"], "one", "access_token")[0] == 200
    status, answer = service.exchange(root["token"], "two", "access_token")
    assert (status, answer["error"]) == (429, "temporarily_unavailable"), answer


def test_no_certificate_is_given_for_a_jwt(shop, service):
    root = shop.run("planner")
    _, answer = service.same_run(root["token"], root["run_id"])
    body = json.dumps({"protocol": "ssh", "material": "ssh-ed25519 AAAA"})
    headers = {"Authorization": f"Bearer {answer['access_token']}",
               "Content-Type": "application/json"}
    status, refused = service.request("POST", "/api/v1/credentials", body, headers)
    assert status == 401, refused
