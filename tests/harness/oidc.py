"""OpenID providers and a person's browser.

`ScriptedProvider` says whatever a test wants it to say, also what no honest one would.
`RealProvider` is npm's oidc-provider in a process of its own. `Browser` is a person: it keeps
cookies, fills forms, and follows links by hand.
"""

import base64
import contextlib
import hashlib
import html
import http.client
import http.cookies
import http.server
import json
import os
import pathlib
import re
import secrets
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .waiting import DeadlinePassed, wait_until

CLIENT_ID = "corral"
CLIENT_SECRET = "the client's secret"
JOB_ID = "nightly-job"
# Of the tokens that a job asks the real provider for.
AUDIENCE = "https://corral.example.com"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
# A machine that reads its disk for the first time, under load, has taken longer than 20 s.
START_DEADLINE_S = 90


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SigningKey:
    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = secrets.token_hex(4)

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        def number(value):
            return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
                "n": number(numbers.n), "e": number(numbers.e)}

    def sign(self, claims, **header):
        header = {"alg": "RS256", "kid": self.kid, "typ": "JWT"} | header
        parts = [encoded(json.dumps(part).encode()) for part in (header, claims)]
        signed = ".".join(parts).encode()
        if header["alg"] == "none":
            return f"{signed.decode()}."
        signature = self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return f"{signed.decode()}.{encoded(signature)}"


class ScriptedProvider:
    """Discovery, keys and tokens. `mode` is ok, error, hang (with `hang refresh` only when grants are
    renewed) or huge."""

    def __init__(self):
        self.key = SigningKey()
        self.mode = "ok"
        self.person = {}
        self.changes = {}
        self.header = {}
        self.codes = {}
        self.grants = {}
        # What its userinfo endpoint answers: None (there is none), an object, a status, or a text
        # that it calls a JWT.
        self.userinfo = None
        self.asked = []
        self.hanging = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def manifest(self, name="corp", more=""):
        return (f"kind: IdentityProvider\nname: {name}\noidc:\n  issuer: {self.issuer}\n"
                f"  client_id: {CLIENT_ID}\n  client_secret: {{value: \"{CLIENT_SECRET}\"}}\n"
                f"  groups_claim: groups\n{more}")

    def is_person(self, sub, email, groups=(), **more):
        self.person = {"sub": sub, "email": email, "email_verified": True,
                       "groups": list(groups)} | more

    def answer(self, location):
        """As if the person had signed in at the address that the browser was sent to."""
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query))
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.codes[code] = query
        return {"code": code, "state": query["state"], "iss": self.issuer}

    def id_token(self, nonce=None, person=None):
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300}
        claims |= (self.person if person is None else person) | ({"nonce": nonce} if nonce else {}) | self.changes
        return self.key.sign({k: v for k, v in claims.items() if v is not None}, **self.header)

    def signed_userinfo(self, key=None, header=None, **claims):
        claims = {"iss": self.issuer, "aud": CLIENT_ID} | claims
        claims = {name: value for name, value in claims.items() if value is not None}
        return (key or self.key).sign(claims, **(header or {}))

    def logout_token(self, **changes):
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 120,
                  "jti": secrets.token_hex(8), "events": {LOGOUT_EVENT: {}}} | changes
        claims = {key: value for key, value in claims.items() if value is not None}
        return self.key.sign(claims, typ="logout+jwt")

    def _tokens(self, form):
        if form["grant_type"] == "authorization_code":
            query = self.codes.pop(form["code"], None)
            verifier = form.get("code_verifier", "").encode()
            challenge = encoded(hashlib.sha256(verifier).digest())
            if not query or challenge != query["code_challenge"]:
                return 400, {"error": "invalid_grant"}
            nonce, person = query["nonce"], self.person
        else:
            person = self.grants.pop(form.get("refresh_token"), None)
            if person is None:
                return 400, {"error": "invalid_grant"}
            nonce = None
        refresh = secrets.token_hex(8)
        self.grants[refresh] = person
        return 200, {"access_token": "x", "token_type": "Bearer", "refresh_token": refresh,
                     "id_token": self.id_token(nonce, person)}

    def _handler(provider):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path == "/.well-known/openid-configuration":
                    self._json(200, {
                        "issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/jwks",
                        "authorization_endpoint": f"{provider.issuer}/authorize",
                        "token_endpoint": f"{provider.issuer}/token"} | (
                            {"userinfo_endpoint": f"{provider.issuer}/userinfo"}
                            if provider.userinfo is not None else {}))
                elif self.path == "/userinfo":
                    told = provider.userinfo
                    if self.headers["authorization"] != "Bearer x":
                        self._json(401, {})
                    elif isinstance(told, int):
                        self._json(told, {})
                    elif isinstance(told, str):
                        self._send(200, told.encode(), "application/jwt")
                    else:
                        self._json(200, told)
                elif self.path == "/jwks":
                    self._json(200, {"keys": [provider.key.jwk()]})
                else:
                    self._json(404, {})

            def do_POST(self):
                length = int(self.headers.get("content-length", 0))
                form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
                provider.asked.append(form["grant_type"])
                is_refresh = form["grant_type"] == "refresh_token"
                if provider.mode == "hang" or provider.mode == "hang refresh" and is_refresh:
                    provider.hanging.wait(20)
                if provider.mode == "error":
                    self._json(500, {"error": "invalid_grant"})
                elif provider.mode == "huge":
                    self._json(200, {"access_token": "x" * 3_000_000})
                else:
                    self._json(*provider._tokens(form))

            def _json(self, status, body):
                self._send(status, json.dumps(body).encode(), "application/json")

            def _send(self, status, data, media_type):
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("content-type", media_type)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

        return Handler

    def close(self):
        self.hanging.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def node_module(name, *path):
    """Where `.ci/setup clients` puts a package of npm's."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return cache.joinpath("corral", "node", "node_modules", name, *path)


class RealProvider:
    """npm's oidc-provider; `set_groups` changes what it says of everybody."""

    def __init__(self, gateway_url, name="corp", port=0, groups=("agents",)):
        if not port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        self.port = port
        self.issuer = f"http://127.0.0.1:{port}"
        self.name = name
        self.settings = {
            "module": str(node_module("oidc-provider", "lib", "index.js")), "port": port, "issuer": self.issuer,
            "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "job_id": JOB_ID, "groups": list(groups),
            "redirect_uri": f"{gateway_url}/auth/callback/{name}",
            "logout_uri": f"{gateway_url}/oidc/backchannel-logout",
        }
        self.process = None

    def start(self, ca_file):
        program = pathlib.Path(__file__).with_name("oidc_provider.mjs")
        self.process = subprocess.Popen(
            ["node", program, json.dumps(self.settings)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"NODE_EXTRA_CA_CERTS": ca_file})
        try:
            wait_until(self._answers, "the provider answers", START_DEADLINE_S)
        except DeadlinePassed as passed:
            self.process.kill()
            raise AssertionError(f"{passed}; it said:\n{self.process.stdout.read()}") from passed
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the provider ended:\n{self.process.stdout.read()}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def token_of_job(self, audience=AUDIENCE):
        """What a job gets for its own secret (RFC 6749 section 4.4)."""
        form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "run",
                                       "resource": audience})
        user = urllib.parse.quote(JOB_ID) + ":" + urllib.parse.quote_plus(CLIENT_SECRET)
        request = urllib.request.Request(
            f"{self.issuer}/token", form.encode(),
            {"authorization": "Basic " + base64.b64encode(user.encode()).decode()})
        with urllib.request.urlopen(request, timeout=START_DEADLINE_S) as answer:
            return json.load(answer)["access_token"]

    def wait_for_line(self, text):
        """Reads what the provider says until it says this."""
        while line := self.process.stdout.readline():
            if text in line:
                return
        raise AssertionError(f"the provider ended and never said '{text}'")

    def manifest(self, more=""):
        return (f"kind: IdentityProvider\nname: {self.name}\noidc:\n  issuer: {self.issuer}\n"
                f"  client_id: {CLIENT_ID}\n  client_secret: {{value: \"{CLIENT_SECRET}\"}}\n"
                f"  groups_claim: groups\n{more}")

    def close(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Answer:
    def __init__(self, url, response, body):
        self.url, self.status, self.headers = url, response.status, response.headers
        self.text = body.decode(errors="replace")

    @property
    def location(self):
        return urllib.parse.urljoin(self.url, self.headers["location"])

    def links(self):
        found = re.findall(r'<a href="([^"]*)"', self.text)
        return [urllib.parse.urljoin(self.url, html.unescape(link)) for link in found]

    def form(self):
        """The action and hidden fields of the one form."""
        action = re.search(r'<form[^>]*action="([^"]*)"', self.text)
        assert action, f"no form in {self.status} {self.text}"
        fields = {}
        for tag in re.findall(r"<input[^>]*>", self.text):
            name, value = (re.search(rf'{key}="([^"]*)"', tag) for key in ("name", "value"))
            if name:
                fields[html.unescape(name[1])] = html.unescape(value[1]) if value else ""
        return urllib.parse.urljoin(self.url, html.unescape(action[1])), fields


class Browser:
    """One person's browser. Cookies belong to a host and port, which is stricter than real ones."""

    def __init__(self, ca_file):
        self.tls = ssl.create_default_context(cafile=ca_file)
        self.cookies = {}

    def get(self, url):
        return self._ask("GET", url, None)

    def post(self, url, fields):
        return self._ask("POST", url, urllib.parse.urlencode(fields))

    def follow(self, url, until):
        """Follows redirects until an address starts so, or until a page."""
        answer = self.get(url)
        while answer.status in (302, 303) and not answer.location.startswith(until):
            answer = self.get(answer.location)
        return answer

    def _ask(self, method, url, body):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(parts.netloc, context=self.tls, timeout=30)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        jar = self.cookies.setdefault(parts.netloc, {})
        headers = {"accept": "text/html"}
        if jar:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        if body is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        target = parts.path or "/"
        connection.request(method, f"{target}?{parts.query}" if parts.query else target,
                           body=body, headers=headers)
        response = connection.getresponse()
        answer = Answer(url, response, response.read())
        connection.close()
        for value in response.headers.get_all("set-cookie") or []:
            cookie = http.cookies.SimpleCookie(value)
            for name, morsel in cookie.items():
                if morsel.value and morsel["max-age"] != "0":
                    jar[name] = morsel.value
                else:
                    jar.pop(name, None)
        return answer

    def sign_in_at_real_provider(self, answer, login, until):
        """Fills the provider's own forms: who it is, and the consent."""
        for _ in range(6):
            while answer.status in (302, 303):
                if answer.location.startswith(until):
                    return answer
                answer = self.get(answer.location)
            action, fields = answer.form()
            if "login" in fields or 'name="login"' in answer.text:
                fields |= {"login": login, "password": "any"}
            answer = self.post(action, fields)
        raise AssertionError(f"the provider asks without end: {answer.text}")
