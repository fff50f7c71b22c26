"""How the gateway logs in at targets: every way, whom it trusts, and what a failure gives away."""

import os
import secrets
import shutil

import psycopg
import pytest

from harness.certificates import Authority
from harness.postgres import RealPostgres
from harness.shop import Shop
from harness.tls_proxy import TlsProxy
from harness.waiting import wait_until
from harness.wire import Refused, Wire

PASSWORD = "p4ss-" + secrets.token_hex(12)
WRONG = "wr0ng-" + secrets.token_hex(12)
RULES = """
host    all login_trust    127.0.0.1/32 trust
hostssl all login_clear    127.0.0.1/32 password
host    all login_md5      127.0.0.1/32 md5
hostnossl all login_scram  127.0.0.1/32 scram-sha-256
hostssl all login_plus     127.0.0.1/32 scram-sha-256
hostnossl all login_plus   127.0.0.1/32 reject
"""
ANYWHERE = """
kind: Policy
name: anywhere
cedar: |
  permit (principal in Corral::Group::"agents", action, resource);
"""
TARGET = """
kind: Target
name: {name}
protocol: postgres
address: {host}:{port}
database: postgres
credential: {{username: {username}{password}}}
"""
# What PostgreSQL, TLS or the operating system say of themselves; none of it is the client's.
TARGETS_WORDS = ("pg_hba", "password authentication", "FATAL", "certificate", "UnknownIssuer",
                 "NotValidForName", "login_", "127.0.0.1", "localhost", "SCRAM", "rustls")
UNREACHABLE = "the target cannot be reached"
REFUSED = "the target cannot be used: it refused the gateway's login"
NO_TLS = "the target cannot be used: it has no TLS, which its configuration here requires"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"), "the-right-ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other-ca"), "another-ca")


@pytest.fixture(scope="module")
def certificate(authority):
    """Names 127.0.0.1 and, on purpose, not localhost."""
    return authority.issue("target", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def tls_server(certificate):
    with RealPostgres() as running:
        data = running.folder / "data"
        for source, name in zip(certificate, ("server.crt", "server.key")):
            shutil.copy(source, data / name)
            os.chmod(data / name, 0o600)
            if running.user:
                os.chown(data / name, running.user.pw_uid, running.user.pw_gid)
        for role in ("trust", "clear", "scram", "plus"):
            running.execute(f"create role login_{role} login password '{PASSWORD}'")
        running.execute("set password_encryption = 'md5'; "
                        f"create role login_md5 login password '{PASSWORD}'")
        rules = data / "pg_hba.conf"
        rules.write_text(RULES + rules.read_text())
        running.execute("alter system set log_connections = on")
        running.execute("alter system set ssl = on")
        running.execute("select pg_reload_conf()")

        def has_tls():
            try:
                dsn = running.dsn(user="login_plus", password=PASSWORD)
                psycopg.connect(dsn, sslmode="require").close()
                return True
            except psycopg.OperationalError:
                return False

        wait_until(has_tls, "the target has TLS")
        yield running


@pytest.fixture(scope="module")
def shop(tls_server):
    with Shop(tls_server, more=ANYWHERE) as open_shop:
        yield open_shop


@pytest.fixture
def target(shop, tls_server):
    """Makes targets: `target("login_md5")` gives the name of a new one."""
    def make(username, tls=None, password=PASSWORD, host="127.0.0.1", port=None, ca=None):
        name = f"t-{secrets.token_hex(4)}"
        secret = ", password: {env: LOGIN_PASSWORD}" if password else ""
        manifest = TARGET.format(name=name, host=host, port=port or tls_server.port,
                                 username=username, password=secret)
        if tls:
            manifest += f"tls: {{mode: {tls}{f', ca_file: {ca.file}' if ca else ''}}}\n"
        shop.gateway.apply(manifest, env={"LOGIN_PASSWORD": password or ""})
        return name
    return make


def server_log(server):
    return (server.folder / "log").read_text(errors="replace")


def who_and_how(shop, name):
    """The account and whether TLS is in use, as the target itself sees the gateway."""
    with shop.connect(name) as connection:
        return connection.execute(
            "select current_user::text, ssl from pg_stat_ssl where pid = pg_backend_pid()"
        ).fetchone()


def refusal(shop, name, token=None):
    """The sentence that a client reads; checks that nothing of the target's own is in it."""
    with Wire(shop.gateway.address()) as connection:
        with pytest.raises(Refused) as caught:
            connection.login(token or shop.run()["token"], name)
        assert connection.read() is None
    assert caught.value.state == "08006"
    for word in (*TARGETS_WORDS, PASSWORD, WRONG):
        assert word not in caught.value.text
    return caught.value.text


@pytest.mark.parametrize("username, tls, password, is_tls", [
    ("login_trust", None, None, False),
    ("login_trust", "require", None, True),
    ("login_clear", "require", PASSWORD, True),
    ("login_md5", None, PASSWORD, False),
    ("login_md5", "require", PASSWORD, True),
    ("login_scram", None, PASSWORD, False),
    ("login_scram", "disable", PASSWORD, False),
    ("login_plus", "require", PASSWORD, True),
], ids=["trust", "trust-tls", "clear-tls", "md5", "md5-tls", "scram", "scram-plain", "scram-plus"])
def test_every_way_to_log_in_works(shop, target, username, tls, password, is_tls):
    assert who_and_how(shop, target(username, tls, password)) == (username, is_tls)


def test_the_target_says_which_way_was_used(shop, target, tls_server):
    for username, tls, method in [("login_clear", "require", "password"),
                                  ("login_md5", None, "md5"),
                                  ("login_scram", None, "scram-sha-256")]:
        who_and_how(shop, target(username, tls))
        said = f'connection authenticated: identity="{username}" method={method}'
        wait_until(lambda said=said: said in server_log(tls_server), said)


def test_scram_over_tls_is_bound_to_the_channel(shop, target, tls_server, certificate):
    """A middle with the target's own key sees which mechanism is used, and may pass."""
    with TlsProxy(("127.0.0.1", tls_server.port), *certificate) as proxy:
        name = target("login_plus", "require", port=proxy.port)
        assert who_and_how(shop, name) == ("login_plus", True)
        assert b"SCRAM-SHA-256-PLUS\0" in proxy.seen
        assert b"p=tls-server-end-point,," in proxy.seen
        assert PASSWORD.encode() not in proxy.seen


def test_a_middle_with_another_certificate_is_refused_by_the_target(
        shop, target, tls_server, stranger):
    """`require` takes any certificate; channel binding still gives the middle away."""
    with TlsProxy(("127.0.0.1", tls_server.port),
                  *stranger.issue("middle", "IP:127.0.0.1")) as proxy:
        name = target("login_plus", "require", port=proxy.port)
        assert REFUSED in refusal(shop, name)
        assert b"SCRAM-SHA-256-PLUS\0" in proxy.seen
    assert "channel binding check failed" in server_log(tls_server)


def test_verify_full_works_with_the_right_authority(shop, target, authority):
    name = target("login_plus", "verify-full", ca=authority)
    assert who_and_how(shop, name) == ("login_plus", True)


def test_verify_full_refuses_another_authority(shop, target, stranger):
    assert UNREACHABLE in refusal(shop, target("login_plus", "verify-full", ca=stranger))


def test_verify_full_refuses_what_the_system_does_not_know(shop, target):
    assert UNREACHABLE in refusal(shop, target("login_plus", "verify-full"))


def test_verify_full_refuses_a_certificate_for_another_name(shop, target, authority):
    name = target("login_plus", "verify-full", ca=authority, host="localhost")
    assert UNREACHABLE in refusal(shop, name)


def test_require_takes_any_certificate(shop, target):
    name = target("login_plus", "require", host="localhost")
    assert who_and_how(shop, name) == ("login_plus", True)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_target_without_tls_is_refused_where_tls_is_asked_for(
        shop, target, server, authority, mode):
    before = len(server_log(server))
    ca = authority if mode == "verify-full" else None
    name = target("postgres", mode, port=server.port, ca=ca)
    assert NO_TLS in refusal(shop, name)
    assert "authenticat" not in server_log(server)[before:]


def test_a_target_that_wants_tls_is_refused_where_it_is_off(shop, target):
    assert REFUSED in refusal(shop, target("login_plus", "disable"))


def test_a_target_that_asks_for_a_password_that_none_has(shop, target):
    assert "none is configured here" in refusal(shop, target("login_scram", password=None))


@pytest.mark.parametrize("username, tls", [
    ("login_clear", "require"), ("login_md5", None), ("login_scram", None),
    ("login_plus", "require"),
])
def test_a_wrong_password_is_told_to_nobody(shop, target, username, tls):
    name = target(username, tls, password=WRONG)
    assert REFUSED in refusal(shop, name)


def test_no_file_of_the_gateway_holds_a_password_or_a_run_token(shop, target):
    run = shop.run()
    for password in (PASSWORD, WRONG):
        name = target("login_scram", password=password)
        try:
            with shop.connect(name, run["token"]) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            assert password == WRONG
    events = shop.gateway.run("audit", "search", "-o", "json").stdout
    api = shop.gateway.run("targets", "list", "-o", "json", expect=None).stdout
    needles = [PASSWORD, WRONG, run["token"], shop.env["TARGET_PASSWORD"]]
    for needle in needles:
        assert needle not in events and needle not in api
    searched = 0
    for file in shop.gateway.folder.rglob("*"):
        if file.is_file():
            searched += 1
            data = file.read_bytes()
            for needle in needles:
                assert needle.encode() not in data, f"{file} holds a secret"
    assert searched > 5
