"""The command line: exit codes, shapes, and errors that a person can act on."""

import json
import os
import pathlib
import ssl
import stat
import urllib.request

import pytest


def test_exit_codes(shop):
    gateway = shop.gateway
    gateway.run("whoami", expect=0)
    gateway.run("no-such-command", expect=2)
    gateway.run("runs", "start", expect=2)
    gateway.run("get", "target", "no-such-target", expect=4)
    gateway.run("runs", "show", "run-that-is-not", expect=4)
    gateway.run("apply", "-f", "/does/not/exist.yaml", expect=1)
    gateway.run("whoami", token="crl_wrong", expect=3)
    gateway.run("runs", "list", token=shop.login("nobody"), expect=None)
    nowhere = gateway.client_env() | {"CORRAL_GATEWAY": "https://127.0.0.1:1"}
    gateway.run("whoami", env=nowhere, expect=5)


def test_the_data_directory_makes_an_administrator(shop):
    clean = {"PATH": os.environ["PATH"], "HOME": str(shop.gateway.folder)}
    who = json.loads(shop.gateway.run("--data", shop.gateway.data, "whoami", "-o", "json",
                                      env=clean).stdout)
    assert who["kind"] == "admin"


def test_login_prints_and_saves_a_token(shop):
    env = shop.gateway.client_env()
    del env["CORRAL_TOKEN"]
    env["XDG_CONFIG_HOME"] = str(shop.gateway.folder / "grace")
    answer = json.loads(shop.gateway.run(
        "login", "--user", "grace@example.com", "--password-stdin", "-o", "json",
        stdin=shop.env["GRACE_PASSWORD"] + "\n", env=env).stdout)
    assert {"token", "expires_at"} <= set(answer)
    saved = list((shop.gateway.folder / "grace" / "corral").iterdir())
    assert saved and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in saved)
    del env["CORRAL_GATEWAY"]
    del env["CORRAL_CA_FILE"]
    who = json.loads(shop.gateway.run("whoami", "-o", "json", env=env).stdout)
    assert who["name"] == "grace@example.com" and set(who["groups"]) == {"dba"}
    shop.gateway.run("logout", env=env)
    shop.gateway.run("whoami", env=env, expect=None)


@pytest.mark.parametrize("wrong", ["wrong", "", "ada's password"])
def test_a_wrong_password_is_refused(shop, wrong):
    result = shop.gateway.run("login", "--user", "grace@example.com", "--password-stdin",
                              stdin=wrong + "\n", expect=3)
    unknown = shop.gateway.run("login", "--user", "not-there@example.com", "--password-stdin",
                               stdin=wrong + "\n", expect=3)
    assert result.stderr.replace("grace", "X") == unknown.stderr.replace("not-there", "X")


def test_lists_are_arrays_of_objects_with_ids(shop, token):
    for command in (["runs", "list"], ["runs", "tree"], ["sessions", "list"],
                    ["approvals", "list"], ["get", "target"], ["get", "user"]):
        shown = shop.gateway.json(*command)
        assert isinstance(shown, list), command
        for one in shown:
            assert {"id", "name", "run_id"} & set(one), command


@pytest.mark.parametrize("manifest, expect", [
    ("kind: Target\nname: x\nprotocol: postgres\naddress: a:1\ncolour: red\n", "colour"),
    ("kind: Target\nname: Not Lower\nprotocol: postgres\naddress: a:1\n", "Not Lower"),
    ("kind: Gizmo\nname: x\n", "Gizmo"),
    ("kind: Target\nname: [\n", ":5:7"),
    ("kind: Policy\nname: p\ncedar: |\n  permit (principal, action, resource;\n", "p"),
    ('kind: Policy\nname: p\ncedar: |\n  permit (principal, action == Corral::Action::"slect", '
     "resource);\n", "slect"),
])
def test_a_wrong_manifest_is_refused_with_its_place(shop, manifest, expect):
    before = shop.gateway.json("get", "target")
    good = "kind: User\nname: never@example.com\n---\n"
    result = shop.gateway.apply(good + manifest, expect=1)
    assert expect in result.stderr and "manifest" in result.stderr
    assert shop.gateway.json("get", "target") == before
    shop.gateway.run("get", "user", "never@example.com", expect=4)


def test_a_dry_run_shows_and_changes_nothing(shop):
    result = shop.gateway.apply("kind: User\nname: maybe@example.com\n", expect=None)
    assert result.returncode == 0
    file = shop.gateway.folder / "dry.yaml"
    file.write_text("kind: User\nname: dry@example.com\n")
    shown = shop.gateway.run("apply", "-f", file, "--dry-run")
    assert "dry@example.com" in shown.stdout
    shop.gateway.run("get", "user", "dry@example.com", expect=4)
    assert "dry@example.com" in shop.gateway.run("diff", "-f", file, expect=None).stdout
    shop.gateway.run("delete", "user", "maybe@example.com")
    shop.gateway.run("get", "user", "maybe@example.com", expect=4)


def test_env_prints_what_a_shell_can_read(shop):
    run = shop.run()
    lines = shop.gateway.run("env", "orders-db", token=run["token"]).stdout.splitlines()
    names = {line.removeprefix("export ").split("=")[0] for line in lines if line}
    assert {"PGHOST", "PGPORT", "PGPASSWORD", "PGDATABASE"} <= names


def test_policies_are_checked_and_tested_offline(shop):
    folder = shop.gateway.folder
    good = folder / "good.cedar"
    good.write_text('permit (principal, action, resource in Corral::Target::"orders-db");\n')
    bad = folder / "bad.cedar"
    bad.write_text('permit (principal, action == Corral::Action::"slect", resource);\n')
    clean = {"PATH": os.environ["PATH"]}
    shop.gateway.run("policy", "check", good, env=clean)
    result = shop.gateway.run("policy", "check", bad, env=clean, expect=1)
    assert "slect" in result.stderr + result.stdout and "bad.cedar" in result.stderr + result.stdout


def test_metrics_and_health_are_served(shop):
    context = ssl.create_default_context(cafile=shop.gateway.ready["ca_file"])
    api = shop.gateway.ready["api"]
    for path in ("/healthz", "/readyz"):
        with urllib.request.urlopen(api + path, context=context) as answer:
            assert answer.status == 200
    request = urllib.request.Request(
        api + "/metrics", headers={"Authorization": "Bearer " + shop.gateway.admin_token()})
    with urllib.request.urlopen(request, context=context) as answer:
        metrics = answer.read().decode()
    assert "corral_" in metrics and "orders-db" not in metrics
    with urllib.request.urlopen(api + "/api/openapi.json", context=context) as answer:
        assert json.load(answer)["openapi"].startswith("3.")


def test_the_administrator_is_told_why_it_connects_nowhere(shop):
    for command in (("connect", "orders-db", "--", "-c", "select 1"), ("env", "orders-db")):
        told = shop.gateway.run(*command, expect=3)
        assert told.stdout == "" and "the administrator's token is nobody's" in told.stderr
        assert "corral run --for NAME" in told.stderr


def test_the_cases_of_a_directory_are_asked(shop):
    """Those of examples/policies, which docs/policy.md shows."""
    clean = {"PATH": os.environ["PATH"]}
    examples = pathlib.Path(__file__).resolve().parents[2] / "examples" / "policies"
    asked = shop.gateway.run("policy", "test", examples, env=clean)
    assert asked.stdout.rstrip().endswith("35 passed, 0 failed"), asked.stdout
    empty = shop.gateway.folder / "no-cases"
    empty.mkdir()
    told = shop.gateway.run("policy", "test", empty, env=clean, expect=1)
    assert "no file of cases" in told.stderr and "tests.yaml" in told.stderr
