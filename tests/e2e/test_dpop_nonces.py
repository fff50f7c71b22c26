"""Nonces for proofs (RFC 9449 sections 8 and 9): asked for, given out, and checked everywhere."""

import time

import pytest

from harness.bound import PODS, Bound
from harness.issuer import Issuer, Prover
from harness.token_service import TYPES, TokenService

JWT = {"requested_token_type": TYPES + "jwt"}


class Nonces(Bound):
    """A gateway that wants a nonce in every proof."""

    def bind(self, prover):
        answer = self.exchange("bound", DPoP=self.token_proof(prover))
        assert answer["token_type"] == "DPoP"
        return answer["access_token"], answer["authorization_details"][0]["run_id"]

    def token_proof(self, prover, nonce=None, **claims):
        nonce = nonce or self.nonce()
        return prover.proof("POST", f"{self.url}/oauth2/token", nonce=nonce, **claims)

    def nonce(self):
        """As any client gets it: from the answer to a proof without one."""
        proof = Prover().proof("POST", f"{self.url}/oauth2/token")
        status, answer = self.service.exchange(self.login, "none", "access_token", **JWT,
                                               headers={"DPoP": proof})
        assert (status, answer["error"]) == (400, "use_dpop_nonce"), answer
        return self.service.heads["DPoP-Nonce"]


@pytest.fixture(scope="module")
def nonces():
    running = Nonces(config="require_dpop_nonce: true\n")
    yield running
    running.close()


@pytest.fixture(scope="module")
def without():
    running = Bound()
    yield running
    running.close()


def test_the_token_service_asks_for_a_nonce_before_anything_starts(nonces):
    service, prover = nonces.service, Prover()
    started = len(nonces.gateway.events("--event", "run.started"))
    nonce = nonces.nonce()
    for wrong in ("nonsense", nonce[:-4] + "AAAA", nonce + "A", 7):
        status, answer = service.exchange(
            nonces.login, "none", "access_token", **JWT,
            headers={"DPoP": nonces.token_proof(prover, wrong)})
        assert (status, answer["error"]) == (400, "use_dpop_nonce"), answer
        assert service.heads["DPoP-Nonce"] and service.heads["Cache-Control"] == "no-store"
    assert len(nonces.gateway.events("--event", "run.started")) == started
    status, answer = service.exchange(nonces.login, "bound", "access_token", **JWT,
                                      headers={"DPoP": nonces.token_proof(prover, nonce)})
    assert status == 200 and answer["token_type"] == "DPoP", answer
    # The next one is told with the answer; a nonce is no proof's own.
    again = service.heads["DPoP-Nonce"]
    token, run_id = answer["access_token"], answer["authorization_details"][0]["run_id"]
    status, answer = service.same_run(token, run_id,
                                      {"DPoP": nonces.token_proof(prover, again)})
    assert status == 200, answer
    # Without a proof there is nothing to say about nonces.
    assert service.exchange(nonces.login, "plain", "access_token", **JWT)[0] == 200
    assert service.heads["DPoP-Nonce"] is None


def test_a_proof_that_was_made_ahead_is_good_for_nothing(nonces):
    """Its maker says when it was made; it cannot know the nonce."""
    nonce, later = nonces.nonce(), int(time.time())
    made_ahead = Prover().proof("POST", f"{nonces.url}/oauth2/token", iat=later)
    status, answer = nonces.service.exchange(nonces.login, "none", "access_token", **JWT,
                                             headers={"DPoP": made_ahead})
    assert (status, answer["error"]) == (400, "use_dpop_nonce"), answer
    # The nonce makes no old proof young, and no used one unused.
    old = nonces.token_proof(Prover(), nonce, iat=later - 3600)
    used = nonces.token_proof(Prover(), nonce)
    for proof, expect in ((old, 400), (used, 200), (used, 400)):
        status, answer = nonces.service.exchange(nonces.login, "none", "access_token", **JWT,
                                                 headers={"DPoP": proof})
        assert status == expect, answer
        assert status == 200 or answer["error"] == "invalid_dpop_proof", answer


def test_the_api_and_targets_ask_for_a_nonce(nonces):
    service, who = nonces.service, f"{nonces.url}/api/v1/whoami"
    prover, token = nonces.prover, nonces.token

    def whoami(**claims):
        proof = prover.proof("GET", who, token, **claims)
        return service.whoami(token, {"DPoP": proof}, "DPoP")[0]

    assert whoami() == 401
    assert 'error="use_dpop_nonce"' in service.heads["WWW-Authenticate"]
    nonce = service.heads["DPoP-Nonce"]
    assert whoami(nonce=nonce) == 200 and service.heads["DPoP-Nonce"]
    assert service.whoami(token, scheme="DPoP")[0] == 401
    assert 'error="invalid_dpop_proof"' in service.heads["WWW-Authenticate"]
    assert service.heads["DPoP-Nonce"], "who shows no proof learns of the nonce too"
    # The same at a target, where the session is open and where it is not.
    connection = nonces.gateway.https()
    reached = len(nonces.api.lines())
    for proof in (nonces.proof(), nonces.proof(nonce="nonsense")):
        status, words, challenge = nonces.ask(proof, connection=connection)
        assert status == 401 and "nonce" in words, words
        assert 'error="use_dpop_nonce"' in challenge
    assert len(nonces.api.lines()) == reached
    for path in (PODS, f"{PODS}?limit=1"):
        assert nonces.ask(nonces.proof(nonce=nonce), connection=connection, path=path)[0] == 200
    assert nonces.ask(nonces.proof(), connection=connection)[0] == 401


def test_a_nonce_outlives_a_restart(nonces):
    nonce = nonces.nonce()
    nonces.gateway.stop()
    nonces.gateway.start()
    nonces.url = nonces.gateway.ready["api"]
    answer = nonces.exchange("again", DPoP=nonces.token_proof(Prover(), nonce))
    assert answer["token_type"] == "DPoP"


def test_where_nonces_are_not_required_none_is_given_out(without):
    answer = without.exchange("bound", DPoP=without.prover.proof(
        "POST", f"{without.url}/oauth2/token", nonce="of somebody else"))
    assert answer["token_type"] == "DPoP" and without.service.heads["DPoP-Nonce"] is None
    assert without.ask(without.proof())[0] == 200


def test_a_proof_is_used_up_by_a_good_subject_only(without):
    with Issuer() as issuer:
        without.gateway.apply(f"""
kind: Workload
name: jobs
sponsor: ada@example.com
trust: [{{issuer: "{issuer.url}", audience: corral, match: {{sub: planner}}}}]
""")
        service, run = TokenService(without.gateway), without.exchange("planner")
        run_id = run["authorization_details"][0]["run_id"]
        job = issuer.token(sub="planner", aud="corral")
        foreign = issuer.token(sub="planner", aud="another")

        def start(token, kind, proof):
            return service.exchange(token, "bound", kind, **JWT, headers={"DPoP": proof})

        def again(token, proof):
            return service.same_run(token, run_id, {"DPoP": proof})

        for good, ask in (
                (without.login, lambda token, proof: start(token, "access_token", proof)),
                (job, lambda token, proof: start(token, "jwt", proof)),
                (run["access_token"], again)):
            proof = Prover().proof("POST", f"{without.url}/oauth2/token")
            for bad in ("crl_" + "a" * 52, "nonsense", foreign, foreign):
                status, answer = ask(bad, proof)
                assert status == 400 and answer["error"] != "invalid_dpop_proof", answer
            status, answer = ask(good, proof)
            assert status == 200 and answer["token_type"] == "DPoP", answer
            status, answer = ask(good, proof)
            assert (status, answer["error"]) == (400, "invalid_dpop_proof"), answer
        # A job's token is not used up by a proof that was.
        fresh = issuer.token(sub="planner", aud="corral")
        assert start(fresh, "jwt", proof)[1]["error"] == "invalid_dpop_proof"
        proof = Prover().proof("POST", f"{without.url}/oauth2/token")
        assert start(fresh, "jwt", proof)[0] == 200
