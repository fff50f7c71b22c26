"""Floods of refusals: the record tells of all of them, stays small, and hides nobody else's."""

import concurrent.futures
import contextlib
import json
import socket

import pytest

from harness.shop import Shop
from harness.waiting import wait_until
from harness.wire import Refused, Wire

# As in limits: of one source so many are recorded one by one.
SINGLE = 100
FLOOD = 3_000
RETRIES = 300
# As in limits: connections that log in at once.
PLACES = 512
# A refusal that is recorded by itself takes about 300 bytes.
RECORD_GROWTH_MAX = 64 * 1024


@pytest.fixture
def shop(server):
    with Shop(server) as open_shop:
        yield open_shop


def record_size(shop):
    folder = shop.gateway.data / "record"
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def knock(shop, token, target="plain-db", source="127.0.0.1"):
    """A client that is refused; what it was told."""
    with Wire(shop.gateway.address(), source=source) as wire:
        with pytest.raises(Refused) as refused:
            wire.login(token, target)
    return refused.value.text


def restart(shop):
    """A gateway that stops tells what it has counted."""
    assert shop.gateway.stop() == 0
    shop.gateway.start()


def test_a_client_that_does_not_stop_is_counted_and_hides_nobody_else(shop):
    good = shop.run()["token"]
    before = record_size(shop)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        told = set(pool.map(lambda _: knock(shop, "crl_" + "a" * 52), range(FLOOD)))
    assert len(told) == 1 and "not valid" in told.pop()
    # Another address, and somebody who is known at the same one.
    knock(shop, "crl_" + "b" * 52, source="127.0.0.2")
    assert "no target 'nothing'" in knock(shop, good, target="nothing")
    growth = record_size(shop) - before
    restart(shop)

    refused = shop.gateway.events("--event", "session.refused")
    of_flood = [event for event in refused
                if event["client_address"].startswith("127.0.0.1:") and "principal" not in event]
    others = [event for event in refused if event not in of_flood]
    assert len(of_flood) == SINGLE
    assert [event.get("principal") for event in others] == [None, "nightly-report"]
    assert others[0]["client_address"].startswith("127.0.0.2:")
    counted = shop.gateway.events("--event", "refusals.counted")
    assert sum(event["count"] for event in counted) == FLOOD - SINGLE
    for event in counted:
        assert event["refused"] == "session.refused"
        assert event["client_address"].startswith("127.0.0.1:")
        assert len(event["reasons"]) == 1 and "not valid" in event["reasons"][0]
    assert growth < RECORD_GROWTH_MAX, growth
    line = shop.gateway.run("audit", "search", "--event", "refusals.counted").stdout
    assert "more session.refused within" in line
    shop.gateway.run("audit", "verify", shop.gateway.data / "record", "--key",
                     shop.gateway.data / "record.pub")


def test_a_job_that_asks_again_and_again_is_counted_in_the_report(shop):
    token = shop.workload()
    connection = shop.gateway.https()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(name, target):
        body = json.dumps({"name": name, "targets": [target]})
        connection.request("POST", "/api/v1/runs", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    for number in range(RETRIES):
        assert ask(f"retry-{number}", "gone-db") >= 400
    connection.close()
    restart(shop)
    refused = shop.gateway.json("runs", "report", "refused")
    assert sum(report["count"] for report in refused) == RETRIES
    assert [report["count"] for report in refused[1:]] == [1] * SINGLE
    assert refused[0]["name"] == f"retry-{RETRIES - 1}" and "gone-db" in refused[0]["reason"]
    assert {report["principal"] for report in refused} == {"nightly-report"}
    shown = shop.gateway.run("runs", "report", "refused").stdout
    assert str(RETRIES - SINGLE) in shown


def test_a_client_that_finds_no_place_to_log_in_is_recorded(shop):
    token = shop.run()["token"]
    address = shop.gateway.address()

    def finds_none():
        try:
            with Wire(address, source="127.0.0.2") as wire:
                wire.login(token, "plain-db")
        except ConnectionError:
            return True
        return False

    with contextlib.ExitStack() as mute:
        # They connect, and say nothing.
        for _ in range(PLACES + 64):
            mute.enter_context(socket.create_connection(address))
        wait_until(finds_none, "they have taken all places")
    assert not finds_none()
    refused = shop.gateway.events("--event", "session.refused")
    (ours,) = [event for event in refused if event["client_address"].startswith("127.0.0.2:")]
    assert ours["reason"] == "no place to log in was free in time", ours
    assert "principal" not in ours
