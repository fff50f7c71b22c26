"""Tokens that are bound to a key (DPoP, RFC 9449) at the Kubernetes API: each request proves it."""

import http.client
import json
import shutil
import ssl
import time

import pytest

from harness.gateway import Gateway
from harness.issuer import Prover
from harness.kube_standin import TOKEN, KubeStandin
from harness.postgres import free_port
from harness.token_service import TYPES, TokenService
from harness.waiting import wait_until

PASSWORD = "correct horse battery"
PODS = "/api/v1/namespaces/dev/pods"
MANIFEST = """
kind: User
name: ada@example.com
password: {{value: {password}}}
groups: [agents]
---
kind: Policy
name: all
cedar: |
  permit (principal in Corral::Group::"agents", action, resource);
---
kind: Target
name: prod
protocol: kubernetes
address: 127.0.0.1:{port}
tls: {{mode: verify-full, ca_file: {ca_file}}}
credential: {{token: {{value: {token}}}}}
listen: 127.0.0.1:{listen}
"""


class Bound:
    """A gateway in front of a stand-in; a run's token that is bound to a key, and another run's
    that is bound to none."""

    def __init__(self):
        self.api = KubeStandin()
        self.gateway = Gateway()
        self.listen = free_port()
        self.gateway.apply(MANIFEST.format(
            password=PASSWORD, port=self.api.port, ca_file=self.api.ca_file, token=TOKEN,
            listen=self.listen))
        self.url = self.gateway.ready["api"]
        self.service = TokenService(self.gateway)
        self.login = self.gateway.login("ada@example.com", PASSWORD)
        self.prover = Prover()
        self.token, self.run_id = self.bind(self.prover)
        self.plain = self.exchange("plain")["access_token"]

    def close(self):
        self.gateway.close()
        self.api.close()
        shutil.rmtree(self.api.folder, ignore_errors=True)

    def exchange(self, name, **headers):
        status, answer = self.service.exchange(
            self.login, name, "access_token", requested_token_type=TYPES + "jwt", headers=headers)
        assert status == 200, answer
        return answer

    def bind(self, prover):
        answer = self.exchange("bound", DPoP=prover.proof("POST", f"{self.url}/oauth2/token"))
        assert answer["token_type"] == "DPoP"
        return answer["access_token"], answer["authorization_details"][0]["run_id"]

    def proof(self, method="GET", path=PODS, prover=None, token=None, **claims):
        url = f"{self.url}/k8s/prod{path}"
        return (prover or self.prover).proof(method, url, token or self.token, **claims)

    def ask(self, proof, token=None, scheme="DPoP", connection=None, path=PODS, method="GET",
            mount="/k8s/prod", **more):
        """Status, the refusal's words, and the challenge of one request."""
        connection = connection or self.gateway.https()
        connection.putrequest(method, mount + path)
        connection.putheader("Authorization", f"{scheme} {token or self.token}")
        proofs = proof if isinstance(proof, list) else [proof] if proof else []
        for one in proofs:
            connection.putheader("DPoP", one)
        for name, value in more.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read()
        words = json.loads(text).get("message", "") if text else ""
        return answer.status, words, answer.headers.get("WWW-Authenticate", "")


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
