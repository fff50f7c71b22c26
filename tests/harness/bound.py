"""A gateway in front of a stand-in for a cluster, with tokens that are bound to keys (DPoP)."""

import json
import shutil

from .gateway import Gateway
from .issuer import Prover
from .kube_standin import TOKEN, KubeStandin
from .postgres import free_port
from .token_service import TYPES, TokenService

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

    def __init__(self, config=None):
        self.api = KubeStandin()
        self.gateway = Gateway(config=config)
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
