"""SimpleSAMLphp as an identity provider under PHP's own web server, and a browser for it."""

import datetime
import html
import http.cookiejar
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.parse
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from .waiting import wait_until

WWW = pathlib.Path("/usr/share/simplesamlphp/www")
STOP_DEADLINE_S = 10

CONFIG = """<?php
$config = [
    'baseurlpath' => '%(base)s/', 'certdir' => '%(folder)s/', 'loggingdir' => '%(folder)s/',
    'datadir' => '%(folder)s/', 'tempdir' => '%(folder)s/tmp', 'metadatadir' => '%(folder)s/',
    'secretsalt' => 'a salt for tests', 'auth.adminpassword' => 'unused here',
    'technicalcontact_name' => 'x', 'technicalcontact_email' => 'x@idp.example',
    'timezone' => 'UTC', 'logging.handler' => 'errorlog', 'logging.level' => 3,
    'enable.saml20-idp' => true, 'module.enable' => ['exampleauth' => true, 'core' => true],
    'session.cookie.secure' => false, 'session.phpsession.savepath' => '%(folder)s/tmp',
    'session.cookie.samesite' => null, 'store.type' => 'phpsession',
    'language.default' => 'en', 'theme.use' => 'default', 'production' => true,
    'metadata.sources' => [['type' => 'flatfile']],
    'authproc.idp' => [], 'authproc.sp' => [],
];
"""
SOURCES = """<?php
$config = ['people' => ['exampleauth:UserPass',
%(people)s
]];
"""
HOSTED = """<?php
$metadata['%(entity_id)s'] = [
    'host' => '__DEFAULT__', 'privatekey' => 'idp.key', 'certificate' => 'idp.crt',
    'auth' => 'people', 'signature.algorithm' => '%(algorithm)s',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
    'authproc' => [3 => ['class' => 'saml:AttributeNameID', 'attribute' => 'uid',
        'Format' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent']],
];
"""
REMOTE = """<?php
$metadata['%(entity_id)s'] = [
    'AssertionConsumerService' => '%(acs)s', 'saml20.sign.assertion' => true,
    'saml20.sign.response' => %(sign_response)s,
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
];
"""


def is_installed():
    return WWW.is_dir() and shutil.which("php") is not None


class SamlIdp:
    """`with SamlIdp({"ada": {...}}) as idp:`; `trust` names the service providers it knows."""

    RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"

    def __init__(self, people, algorithm=RSA_SHA256):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-idp-"))
        (self.folder / "tmp").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self.entity_id = f"{self.base}/saml2/idp/metadata.php"
        write_key(self.folder)
        fields = {"base": self.base, "folder": self.folder, "entity_id": self.entity_id,
                  "algorithm": algorithm}
        (self.folder / "config.php").write_text(CONFIG % fields)
        listed = []
        for name, attributes in people.items():
            values = ", ".join(f"'{key}' => {list(map(str, value))!r}"
                               for key, value in attributes.items())
            listed.append(f"'{name}:password of {name}' => ['uid' => ['{name}'], {values}],")
        sources = SOURCES % {"people": "\n".join(listed)}
        (self.folder / "authsources.php").write_text(sources)
        (self.folder / "saml20-idp-hosted.php").write_text(HOSTED % fields)
        self.trust()
        self.process = None

    def trust(self, entity_id="none", acs="https://none.example/acs", sign_response=True):
        """The one service provider that it answers."""
        remote = REMOTE % {"entity_id": entity_id, "acs": acs,
                           "sign_response": str(sign_response).lower()}
        (self.folder / "saml20-sp-remote.php").write_text(remote)

    def __enter__(self):
        environment = os.environ | {"SIMPLESAMLPHP_CONFIG_DIR": str(self.folder)}
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["php", "-d", "opcache.enable=0", "-S", f"127.0.0.1:{self.port}", "-t", WWW],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )
        wait_until(self._answers, "the identity provider answers", 30)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self):
        try:
            return "EntityDescriptor" in self.metadata()
        except OSError:
            return False

    def metadata(self):
        with urllib.request.urlopen(self.entity_id, timeout=10) as answer:
            return answer.read().decode()

    def sign_in(self, url, name):
        """Follows a sign-in to the form that brings the response back: address and fields."""
        browser = Browser()
        page = browser.open(url)
        fields = forms(page)[0][1] | {"username": name, "password": f"password of {name}"}
        page = browser.open(browser.url, fields)
        found = [form for form in forms(page) if "SAMLResponse" in form[1]]
        assert found, page
        return found[0]


def write_key(folder):
    """`idp.key` and `idp.crt`: a key of its own with a certificate that it signed itself."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=365))
                   .sign(key, hashes.SHA256()))
    (folder / "idp.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption()))
    (folder / "idp.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class Browser:
    def __init__(self, context=None):
        jar = http.cookiejar.CookieJar()
        handlers = [urllib.request.HTTPCookieProcessor(jar)]
        if context:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self.opener = urllib.request.build_opener(*handlers)
        self.url = None

    def open(self, url, fields=None):
        data = urllib.parse.urlencode(fields).encode() if fields is not None else None
        with self.opener.open(url, data, timeout=30) as answer:
            self.url = answer.geturl()
            return answer.read().decode()


def forms(page):
    """The forms of a page: their addresses and hidden fields."""
    found = []
    for form in re.findall(r"<form.*?</form>", page, re.S):
        action = re.search(r'action="([^"]*)"', form)
        fields = {}
        for tag in re.findall(r"<input[^>]*>", form):
            name = re.search(r'name="([^"]*)"', tag)
            value = re.search(r'value="([^"]*)"', tag)
            if name:
                fields[html.unescape(name[1])] = html.unescape(value[1]) if value else ""
        found.append((html.unescape(action[1]) if action else "", fields))
    return found
