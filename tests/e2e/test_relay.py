"""Relays: joining, the way through them, and everything that is refused or lost on it."""

import json
import signal
import socket
import ssl
import stat
import threading
import time

import psycopg
import pytest

from harness.gateway import Gateway
from harness.hosts import Hosts
from harness.kube_standin import TOKEN, KubeStandin
from harness.relay import RelayProcess, connected, processes, token_for
from harness.shop import Shop
from harness.waiting import wait_until

LEASE_S = 15
RELAY_ALPN = "corral-relay/1"


def far(shop, name="far-db", database=None, relay="eu-1"):
    """A target like the shop's plain one, behind a relay."""
    return f"""
kind: Target
name: {name}
protocol: postgres
address: 127.0.0.1:{shop.server.port}
relay: {relay}
database: {database or shop.plain}
tls: {{mode: disable}}
credential: {{username: {shop.username}, password: {{env: TARGET_PASSWORD}}}}
---
kind: Policy
name: {name}
cedar: |
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"{name}");
"""


def relay(shop, name="eu-1", *more):
    addresses = ", ".join([f"127.0.0.1:{shop.server.port}", *more])
    return f"kind: Relay\nname: {name}\naddresses: [{addresses}]\n"


class FarShop(Shop):
    """A shop with a target behind relay eu-1."""

    def __init__(self, server):
        super().__init__(server)
        self.gateway.apply(relay(self) + "---\n" + far(self), env=self.env)


@pytest.fixture
def own_shop(server):
    with FarShop(server) as shop:
        yield shop


@pytest.fixture(scope="module")
def shop(server):
    with FarShop(server) as shop, RelayProcess(shop.gateway, token_for(shop.gateway)) as process:
        connected(shop.gateway)
        shop.relay = process
        yield shop


def one(connection, text="select 1"):
    return connection.execute(text).fetchone()[0]


def relay_events(gateway, name):
    return [event for event in gateway.events("--text", "eu-1") if event["event"] == name]


# -- the way through

def test_a_stock_client_reaches_a_target_behind_a_relay(shop):
    assert shop.psql("far-db", "select 40 + 2").stdout.strip() == "42"
    assert relay_events(shop.gateway, "relay.invited") and relay_events(shop.gateway, "relay.joined")
    assert "may dial" in shop.gateway.run("get", "relay").stdout
    with shop.connect("far-db") as connection:
        assert one(connection) == 1
        assert [process["streams"] for process in processes(shop.gateway)] == [1]
    table = shop.gateway.run("relays", "list").stdout
    assert "eu-1" in table and "connected" in table


def test_answers_are_the_same_as_without_a_relay(shop):
    query = "select n, repeat(md5(n::text), 40) from generate_series(1, 30000) n order by n"
    token = shop.run()["token"]
    with shop.connect("far-db", token) as far_one, shop.connect("plain-db", token) as near:
        assert far_one.execute(query).fetchall() == near.execute(query).fetchall()
        for connection, table in ((far_one, "copied_far"), (near, "copied_near")):
            connection.execute(f"create table {table} (n int, text text)")
            with connection.cursor().copy(f"copy {table} from stdin") as copy:
                for n in range(20000):
                    copy.write_row((n, "x" * (n % 500)))
        digest = "select md5(string_agg(n || text, ',' order by n)) from "
        assert one(near, digest + "copied_far") == one(near, digest + "copied_near")


def test_a_cancel_goes_through_the_relay_too(shop):
    with shop.connect("far-db") as connection:
        started = time.monotonic()
        threading.Timer(0.5, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(30)")
        assert time.monotonic() - started < 10
        assert one(connection) == 1


def test_a_killed_run_ends_its_stream(shop):
    run = shop.run("doomed")
    with shop.connect("far-db", run["token"]) as connection:
        assert one(connection) == 1
        shop.gateway.run("runs", "kill", run["run_id"])
        with pytest.raises(psycopg.OperationalError):
            one(connection)
    wait_until(lambda: processes(shop.gateway)[0]["streams"] == 0, "the stream has ended")


def test_the_relays_files_are_its_own_and_hold_no_token(shop):
    kept = shop.relay.data / "relay.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(shop.relay.data.stat().st_mode) == 0o700
    assert [file.name for file in shop.relay.data.iterdir()] == ["relay.json"]
    text = kept.read_text()
    assert "crl_" not in text and shop.env["TARGET_PASSWORD"] not in text
    # As often as it is started again: it has joined.
    with RelayProcess(shop.gateway, data=shop.relay.data):
        connected(shop.gateway, 2)
    connected(shop.gateway, 1)


def test_only_the_administrator_invites_lists_and_revokes(shop):
    token = shop.login("ada")
    for words in (("token", "eu-1"), ("list",), ("revoke", "eu-1")):
        refused = shop.gateway.run("relays", *words, token=token, expect=3)
        assert "administrator" in refused.stderr
    shop.gateway.run("relays", "token", "nowhere", expect=4)


def test_ssh_goes_through_a_relay_too():
    with Hosts() as hosts:
        near = hosts.target("web-1")
        behind = near.replace("credential:", "relay: eu-1\ncredential:")
        address = f"127.0.0.1:{hosts.sshd.port}"
        hosts.gateway.apply(f"kind: Relay\nname: eu-1\naddresses: ['{address}']\n---{behind}")
        # Nothing reaches the host but through the relay.
        assert hosts.ssh("echo near", expect=None).returncode != 0
        with RelayProcess(hosts.gateway, token_for(hosts.gateway)) as process:
            connected(hosts.gateway)
            assert hosts.ssh("echo through").stdout == b"through\n"
            data = bytes(range(256)) * 20000
            assert hosts.ssh("cat", stdin=data).stdout == data
            shown = hosts.gateway.run("target", "check", "web-1", expect=None)
            assert shown.returncode == 0, shown.stderr
            process.process.kill()
            assert hosts.ssh("echo gone", expect=None).returncode != 0


KUBE = """
kind: User
name: ada@example.com
groups: [agents]
password: {{value: adas-password}}
---
kind: Policy
name: kube
cedar: |
  permit (principal in Corral::Group::"agents", action, resource in Corral::Target::"prod");
---
kind: Relay
name: eu-1
addresses: ['127.0.0.1:{port}']
---
kind: Target
name: prod
protocol: kubernetes
address: 127.0.0.1:{port}
relay: eu-1
tls: {{mode: verify-full, ca_file: {ca_file}}}
credential: {{token: {{value: {token}}}}}
"""


def test_kubernetes_goes_through_a_relay_with_its_tls_end_to_end():
    with KubeStandin() as api, Gateway() as gateway:
        gateway.apply(KUBE.format(port=api.port, ca_file=api.ca_file, token=TOKEN))
        token = gateway.start_run("kube", gateway.login("ada@example.com", "adas-password"))["token"]
        def ask():
            connection = gateway.https()
            connection.request("GET", "/k8s/prod/api/v1/namespaces/dev/pods",
                               headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

        assert ask()[0] == 502
        with RelayProcess(gateway, token_for(gateway)) as process:
            connected(gateway)
            status, pods = ask()
            assert status == 200 and pods["kind"] == "PodList", (status, pods)
            assert TOKEN not in process.log()


# -- joining

def refused_join(shop, token, reason):
    before = len(shop.gateway.events("--text", reason))
    with RelayProcess(shop.gateway, token) as process:
        assert process.wait() == 1
        assert "join token is not valid" in process.log()
        assert not (process.data / "relay.json").exists()
        assert token not in process.log()
    events = shop.gateway.events("--text", reason)
    assert len(events) == before + 1 and events[-1]["event"] == "relay.refused"
    assert token not in json.dumps(events) and token not in shop.gateway.log()


def test_a_token_joins_once(shop):
    token = token_for(shop.gateway)
    with RelayProcess(shop.gateway, token):
        connected(shop.gateway, 2)
        refused_join(shop, token, "was used before")
    connected(shop.gateway, 1)


def test_a_late_or_unknown_token_joins_never(shop):
    token = token_for(shop.gateway, "eu-1", "--ttl", "1s")
    time.sleep(1.2)
    refused_join(shop, token, "has expired")
    refused_join(shop, "crl_" + "a" * 52, "never given")


def test_a_first_start_without_a_token_says_what_is_missing(shop):
    with RelayProcess(shop.gateway) as process:
        assert process.wait() == 1
        assert "corral relays token NAME" in process.log()


# -- what may be dialled

def test_a_target_that_its_relay_may_not_dial_is_not_applied(shop):
    elsewhere = far(shop, "elsewhere-db").replace(f":{shop.server.port}", ":1")
    refused = shop.gateway.apply(elsewhere, env=shop.env, expect=1)
    assert "relay 'eu-1' may not dial it" in refused.stderr
    unknown = shop.gateway.apply(far(shop, "lost-db", relay="us-1"), env=shop.env, expect=1)
    assert "there is no relay 'us-1'" in unknown.stderr
    narrowed = shop.gateway.apply("kind: Relay\nname: eu-1\naddresses: [db.internal:1]\n", expect=1)
    assert "Target/far-db" in narrowed.stderr
    shop.gateway.run("delete", "relay", "eu-1", expect=1)


def test_the_relays_operator_may_allow_less(own_shop):
    with RelayProcess(own_shop.gateway, token_for(own_shop.gateway),
                      "--allow", "10.0.0.0/8:5432") as process:
        connected(own_shop.gateway)
        with pytest.raises(psycopg.OperationalError) as caught:
            own_shop.connect("far-db")
        assert "corral:" in str(caught.value) and "10.0.0" not in str(caught.value)
        assert "a stream was refused" in process.log()
        [refused] = relay_events(own_shop.gateway, "relay.dial_refused")
        assert refused["relay"] == "eu-1"
        assert refused["address"] == f"127.0.0.1:{own_shop.server.port}"
        assert refused["reason"] == "the relay process may not dial it"


def test_without_a_relay_the_target_is_down_and_nothing_else(own_shop):
    with pytest.raises(psycopg.OperationalError) as caught:
        own_shop.connect("far-db")
    assert "corral:" in str(caught.value)
    with own_shop.connect("plain-db") as near:
        assert one(near) == 1


# -- loss, drain, return

def test_a_relay_that_dies_ends_its_streams_and_another_serves(own_shop):
    gateway = own_shop.gateway
    with RelayProcess(gateway, token_for(gateway)) as first:
        connected(gateway)
        token = own_shop.run()["token"]
        connection = own_shop.connect("far-db", token)
        assert one(connection) == 1
        with RelayProcess(gateway, token_for(gateway)):
            connected(gateway, 2)
            first.process.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select pg_sleep(20)")
            connected(gateway, 1)
            with own_shop.connect("far-db", token) as again:
                assert one(again) == 1
            left = relay_events(gateway, "relay.left")
            assert len(left) == 1 and left[0]["streams"] == 1


def test_a_silent_relay_is_cut_off_within_the_lease(own_shop):
    gateway = own_shop.gateway
    with RelayProcess(gateway, token_for(gateway)) as process:
        connected(gateway)
        connection = own_shop.connect("far-db")
        assert one(connection) == 1
        process.process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select pg_sleep(60)")
        assert time.monotonic() - started < LEASE_S + 5
        assert "nothing was heard" in relay_events(gateway, "relay.left")[-1]["reason"]
        process.process.send_signal(signal.SIGCONT)
        connected(gateway)
        with own_shop.connect("far-db") as again:
            assert one(again) == 1


def test_a_relay_that_stops_cuts_nothing(own_shop):
    gateway = own_shop.gateway
    with RelayProcess(gateway, token_for(gateway)) as first:
        connected(gateway)
        token = own_shop.run()["token"]
        connection = own_shop.connect("far-db", token)
        assert one(connection) == 1
        with RelayProcess(gateway, token_for(gateway)):
            connected(gateway, 2)
            first.process.send_signal(signal.SIGTERM)
            states = lambda: sorted(p["state"] for p in processes(gateway))
            wait_until(lambda: states() == ["connected", "draining"], "one drains")
            with own_shop.connect("far-db", token) as fresh:
                assert one(fresh) == 1
                assert one(connection) == 1
                streams = {p["state"]: p["streams"] for p in processes(gateway)}
                assert streams == {"connected": 1, "draining": 1}
            connection.close()
            assert first.wait() == 0, first.log()


def test_a_relay_that_stops_does_not_wait_for_ever(own_shop):
    gateway = own_shop.gateway
    with RelayProcess(gateway, token_for(gateway), "--drain-timeout", "1s") as process:
        connected(gateway)
        connection = own_shop.connect("far-db")
        assert one(connection) == 1
        started = time.monotonic()
        assert process.stop() == 0, process.log()
        assert 0.9 < time.monotonic() - started < 10
        with pytest.raises(psycopg.OperationalError):
            one(connection)


def test_a_second_sigterm_ends_a_relay_at_once(own_shop):
    gateway = own_shop.gateway
    with RelayProcess(gateway, token_for(gateway), "--drain-timeout", "5m") as process:
        connected(gateway)
        connection = own_shop.connect("far-db")
        assert one(connection) == 1
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: [p["state"] for p in processes(gateway)] == ["draining"], "it drains")
        assert one(connection) == 1
        assert process.stop() == 0, process.log()
        with pytest.raises(psycopg.OperationalError):
            one(connection)


def test_a_relay_whose_resource_is_deleted_is_out(own_shop):
    gateway = own_shop.gateway
    gateway.apply("kind: Relay\nname: us-1\naddresses: [db.internal:1]\n")
    with RelayProcess(gateway, token_for(gateway, "us-1")) as process:
        connected(gateway, 1, "us-1")
        gateway.run("delete", "relay", "us-1")
        left = wait_until(lambda: gateway.events("--event", "relay.left"), "it is out", 15)
        assert [event["relay"] for event in left] == ["us-1"]
        wait_until(lambda: "does not take this relay" in process.log(), "it is told why", 15)
        # It tries on, and stays out also when the name comes back: its certificate is gone.
        gateway.apply("kind: Relay\nname: us-1\naddresses: [db.internal:1]\n")
        refused = lambda: gateway.events("--event", "relay.refused", "--text", "was deleted")
        wait_until(refused, "its certificate is of a relay that was deleted", 40)
        assert processes(gateway, "us-1") == []


@pytest.mark.deadline(90)
def test_whoever_stalls_on_the_way_in_is_cut_off(own_shop):
    """With a good certificate and its TLS done, or without a word of TLS."""
    gateway = own_shop.gateway
    with RelayProcess(gateway, token_for(gateway)) as first:
        connected(gateway)
        first.stop()
        identity = json.loads((first.data / "relay.json").read_text())
        for name in ("certificate", "key"):
            (first.folder / name).write_text(identity[f"{name}_pem"])
        trust = ssl.create_default_context(cadata=identity["authority_pem"])
        trust.load_cert_chain(first.folder / "certificate", first.folder / "key")
        trust.check_hostname = False
        trust.set_alpn_protocols([RELAY_ALPN])
        address = gateway.address("relay")
        mute = socket.create_connection(address, LEASE_S * 2)
        plain = socket.create_connection(address, LEASE_S * 2)
        with mute, trust.wrap_socket(plain) as stalled:
            assert stalled.selected_alpn_protocol() == RELAY_ALPN
            with RelayProcess(gateway, token_for(gateway)):
                connected(gateway)
                with own_shop.connect("far-db") as connection:
                    assert one(connection) == 1
            for client in (stalled, mute):
                try:
                    while client.recv(4096):
                        pass
                except (ConnectionError, ssl.SSLError):
                    pass

        def reasons():
            refused = gateway.events("--event", "relay.refused")
            return [(event.get("relay"), event["reason"]) for event in refused]
        wait_until(lambda: len(reasons()) == 2, "both are in the record")
        assert sorted(reasons(), key=str) == [("eu-1", "the relay did not answer in time"),
                                              (None, "its handshake did not end in time")]


def test_a_gateway_that_was_away_is_found_again(server):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with FarShop(server) as shop:
        gateway = shop.gateway
        gateway.stop()
        gateway.config = f"listeners: {{relay: '127.0.0.1:{port}'}}\n"
        gateway.start()
        with RelayProcess(gateway, token_for(gateway)):
            connected(gateway)
            gateway.kill_hard()
            gateway.start()
            connected(gateway)
            with shop.connect("far-db") as connection:
                assert one(connection) == 1


# -- certificates

def test_certificates_are_renewed_by_themselves(server):
    with FarShop(server) as shop:
        gateway = shop.gateway
        gateway.stop()
        gateway.config = "relay_certificate_lifetime: 14s\n"
        gateway.start()
        with RelayProcess(gateway, token_for(gateway)) as process:
            connected(gateway)
            connection = shop.connect("far-db")
            kept = lambda: json.loads((process.data / "relay.json").read_text())
            first = kept()
            wait_until(lambda: kept()["certificate_pem"] != first["certificate_pem"], "renewed", 15)
            assert kept()["key_pem"] != first["key_pem"]
            # Well beyond the first certificate's end, on the first connection.
            time.sleep(16)
            assert one(connection) == 1
            assert len(relay_events(gateway, "relay.joined")) == 1
            # And whoever comes again shows one that is good.
            process.process.kill()
            with RelayProcess(gateway, data=process.data):
                connected(gateway)


def test_a_revoked_relay_is_out_and_stays_out(own_shop):
    gateway = own_shop.gateway
    spare = token_for(gateway)
    with RelayProcess(gateway, token_for(gateway)) as process:
        connected(gateway)
        connection = own_shop.connect("far-db")
        assert one(connection) == 1
        revoked = gateway.json("relays", "revoke", "eu-1")
        assert revoked["certificates_revoked"] == 1 and revoked["connections_closed"] == 1
        with pytest.raises(psycopg.OperationalError):
            one(connection)
        wait_until(lambda: "certificate was revoked" in process.log(), "it is told why", 15)
        refused = relay_events(gateway, "relay.refused")
        assert refused and "revoked" in refused[-1]["reason"]
        assert processes(gateway) == []
    refused_join(own_shop, spare, "never given")


def test_another_gateways_relay_is_not_taken(own_shop):
    with Gateway() as other:
        other.apply("kind: Relay\nname: eu-1\naddresses: [db.internal:1]\n")
        with RelayProcess(other, token_for(other)) as process:
            connected(other)
            process.stop()
            kept = process.data / "relay.json"
            identity = json.loads(kept.read_text())
            # It would trust the gateway; the gateway does not trust it.
            own = own_shop.gateway
            with RelayProcess(own, token_for(own)) as honest:
                connected(own)
                honest_identity = json.loads((honest.data / "relay.json").read_text())
            for key in ("address", "authority_pem", "joined"):
                identity[key] = honest_identity[key]
            kept.write_text(json.dumps(identity))
            before = len(own.events("--text", "handshake"))
            with RelayProcess(own, data=process.data) as foreign:
                wait_until(lambda: len(own.events("--text", "handshake")) > before, "refused", 15)
                assert processes(own) == [] and foreign.process.poll() is None


def test_a_relay_that_lies_about_its_name_serves_nobody(own_shop):
    gateway = own_shop.gateway
    gateway.apply("kind: Relay\nname: us-1\naddresses: [db.internal:1]\n")
    with RelayProcess(gateway, token_for(gateway, "us-1")) as process:
        connected(gateway, 1, "us-1")
        process.stop()
        kept = process.data / "relay.json"
        identity = json.loads(kept.read_text())
        identity["relay"] = "eu-1"
        kept.write_text(json.dumps(identity))
        with RelayProcess(gateway, data=process.data):
            refused = lambda: [event for event in gateway.events("--text", "another name")
                               if event["event"] == "relay.refused"]
            wait_until(refused, "its certificate speaks for it", 15)
            assert refused()[0]["relay"] == "us-1"
            assert processes(gateway, "eu-1") == [] and processes(gateway, "us-1") == []


def test_whoever_speaks_no_tls_is_refused_and_others_stay(shop):
    host, port = shop.gateway.address("relay")
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(4096)):
        with socket.create_connection((host, port), 10) as client:
            client.settimeout(15)
            client.sendall(noise)
            try:
                while client.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    assert len(processes(shop.gateway)) == 1
    with shop.connect("far-db") as connection:
        assert one(connection) == 1
