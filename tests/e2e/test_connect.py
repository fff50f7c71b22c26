"""Who gets in, and what the others are told (CONTRACT sections 2, 5 and 6)."""

import json
import os
import signal
import stat
import time

import psycopg
import pytest

from harness.gateway import Gateway
from harness.shop import TARGET, Shop
from harness.waiting import wait_until
from harness.wire import GSSENC_REQUEST, Refused, Wire

NO_ENTRY = ("28P01", "28000")


def refused(shop, token, target):
    """The SQLSTATE and text with which a login is refused; (None, None) when it is not."""
    with Wire(shop.gateway.address()) as wire:
        try:
            wire.login(token, target)
        except Refused as refusal:
            assert wire.is_closed()
            return refusal.state, refusal.text
        return None, None


def test_ready_file_says_where_the_gateway_is(shop):
    file = shop.gateway.data / "ready.json"
    ready = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ready["pid"] == shop.gateway.pid
    assert ready["api"].startswith("https://127.0.0.1:")
    assert {"postgres", "https"} <= set(ready["listeners"])
    for key in ("ca_file", "admin_token_file"):
        assert os.path.exists(ready[key]), key
    for name in ("admin.token", "seal.key"):
        assert stat.S_IMODE((shop.gateway.data / name).stat().st_mode) == 0o600, name
    for name in ("corral.db", "record", "record.pub", "ca.pem"):
        assert (shop.gateway.data / name).exists(), name


def test_sigterm_ends_the_gateway_cleanly():
    with Gateway() as gateway:
        assert gateway.stop(signal.SIGTERM) == 0
        assert not (gateway.data / "ready.json").exists()


def test_sigterm_tells_open_sessions_and_a_second_one_ends_at_once(own_shop):
    connection = own_shop.connect("plain-db")
    own_shop.gateway.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not (own_shop.gateway.data / "ready.json").exists(), "it drains")
    started = time.monotonic()
    own_shop.gateway.stop(signal.SIGTERM)
    assert time.monotonic() - started < 5, "it does not wait for its clients"
    with pytest.raises(psycopg.OperationalError) as caught:
        connection.execute("select 1")
    assert caught.value.sqlstate in ("57P01", None)


def test_a_restarted_gateway_knows_what_was_applied(own_shop):
    token = own_shop.run()["token"]
    own_shop.gateway.stop()
    own_shop.gateway.start()
    with own_shop.connect("orders-db", token) as connection:
        assert connection.execute("select count(*) from orders").fetchone() == (30,)


def test_a_run_token_opens_a_session(shop, token):
    with shop.connect("orders-db", token) as connection:
        assert connection.execute("select name from customers where id = 1").fetchone() == ("Ada",)
        assert connection.info.server_version >= 150000


def test_a_person_can_connect_with_a_login_token(shop):
    with shop.connect("orders-db", shop.login("ada")) as connection:
        assert connection.execute("select count(*) from orders").fetchone() == (30,)


@pytest.mark.parametrize("wrong", ["", "crl_wrong", "crl_" + "x" * 60, "x" * 5000, "' or 1=1"],
                         ids=["empty", "short", "like one", "huge", "injection"])
def test_a_wrong_token_is_refused(shop, wrong):
    state, text = refused(shop, wrong, "orders-db")
    assert state in NO_ENTRY, text
    assert "corral:" in text
    assert "orders-db" not in text and "127.0.0.1" not in text


def test_a_token_of_another_gateway_is_refused(shop, server):
    with Shop(server) as other:
        foreign = other.run()["token"]
    assert refused(shop, foreign, "orders-db")[0] in NO_ENTRY


def test_the_token_of_an_ended_run_is_refused(shop):
    run = shop.run()
    shop.gateway.run("runs", "end", run["run_id"])
    assert refused(shop, run["token"], "orders-db")[0] in NO_ENTRY


def test_an_expired_token_is_refused_and_its_session_ends(shop):
    run = shop.run("short", "--ttl", "2s")
    with shop.connect("orders-db", run["token"]) as connection:
        with pytest.raises(psycopg.OperationalError) as caught:
            wait_until(lambda: connection.execute("select 1") and False, "the session ends")
        assert caught.value.sqlstate in ("57P01", None)
    assert refused(shop, run["token"], "orders-db")[0] in NO_ENTRY


def test_who_may_not_connect_is_told_so(shop):
    state, text = refused(shop, shop.login("nobody"), "orders-db")
    assert state == "42501" and "corral:" in text


def test_a_target_that_does_not_exist_looks_like_one_that_is_forbidden(shop):
    missing, _ = refused(shop, shop.run()["token"], "no-such-db")
    forbidden, _ = refused(shop, shop.login("nobody"), "orders-db")
    assert missing == forbidden == "42501"


def test_a_run_reaches_only_the_targets_that_it_was_given(shop):
    run = shop.run("narrow", "--target", "plain-db")
    with shop.connect("plain-db", run["token"]) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert refused(shop, run["token"], "orders-db")[0] == "42501"


def test_another_database_of_the_target_can_be_named(shop, token):
    with shop.connect(f"plain-db/{shop.orders}", token) as connection:
        assert connection.execute("select current_database()").fetchone() == (shop.orders,)


def test_plaintext_is_accepted_on_loopback(shop, token):
    with shop.connect("orders-db", token, sslmode="disable") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        assert not connection.pgconn.ssl_in_use


def test_the_certificate_is_the_gateways_own(shop, token):
    with shop.connect("orders-db", token) as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        shop.connect("orders-db", token, sslrootcert="system").close()


def test_direct_tls_is_served(shop, token):
    with shop.connect("orders-db", token, sslnegotiation="direct") as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_channel_binding_fails_closed(shop, token):
    with pytest.raises(psycopg.OperationalError):
        shop.connect("orders-db", token, channel_binding="require").close()


def test_gss_encryption_is_refused_and_the_login_goes_on(shop, token):
    with Wire(shop.gateway.address()) as wire:
        wire.send(GSSENC_REQUEST)
        assert wire.stream.read(1) == b"N"
        assert wire.login(token, "orders-db")


def test_newer_protocol_versions_are_negotiated(shop, token):
    with shop.connect("orders-db", token, max_protocol_version="latest") as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_replication_is_refused(shop, token):
    with pytest.raises(psycopg.OperationalError, match="corral:"):
        shop.connect("orders-db", token, replication="database").close()


def test_a_target_that_is_down_is_named_as_such(shop):
    gone = TARGET.format(name="gone-db", port=1, database="x", username="x", rows="none")
    policy = ("---\nkind: Policy\nname: gone\ncedar: |\n"
              '  permit (principal, action, resource in Corral::Target::"gone-db");\n')
    shop.gateway.apply(gone + policy, env=shop.env)
    state, text = refused(shop, shop.run()["token"], "gone-db")
    assert state == "08006", text
    assert "127.0.0.1" not in text


def test_a_refusal_is_in_the_record(shop):
    refused(shop, shop.login("nobody"), "orders-db")
    events = shop.gateway.events("--event", "session.refused")
    assert any(event.get("principal") == "nobody@example.com" for event in events)


def refused_count(shop):
    return len(shop.gateway.events("--event", "session.refused"))


def test_each_bad_token_is_one_event_and_never_in_it(own_shop, server):
    ended = own_shop.run()
    own_shop.gateway.run("runs", "end", ended["run_id"])
    with Shop(server) as other:
        foreign = other.run()["token"]
    tokens = {"wrong": "crl_" + "x" * 52, "foreign": foreign, "ended": ended["token"]}
    for count, (name, token) in enumerate(tokens.items(), 1):
        assert refused(own_shop, token, "orders-db")[0] in NO_ENTRY, name
        assert refused_count(own_shop) == count, name
    record = own_shop.gateway.run("audit", "search", "-o", "json").stdout
    for token in tokens.values():
        assert token not in record and token not in own_shop.gateway.log()
