"""A CI system on loopback, as GitHub Actions is to its jobs: it signs what a job is."""

import itertools
import secrets
import urllib.parse

from .issuer import Issuer


class GitHubActions(Issuer):
    """Jobs find where to ask for a token in their environment, as on a real runner.

    The real service checks the bearer that it gave the job; here the address itself is the secret.
    """

    def __init__(self):
        self._jobs = {}
        self._numbers = itertools.count(1)
        super().__init__("RS256")

    def start_job(self, actor, actor_id, repository="shop/reports", ref="refs/heads/main",
                  event="push", **claims):
        """The environment of a job, beside what the runner's machine has."""
        number = next(self._numbers)
        secret = secrets.token_urlsafe(16)
        workflow = f"{repository}/.github/workflows/report.yml@{ref}"
        self._jobs[secret] = {
            "sub": f"repo:{repository}:ref:{ref}", "repository": repository, "ref": ref,
            "actor": actor, "actor_id": actor_id, "event_name": event, "workflow_ref": workflow,
            "job_workflow_ref": workflow, "run_id": str(7_000_000 + number), "run_attempt": "1",
            "check_run_id": str(9_000_000 + number), "sha": secrets.token_hex(20)} | claims
        return {
            "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": repository, "GITHUB_REF": ref,
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?job={secret}",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "the runner's own"}

    def answer(self, path):
        address = urllib.parse.urlsplit(path)
        if address.path != "/token":
            return super().answer(path)
        asked = urllib.parse.parse_qs(address.query)
        claims = self._jobs.get(asked.get("job", [""])[0])
        if claims is None:
            return 404, {"message": "no such job"}
        return 200, {"value": self.token(aud=asked["audience"][0], **claims)}
