"""Tokens of service accounts that end: the gateway renews them at the cluster, and says when it
cannot."""

import json
import shutil

import pytest

from harness.gateway import Gateway
from harness.kube_standin import TOKEN_PATH, KubeStandin, account_token
from harness.waiting import wait_until

PASSWORD = "correct horse battery"
PODS = "/k8s/prod/api/v1/namespaces/dev/pods"
PATIENCE_S = 20
SHORT_S = 9
HOUR_S = 3600
PEOPLE = """
kind: User
name: ada@example.com
password: {value: %s}
groups: [agents]
---
kind: Policy
name: all
cedar: |
  permit (principal in Corral::Group::"agents", action, resource);
""" % PASSWORD
TARGET = """
kind: Target
name: prod
protocol: kubernetes
address: 127.0.0.1:{port}
tls: {{mode: verify-full, ca_file: {ca_file}}}
credential: {{token: {{value: {token}}}}}
options: {{token_lifetime: 1h}}
"""


class Cluster:
    """A gateway in front of a stand-in, with a token of its own for each test."""

    def __init__(self):
        self.api = KubeStandin()
        self.gateway = Gateway()
        self.gateway.apply(PEOPLE)

    def close(self):
        self.gateway.close()
        self.api.close()
        shutil.rmtree(self.api.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def apply(self, token):
        self.api.tokens.add(token)
        self.gateway.apply(TARGET.format(
            port=self.api.port, ca_file=self.api.ca_file, token=token))

    def run(self):
        login = self.gateway.login("ada@example.com", PASSWORD)
        return self.gateway.start_run("executor", login)["token"]

    def connection(self):
        return self.gateway.https()

    def ask(self, token, connection=None):
        connection = connection or self.connection()
        connection.request("GET", PODS, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def shown(self):
        """The token that the cluster was shown last for a list of pods."""
        return self.api.headers("GET /api/v1/namespaces/dev/pods")["authorization"].split()[1]

    def events(self, name):
        return [event for event in self.gateway.events() if event["event"] == name]

    def wait_for(self, name, count=1):
        wait_until(lambda: len(self.events(name)) >= count, f"{count} {name}", PATIENCE_S)
        return self.events(name)


@pytest.fixture
def cluster():
    with Cluster() as running:
        yield running


def test_a_token_is_renewed_before_it_ends_and_open_sessions_take_it_up(cluster):
    given = cluster.api.give_tokens(SHORT_S)
    first = account_token(300)
    cluster.apply(first)
    run, connection = cluster.run(), cluster.connection()
    wait_until(lambda: given, "the cluster is asked", PATIENCE_S)
    assert given[0][0] == {"audiences": ["cluster"], "expirationSeconds": HOUR_S}
    cluster.wait_for("credential.renewed")
    assert cluster.ask(run, connection) == 200
    session = len(cluster.events("session.opened"))
    wait_until(lambda: len(given) >= 3, "it is asked again and again", 3 * PATIENCE_S)
    cluster.wait_for("credential.renewed", 3)
    # The stand-in now takes no token but the last: what was shown at first would be refused.
    cluster.api.tokens = {given[-1][1]}
    wait_until(lambda: cluster.ask(run, connection) == 200 and cluster.shown() == given[-1][1],
               "the open session shows the newest", PATIENCE_S)
    assert len(cluster.events("session.opened")) == session, "it is the same session"
    record = json.dumps(cluster.gateway.events())
    assert first not in record and all(token not in record for _, token in given)
    shown = cluster.gateway.run("get", "target", "prod").stdout
    assert "# Credential: ends 2" in shown and "renews it before" in shown, shown


def test_a_gateway_that_starts_again_uses_what_it_was_given(cluster):
    given = cluster.api.give_tokens(HOUR_S)
    first = account_token(300)
    cluster.apply(first)
    cluster.wait_for("credential.renewed")
    cluster.gateway.stop()
    cluster.gateway.start()
    cluster.api.tokens = {given[-1][1]}
    assert cluster.ask(cluster.run()) == 200
    assert cluster.shown() == given[-1][1]


def test_what_is_applied_meanwhile_wins(cluster):
    applied = account_token(HOUR_S)
    asked = []

    def answer(request):
        asked.append(request)
        if len(asked) == 1:
            cluster.apply(applied)
        token = account_token(HOUR_S)
        cluster.api.tokens.add(token)
        return 201, {"status": {"token": token}}

    cluster.api.on_token_request = answer
    cluster.apply(account_token(300))
    wait_until(lambda: asked, "the cluster is asked", PATIENCE_S)
    run = cluster.run()
    wait_until(lambda: cluster.ask(run) == 200 and cluster.shown() == applied,
               "the applied token is shown", PATIENCE_S)
    assert len(asked) == 1, "one that is good for an hour is not renewed yet"
    assert not cluster.events("credential.renewed")


GOOD = account_token(HOUR_S)


@pytest.mark.parametrize("answer, words", [
    ((403, {"kind": "Status", "code": 403}), "permit it to create serviceaccounts/token"),
    ((401, {}), "no longer good"),
    ((500, {}), "answered the TokenRequest 500"),
    ((200, {"status": {"token": GOOD}}), "answered the TokenRequest 200"),
    ((201, {"status": {}}), "has no token"),
    ((201, {"status": {"token": "opaque"}}), "no service account's"),
    ((201, {"status": {"token": GOOD}, "more": "x" * 100_000}), "cannot be read"),
    ((201, {"status": {"token": account_token(HOUR_S, ("corral", "admin"))}}), "another account"),
    ((201, {"status": {"token": account_token(HOUR_S, audiences=["other"])}}), "for others"),
    ((201, {"status": {"token": account_token(-60)}}), "does not take the token"),
    ((201, {"status": {"token": GOOD}}), "does not take the token"),
], ids=["forbidden", "unauthorized", "failure", "odd code", "nothing", "opaque", "huge",
        "another account", "another audience", "over", "worthless"])
def test_an_answer_that_is_no_new_token_changes_nothing(cluster, answer, words):
    cluster.api.on_token_request = lambda _: answer
    first = account_token(300)
    cluster.apply(first)
    failed = cluster.wait_for("credential.renewal_failed")
    assert failed[0]["target"] == "prod" and words in failed[0]["reason"], failed
    assert cluster.ask(cluster.run()) == 200 and cluster.shown() == first
    shown = cluster.gateway.run("get", "target", "prod").stdout
    assert "NOT RENEWED" in shown and words in shown, shown


def test_a_refusal_is_told_once_until_it_works_again(cluster):
    cluster.api.on_token_request = lambda _: (403, {})
    cluster.apply(account_token(300))
    cluster.wait_for("credential.renewal_failed")
    tries = len(cluster.api.lines("POST " + TOKEN_PATH))
    wait_until(lambda: len(cluster.api.lines("POST " + TOKEN_PATH)) > tries, "another try",
               PATIENCE_S)
    assert len(cluster.events("credential.renewal_failed")) == 1
    cluster.api.give_tokens(HOUR_S)
    cluster.wait_for("credential.renewed")
    assert "NOT RENEWED" not in cluster.gateway.run("get", "target", "prod").stdout


def test_a_token_of_nobody_known_is_named_and_one_without_the_option_is_left(cluster):
    cluster.apply("an-opaque-token")
    failed = cluster.wait_for("credential.renewal_failed")
    assert "no service account's" in failed[0]["reason"]
    cluster.gateway.apply(TARGET.format(
        port=cluster.api.port, ca_file=cluster.api.ca_file, token=account_token(300),
    ).replace("options: {token_lifetime: 1h}\n", ""))
    wait_until(lambda: "# Credential" not in cluster.gateway.run("get", "target", "prod").stdout,
               "nothing is renewed", PATIENCE_S)
    assert not cluster.api.lines("POST " + TOKEN_PATH)
    assert "options" not in cluster.gateway.json("get", "target", "prod")


def test_what_replaces_a_token_that_was_refused_is_not_called_refused(cluster):
    cluster.api.on_token_request = lambda _: (403, {})
    cluster.apply(account_token(300))
    cluster.wait_for("credential.renewal_failed")
    cluster.apply(account_token(HOUR_S))
    wait_until(lambda: "renews it before" in cluster.gateway.run("get", "target", "prod").stdout,
               "the refusal is over", PATIENCE_S)
