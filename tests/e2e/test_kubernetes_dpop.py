"""Tokens that are bound to a key (DPoP, RFC 9449) at the Kubernetes API: each request proves it."""

import http.client
import ssl
import time

import pytest

from harness.bound import PODS, Bound
from harness.issuer import Prover
from harness.kube_standin import TOKEN
from harness.waiting import wait_until

@pytest.fixture(scope="module")
def bound():
    running = Bound()
    yield running
    running.close()


def test_each_request_with_its_own_proof_passes(bound):
    connection = bound.gateway.https()
    before = len(bound.gateway.events("--event", "session.opened"))
    for number in range(3):
        # A query and a fragment are not part of what is proven.
        path = f"{PODS}?limit={number + 1}"
        assert bound.ask(bound.proof(), connection=connection, path=path)[0] == 200
    headers = bound.api.headers(f"GET {PODS}")
    assert headers["authorization"] == f"Bearer {TOKEN}" and "dpop" not in headers
    opened = bound.gateway.events("--event", "session.opened")[before:]
    assert [event["run"] for event in opened] == [bound.run_id], "one session for the connection"
    assert bound.ask(bound.proof("DELETE", f"{PODS}/none"), path=f"{PODS}/none",
                     method="DELETE")[0] == 404


def test_a_request_without_a_good_proof_of_its_own_is_refused(bound):
    thief, now = Prover(), int(time.time())
    used = bound.proof()
    # The session is open on this very connection.
    connection = bound.gateway.https()
    assert bound.ask(used, connection=connection)[0] == 200
    reached = len(bound.api.lines())
    api = f"{bound.url}/api/v1/whoami"
    cases = {
        "replayed": (used, "used before"),
        "no proof": (None, "send a proof"),
        "two proofs": ([bound.proof(), bound.proof()], "several"),
        "nonsense": ("nonsense", "DPoP proof"),
        "another method": (bound.proof("POST"), "htm"),
        "another path": (bound.proof(path=f"{PODS}/web"), "htu"),
        "without the mount": (bound.prover.proof("GET", bound.url + PODS, bound.token), "htu"),
        "another host": (bound.prover.proof(
            "GET", f"https://evil.example/k8s/prod{PODS}", bound.token), "htu"),
        "the API": (bound.prover.proof("GET", api, bound.token), "htu"),
        "another token": (bound.proof(token=bound.plain), "ath"),
        "no token": (bound.prover.proof("GET", f"{bound.url}/k8s/prod{PODS}"), "ath"),
        "another key": (bound.proof(prover=thief), "another key"),
        "old": (bound.proof(iat=now - 3600), "DPoP proof"),
        "of the future": (bound.proof(iat=now + 3600), "DPoP proof"),
    }
    refused = len(bound.gateway.events("--event", "session.refused"))
    for why, (proof, words) in cases.items():
        status, text, challenge = bound.ask(proof, connection=connection)
        assert status == 401 and words in text, (why, status, text)
        assert text.startswith("corral:") and challenge.startswith("DPoP "), (why, text, challenge)
        assert "ES256" in challenge and 'error="invalid_dpop_proof"' in challenge
    wait_until(lambda: len(bound.gateway.events("--event", "session.refused")) ==
               refused + len(cases), "each refusal is recorded")
    # A token that is bound is no bearer, with or without a proof, nor beside its open session.
    for proof in (None, bound.proof()):
        assert bound.ask(proof, scheme="Bearer", connection=connection)[0] == 401
    assert len(bound.api.lines()) == reached, "nothing of it reached the cluster"
    assert bound.ask(bound.proof(), connection=connection)[0] == 200


def test_a_token_that_is_bound_to_no_key_is_no_dpop_token(bound):
    for token in (bound.plain, bound.login, "crl_" + "a" * 52, "nonsense"):
        status, text, _ = bound.ask(bound.proof(token=token), token=token)
        assert status == 401 and "bound to no key" in text, text
    assert bound.ask(None, token=bound.plain, scheme="Bearer")[0] == 200
    # A proof beside a bearer that needs none is not for the cluster.
    assert bound.ask("nonsense", token=bound.plain, scheme="Bearer")[0] == 200
    assert "dpop" not in bound.api.headers(f"GET {PODS}")


def test_a_listener_of_one_target_says_that_it_takes_no_proofs(bound):
    context = ssl.create_default_context(cafile=bound.gateway.ready["ca_file"])

    def ask(scheme, proof=None, token=None):
        connection = http.client.HTTPSConnection("127.0.0.1", bound.listen, context=context,
                                                 timeout=20)
        return bound.ask(proof, scheme=scheme, token=token, connection=connection, mount="")

    proof = bound.prover.proof("GET", f"https://127.0.0.1:{bound.listen}{PODS}", bound.token)
    status, text, _ = ask("DPoP", proof)
    assert status == 401 and "takes no proofs of possession" in text, text
    assert ask("Bearer")[0] == 401
    assert ask("Bearer", token=bound.plain)[0] == 200


def test_an_ended_run_has_no_proven_token(bound):
    prover = Prover()
    token, run = bound.bind(prover)
    connection = bound.gateway.https()

    def ask():
        return bound.ask(bound.proof(prover=prover, token=token), token=token,
                         connection=connection)[0]

    assert ask() == 200
    bound.gateway.run("runs", "end", run)
    assert ask() == 401
