"""Issuers of tokens, good and bad: CI systems, clusters, identity providers."""

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "corral-tests"
LIFETIME_S = 600

KEYS = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_ALGORITHMS = {
    "RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk_of(key, algorithm, kid=None):
    """The public half of a private key."""
    jwk = _ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return jwk | ({"kid": kid, "use": "sig", "alg": algorithm} if kid else {})


class Issuer:
    """An issuer of OpenID Connect on loopback. `behaviour` spoils its answers."""

    def __init__(self, algorithm="RS256", certificate=None, behaviour=None):
        self.algorithm = algorithm
        self.key = KEYS[algorithm]()
        self.kid = uuid.uuid4().hex
        self.behaviour = behaviour
        self.requests = 0
        self._stopped = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- what it publishes

    def answer(self, path):
        """Status and body of a request."""
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if self.behaviour == "rotates":
            self.kid, self.key = uuid.uuid4().hex, KEYS[self.algorithm]()
        return 200, {"keys": [jwk_of(self.key, self.algorithm, self.kid)]}

    # -- what it signs

    def claims(self, **claims):
        now = int(time.time())
        standard = {"iss": self.url, "aud": AUDIENCE, "iat": now, "nbf": now - 5,
                    "exp": now + LIFETIME_S, "jti": uuid.uuid4().hex}
        merged = standard | claims
        return {name: value for name, value in merged.items() if value is not None}

    def token(self, key=None, headers=None, **claims):
        """A token of these claims beside the standard ones; None leaves one out."""
        return jwt.encode(self.claims(**claims), key or self.key, algorithm=self.algorithm,
                          headers={"kid": self.kid} | (headers or {}))

    def unsigned(self, **claims):
        """`alg: none`."""
        head = encoded(json.dumps({"alg": "none", "typ": "JWT", "kid": self.kid}).encode())
        return f"{head}.{encoded(json.dumps(self.claims(**claims)).encode())}."

    def confused(self, **claims):
        """The public key, which everybody has, as the secret of an HMAC."""
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        head = encoded(json.dumps({"alg": "HS256", "typ": "JWT", "kid": self.kid}).encode())
        signed = f"{head}.{encoded(json.dumps(self.claims(**claims)).encode())}"
        return f"{signed}.{encoded(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


def _handler(issuer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            issuer.requests += 1
            match issuer.behaviour:
                case "hangs":
                    self._head(200, [])
                    issuer._stopped.wait()
                    return
                case "fails":
                    self._head(500, [("Content-Length", "0")])
                    return
                case "floods":
                    self._head(200, [("Content-Length", str(100 * 1024 * 1024))])
                    try:
                        for _ in range(1600):
                            self.wfile.write(b" " * 65536)
                    except OSError:
                        pass
                    return
            status, body = issuer.answer(self.path)
            # As a cluster's API server does, which has its keys in no other form.
            is_set = "keys" in body
            kind = "application/jwk-set+json" if is_set else "application/json"
            if is_set and kind not in self.headers["Accept"]:
                self._head(406, [("Content-Length", "0")])
                return
            body = json.dumps(body).encode()
            self._head(status, [("Content-Type", kind),
                                ("Content-Length", str(len(body)))])
            self.wfile.write(body)

        def _head(self, status, headers):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    return Handler


class Prover:
    """A client that holds a key and proves it (RFC 9449)."""

    def __init__(self):
        self.key = KEYS["ES256"]()
        self.jwk = jwk_of(self.key, "ES256")

    @property
    def thumbprint(self):
        members = {name: self.jwk[name] for name in ("crv", "kty", "x", "y")}
        canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
        return encoded(hashlib.sha256(canonical.encode()).digest())

    def proof(self, method, url, token=None, **claims):
        body = {"jti": uuid.uuid4().hex, "htm": method, "htu": url, "iat": int(time.time())}
        if token:
            body["ath"] = encoded(hashlib.sha256(token.encode()).digest())
        return jwt.encode(body | claims, self.key, algorithm="ES256",
                          headers={"typ": "dpop+jwt", "jwk": self.jwk})
