"""An identity provider made of pysaml2 that says whatever it is told to: the forger's tool."""

import contextlib
import pathlib
import re
import shutil
import tempfile
import time
from unittest import mock

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server

from .saml_idp import write_key

OTHER_SERVICE = "https://other.example/metadata"
SHA256_RSA = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
PASSWORD_CONTEXT = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"


class SamlForger:
    """`with SamlForger() as forger:`; nobody signs in here, `response` is made from thin air."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-forger-"))
        write_key(self.folder)
        self.entity_id = "https://forger.example/idp"
        self.config = IdPConfig().load({
            "entityid": self.entity_id, "xmlsec_binary": shutil.which("xmlsec1"),
            "key_file": str(self.folder / "idp.key"), "cert_file": str(self.folder / "idp.crt"),
            "service": {"idp": {
                "endpoints": {"single_sign_on_service": [
                    ("https://forger.example/sso", BINDING_HTTP_REDIRECT)]},
                "policy": {"default": {"lifetime": {"minutes": 5}, "name_form":
                                       "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"}},
            }},
            "metadata": {"inline": []}, "debug": False,
        })

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def metadata(self):
        return str(entity_descriptor(self.config))

    def trust(self, metadata):
        """The service provider's own metadata; another one of the same kind is known beside it."""
        entity = re.search(r'entityID="([^"]*)"', metadata)[1]
        self.server = Server(config=self.config)
        for text in (metadata, metadata.replace(entity, OTHER_SERVICE)):
            self.server.metadata.load("inline", text)

    def response(self, request_id, acs, audience, *, subject="ada", sign_response=True,
                 sign_assertion=True, skew_s=0, attributes=None):
        """A response as XML; `skew_s` is how far the forger's clock is ahead."""
        with clock_ahead(skew_s):
            return str(self.server.create_authn_response(
                attributes or {"mail": ["ada@corp.example"], "memberOf": ["Agents"]},
                in_response_to=request_id, destination=acs, sp_entity_id=audience,
                name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=subject), userid=subject,
                authn={"class_ref": PASSWORD_CONTEXT, "authn_auth": self.entity_id},
                sign_response=sign_response, sign_assertion=sign_assertion,
                sign_alg=SHA256_RSA, digest_alg=SHA256, binding=BINDING_HTTP_POST))


@contextlib.contextmanager
def clock_ahead(seconds):
    """pysaml2 in a process whose clock is wrong."""
    import saml2.time_util as clock
    real = time.gmtime
    now = clock.datetime

    class Shifted(now):
        @classmethod
        def now(cls, zone=None):
            return now.now(zone) + clock.timedelta(seconds=seconds)

    def gmtime(at=None):
        return real(time.time() + seconds if at is None else at)

    with mock.patch.object(clock, "datetime", Shifted), \
            mock.patch.object(clock.time, "gmtime", gmtime):
        yield
