"""The HTTP API: one shape of an error, limits, the event stream, and its document."""

import http.client
import json
import pathlib
import ssl
import urllib.parse

import pytest

from harness.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Api:
    """The gateway's API without its command line."""

    def __init__(self, gateway):
        self.address = urllib.parse.urlsplit(gateway.ready["api"])
        self.context = ssl.create_default_context(cafile=gateway.ready["ca_file"])
        self.token = gateway.admin_token()

    def open(self):
        return http.client.HTTPSConnection(self.address.hostname, self.address.port,
                                           context=self.context, timeout=20)

    def send(self, method, path, body=None, token="", headers=()):
        """Status, headers and body of an answer; as the administrator without a token."""
        headers = dict(headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = self.open()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


@pytest.fixture(scope="module")
def api(shop):
    return Api(shop.gateway)


@pytest.mark.parametrize("method, path, body, token, status, code", [
    ("GET", "/api/v1/runs", None, None, 401, "unauthenticated"),
    ("GET", "/api/v1/runs", None, "crl_wrong", 401, "unauthenticated"),
    ("GET", "/api/v1/runs", None, "x" * 5000, 401, "unauthenticated"),
    ("GET", "/api/v1/events/stream", None, "crl_wrong", 401, "unauthenticated"),
    ("GET", "/api/v1/runs/no-such-run", None, "", 404, "not_found"),
    ("GET", "/api/v1/resources/gizmo", None, "", 422, "invalid"),
    ("GET", "/api/v1/no/such/path", None, "", 404, "not_found"),
    ("GET", "/api/v1/runs?active=perhaps", None, "", 422, "invalid"),
    ("GET", "/api/v1/runs?colour=red", None, "", 422, "invalid"),
    ("PUT", "/api/v1/runs", "{}", "", 405, "invalid"),
    ("POST", "/api/v1/runs", "{", "", 422, "invalid"),
    ("POST", "/api/v1/runs", '{"name": "x", "ttl": 3}', "", 422, "invalid"),
    ("POST", "/api/v1/login", '{"kind": "user"}', None, 422, "invalid"),
    ("POST", "/api/v1/login", " " * 20000, None, 413, "too_large"),
    ("POST", "/api/v1/apply", "[" * 100000, "", 422, "invalid"),
    ("GET", "/api/v1/runs/x/attach", None, "", 426, "invalid"),
])
def test_errors_have_one_shape(api, method, path, body, token, status, code):
    found, headers, text = api.send(method, path, body, token)
    assert found == status, text
    error = json.loads(text)["error"]
    assert error["code"] == code and error["message"]
    assert headers["Cache-Control"] == "no-store"
    assert ("WWW-Authenticate" in headers) == (status == 401)


def test_a_body_that_does_not_fit_is_not_quoted(api):
    for body in ('{"kind":"user","name":"x","secret":["hunter2"]}', '{"kind":"user", hunter2',
                 '{"kind":"user","name":"x","hunter2":1}'):
        status, _, text = api.send("POST", "/api/v1/login", body, None)
        assert status == 422 and "hunter2" not in text


def test_a_body_of_another_type_is_refused(api):
    status, _, text = api.send("POST", "/api/v1/runs", "name=x",
                               headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 415 and "application/json" in json.loads(text)["error"]["message"]


def test_the_served_document_is_the_committed_one(api):
    status, _, text = api.send("GET", "/api/openapi.json", token=None)
    assert status == 200
    assert json.loads(text) == json.loads((ROOT / "docs" / "openapi.json").read_text())


def test_events_are_streamed_from_the_past_into_the_present(shop, api):
    before = shop.run("before")
    since = next(e["time"] for e in shop.gateway.events("--event", "run.started")
                 if e["run"] == before["run_id"])
    connection = api.open()
    query = urllib.parse.urlencode({"since": since, "event": "run."})
    connection.request("GET", f"/api/v1/events/stream?{query}",
                       headers={"Authorization": f"Bearer {api.token}"})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/event-stream"

    def next_event():
        while True:
            line = answer.readline().decode()
            assert line, "the stream ended"
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))

    first = next_event()
    assert first["event"] == "run.started" and first["run"] == before["run_id"]
    after = shop.run("after")
    while (event := next_event())["run"] != after["run_id"]:
        pass
    assert event["event"] == "run.started"


def test_a_stream_ends_with_its_token(shop, api):
    token = shop.gateway.login("frances@example.com", shop.env["FRANCES_PASSWORD"])
    connection = api.open()
    connection.request("GET", "/api/v1/events/stream",
                       headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    assert answer.status == 200
    shop.gateway.run("logout", token=token)
    assert answer.read() is not None


def test_a_person_sees_no_other_peoples_runs(shop, api):
    run = shop.run("not-yours")
    frances = shop.login("frances")
    assert api.send("GET", f"/api/v1/runs/{run['run_id']}", token=frances)[0] == 404
    assert api.send("POST", f"/api/v1/runs/{run['run_id']}/kill", token=frances)[0] == 404
    for path in ("/api/v1/runs", "/api/v1/runs/tree", "/api/v1/sessions", "/api/v1/events"):
        status, _, text = api.send("GET", path, token=frances)
        assert status == 200 and run["run_id"] not in text, path


@pytest.mark.parametrize("method, path, body", [
    ("POST", "/api/v1/apply", '{"resources": []}'),
    ("GET", "/api/v1/resources/user", None),
    ("DELETE", "/api/v1/resources/user/ada@example.com", None),
    ("POST", "/api/v1/users/ada@example.com/disable", None),
    ("POST", "/api/v1/users/ada@example.com/enable", None),
])
def test_only_administrators_administer(shop, api, method, path, body):
    for token in (shop.login("grace"), shop.workload(), shop.run()["token"]):
        status, _, text = api.send(method, path, body, token)
        assert status in (403, 404), text
    assert "ada@example.com" in shop.gateway.run("get", "users").stdout


def test_many_streams_leave_the_api_usable(shop, api):
    connections = []
    for _ in range(50):
        connection = api.open()
        connection.request("GET", "/api/v1/events/stream",
                           headers={"Authorization": f"Bearer {api.token}"})
        connections.append((connection, connection.getresponse()))
    wait_until(lambda: api.send("GET", "/api/v1/whoami")[0] == 200, "the API answers")
    for connection, _ in connections:
        connection.close()
