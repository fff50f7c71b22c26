"""People of the demo, each at a browser: they sign in at the company's provider, and log out there.

Corral's command line sends them there, as it would send anybody; what a person does by hand, this
does by following links and filling forms.
"""

import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

from harness.gateway import COMMAND_DEADLINE_S  # noqa: E402
from harness.oidc import Browser  # noqa: E402


class Person:
    def __init__(self, account, provider, gateway):
        self.account = account
        self.provider = provider
        self.gateway = gateway
        self.browser = Browser(gateway.ready["ca_file"])

    def sign_in(self):
        """`corral login`, and the person's way through the browser; gives the login's token."""
        env = self.gateway.client_env() | {"BROWSER": "true"}
        del env["CORRAL_TOKEN"]
        # A login of its own for each person, as on a machine of its own.
        env["XDG_CONFIG_HOME"] = str(self.gateway.folder / f"home-of-{self.account}")
        login = subprocess.Popen(
            [self.gateway.program, "login", "-o", "json"], env=env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            api = self.gateway.ready["api"]
            page = self.browser.get(address_that_is_shown(login))
            back = self.browser.sign_in_at_real_provider(page, self.account,
                                                         f"{api}/auth/callback")
            # Through the gateway, to where the command line waits on this machine.
            self.browser.get(self.browser.get(back.location).location)
            output, errors = login.communicate(timeout=COMMAND_DEADLINE_S)
        finally:
            login.kill()
            login.wait()
        if login.returncode != 0:
            raise AssertionError(f"{self.account} could not sign in: {errors}")
        return json.loads(output)["token"]

    def log_out(self):
        """At the provider, which tells whoever let this person in on its word."""
        page = self.browser.follow(f"{self.provider.issuer}/session/end", "never")
        action, fields = page.form()
        self.browser.post(action, fields | {"logout": "yes"})


def address_that_is_shown(login):
    for line in login.stderr:
        for word in line.split():
            if word.startswith("https://"):
                return word
    raise AssertionError("the command line shows no address")
