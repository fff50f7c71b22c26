"""A transmitter of security events: its keys at an address, and tokens that it signs."""

import base64
import http.server
import json
import secrets
import threading
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"


def packed(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SigningKey:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.key_id = secrets.token_hex(4)

    def public(self):
        numbers = self.key.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "kid": self.key_id, "use": "sig", "alg": "ES256",
                "x": packed(numbers.x.to_bytes(32, "big")),
                "y": packed(numbers.y.to_bytes(32, "big"))}

    def sign(self, header, claims):
        header = {"alg": "ES256", "kid": self.key_id} | header
        signed = packed(json.dumps(header).encode()) + "." + packed(json.dumps(claims).encode())
        r, s = utils.decode_dss_signature(
            self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return signed + "." + packed(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


class Transmitter:
    """`with Transmitter() as transmitter:` serves its keys on loopback."""

    def __init__(self):
        self.key = SigningKey()
        self.keys = [self.key]
        self.is_away = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps({"keys": [key.public() for key in outer.keys]}).encode()
                self.send_response(503 if outer.is_away else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.jwks_uri = self.issuer + "/jwks.json"
        self.audience = "https://corral.example/ssf"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def event(self, event, subject, payload=None, key=None, header=None, **claims):
        """A security event token; a claim that is None is left out."""
        claims = {"iss": self.issuer, "aud": self.audience, "iat": int(time.time()),
                  "jti": secrets.token_hex(8), "sub_id": subject,
                  "events": {event: payload or {}}} | claims
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"typ": "secevent+jwt"} | (header or {})
        return (key or self.key).sign(header, claims)

    def revocation(self, **claims):
        """The token of a global revocation."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.audience, "iat": now, "exp": now + 300,
                  "jti": secrets.token_hex(8)} | claims
        claims = {name: value for name, value in claims.items() if value is not None}
        return self.key.sign({"typ": "global-token-revocation+jwt"}, claims)
