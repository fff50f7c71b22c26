"""A CI system says that a job has ended: its run ends, and nothing else does."""

import base64
import hashlib
import hmac
import json
import subprocess
import time
import types
import uuid

import psycopg
import pytest

from harness.issuer import AUDIENCE, Issuer
from harness.token_service import TokenService
from harness.waiting import wait_until

SECRET = "a-secret-of-the-webhook"
OTHER_SECRET = "the-secret-of-another-webhook"
BODY_BYTES_MAX = 2 * 1024 * 1024


def workload(name, platform, issuer, matched):
    return f"""
kind: Workload
name: {name}
sponsor: ada@example.com
groups: [agents]
trust: [{{platform: {platform}, issuer: '{issuer.url}', audience: {AUDIENCE}, match: {matched}}}]
webhook: {{secret: {{env: WEBHOOK_SECRET}}}}
"""


@pytest.fixture(scope="module")
def world(shop):
    """The shop, where three issuers' jobs may use `plain-db`."""
    with Issuer() as github, Issuer() as gitlab, Issuer() as other:
        env = {"WEBHOOK_SECRET": SECRET}
        shop.gateway.apply("---".join([
            workload("ci-github", "github", github, "{repository: shop/reports}"),
            workload("ci-gitlab", "gitlab", gitlab, "{project_path: shop/reports}"),
            workload("ci-other", "oidc", other, "{department: shop}"),
        ]), env=env)
        # It trusts the same issuer: its webhook ends nothing of the first one's.
        shop.gateway.apply(workload("ci-second", "github", github, "{repository: shop/second}"),
                           env={"WEBHOOK_SECRET": OTHER_SECRET})
        yield types.SimpleNamespace(shop=shop, gateway=shop.gateway, github=github, gitlab=gitlab,
                                    other=other, service=TokenService(shop.gateway))
        for name in ("ci-github", "ci-gitlab", "ci-other", "ci-second"):
            shop.gateway.run("delete", "Workload", name)


def start(world, issuer, workload, **claims):
    """The root run of a job."""
    status, answer = world.service.exchange(issuer.token(**claims), client_id=workload)
    assert status == 200, answer
    [detail] = answer["authorization_details"]
    return types.SimpleNamespace(id=detail["run_id"], token=answer["access_token"])


def github_job(world, run_id, attempt=1, job=None, repository="shop/reports"):
    name = "ci-second" if repository == "shop/second" else "ci-github"
    return start(world, world.github, name, repository=repository, run_id=str(run_id),
                 run_attempt=str(attempt), check_run_id=str(job or number()), event_name="push",
                 actor="ada", actor_id="1001", sub=f"repo:{repository}:ref:refs/heads/main")


def number():
    return uuid.uuid4().int % 10 ** 12


def hub(body, secret=SECRET):
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def standard(body, secret=SECRET, at=None):
    """Headers of Standard Webhooks."""
    identifier, at = f"msg_{uuid.uuid4().hex}", str(int(at or time.time()))
    signed = f"{identifier}.{at}.".encode() + body
    digest = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    return {"Webhook-Id": identifier, "Webhook-Timestamp": at, "Webhook-Signature": f"v1,{digest}"}


def deliver(world, workload, event, headers):
    """Status and answer. `headers` are given, or made of the body."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    headers = headers(body) if callable(headers) else headers
    return world.service.request("POST", f"/api/v1/jobs/ended/{workload}", body,
                                 {"Content-Type": "application/json"} | headers)


def completed_job(run_id, job, attempt=1):
    return {"action": "completed", "workflow_job": {
        "id": job, "run_id": run_id, "run_attempt": attempt, "conclusion": "cancelled"}}


def completed_run(run_id, attempt=1):
    return {"action": "completed", "workflow_run": {"id": run_id, "run_attempt": attempt}}


def shown(world, run):
    return world.gateway.json("runs", "show", run.id)


def end_of(world, run):
    return shown(world, run)["end_reason"] if shown(world, run)["state"] == "ended" else None


def ends(world, run):
    return [event for event in world.gateway.events("--run", run.id)
            if event["event"] == "run.ended" and event["run"] == run.id]


def refusals(world, workload):
    return [event for event in world.gateway.events("--text", workload)
            if event["event"] == "principal.refused" and event["name"] == workload]


def test_a_job_that_ended_takes_its_run_and_a_live_session_along(world):
    run_id, job = number(), number()
    run = github_job(world, run_id, job=job)
    child = world.gateway.json("runs", "start", "--name", "child", token=run.token)
    neighbour = github_job(world, run_id)
    rerun = github_job(world, run_id, attempt=2, job=job)
    psql = subprocess.Popen(
        ["psql", "--no-psqlrc", "-c", "select 'here'", "-c", "select pg_sleep(60)"],
        env=world.gateway.psql_env(child["token"], "plain-db"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "?column?" in psql.stdout.readline()
        with world.shop.connect("plain-db", neighbour.token) as beside:
            event = completed_job(run_id, job)
            queued = event | {"action": "queued"}
            assert deliver(world, "ci-github", queued, hub) == (204, None)
            assert end_of(world, run) is None
            assert deliver(world, "ci-github", event, hub) == (204, None)
            _, errors = psql.communicate(timeout=10)
            assert psql.returncode != 0
            assert "the job of this session's run has ended" in errors
            assert end_of(world, run) == "job_ended"
            assert shown(world, types.SimpleNamespace(id=child["run_id"]))["state"] == "ended"
            assert world.service.whoami(run.token)[0] == 401
            # The job beside it, and another attempt of the same one, go on.
            assert beside.execute("select 1").fetchone() == (1,)
            assert end_of(world, rerun) is None
            # The first end counts, however often it is said.
            for _ in range(2):
                assert deliver(world, "ci-github", event, hub) == (204, None)
            [end] = ends(world, run)
            assert (end["reason"], end["by"]) == ("job_ended", "webhook ci-github")
            # The whole attempt.
            assert deliver(world, "ci-github", completed_run(run_id), hub) == (204, None)
            assert end_of(world, neighbour) == "job_ended"
            with pytest.raises(psycopg.Error):
                beside.execute("select 1")
            assert end_of(world, rerun) is None
    finally:
        psql.kill()
        psql.communicate()


def test_a_run_that_ended_otherwise_keeps_its_reason(world):
    run_id, job = number(), number()
    run = github_job(world, run_id, job=job)
    world.gateway.run("runs", "kill", run.id)
    assert deliver(world, "ci-github", completed_job(run_id, job), hub) == (204, None)
    assert end_of(world, run) == "killed"
    assert len(ends(world, run)) == 1


def signed_by_another(body):
    return hub(body, OTHER_SECRET)


def of_another_body(_):
    return hub(b"{}")


def of_another_time(body):
    return standard(body, at=time.time() - 600)


BAD = {
    "no signature": {},
    "another secret": signed_by_another,
    "another body": of_another_body,
    "not hexadecimal": {"X-Hub-Signature-256": "sha256=\u00e9"},
    "another token": {"X-Gitlab-Token": OTHER_SECRET},
    "an empty token": {"X-Gitlab-Token": ""},
    "too old": of_another_time,
    "a bad signature beside a good token":
        {"X-Hub-Signature-256": "sha256=00", "X-Gitlab-Token": SECRET},
}


@pytest.mark.parametrize("how", BAD)
def test_a_delivery_that_is_not_signed_ends_nothing_and_is_recorded_once(world, how):
    run_id, job = number(), number()
    run = github_job(world, run_id, job=job)
    before = len(refusals(world, "ci-github"))
    status, answer = deliver(world, "ci-github", completed_job(run_id, job), BAD[how])
    assert status == 401, answer
    assert SECRET not in json.dumps(answer)
    assert end_of(world, run) is None
    wait_until(lambda: len(refusals(world, "ci-github")) > before, "the refusal is recorded")
    assert len(refusals(world, "ci-github")) == before + 1
    assert "the end of a job is not taken" in refusals(world, "ci-github")[-1]["reason"]


def test_a_burst_of_bad_deliveries_is_recorded_once_and_hides_no_good_one(own_shop):
    with Issuer() as issuer:
        own_shop.gateway.apply(workload("ci", "github", issuer, "{repository: shop/reports}"),
                               env={"WEBHOOK_SECRET": SECRET})
        world = types.SimpleNamespace(gateway=own_shop.gateway,
                                      service=TokenService(own_shop.gateway))
        event = completed_run(number())
        for name in ("ci", "nobody-here"):
            answers = [deliver(world, name, event, hub(b"{}")) for _ in range(60)]
            assert [status for status, _ in answers] == [401] * 20 + [429] * 40, name
            assert answers[-1][1]["error"]["code"] == "limit_reached"
        # One each, and one for all the others; of a name that nobody has, none.
        recorded = refusals(world, "ci")
        assert len(recorded) == 21
        assert "127.0.0.1 sends too many" in recorded[-1]["reason"]
        assert refusals(world, "nobody-here") == []
        # From the same address, meanwhile.
        assert deliver(world, "ci", event, hub) == (204, None)
        assert deliver(world, "ci", event, hub(b"{}"))[0] == 429


def test_a_webhook_ends_jobs_of_its_own_workload_only(world):
    run_id, job = number(), number()
    run = github_job(world, run_id, job=job, repository="shop/second")
    event = completed_job(run_id, job)
    assert deliver(world, "ci-github", event, hub) == (204, None)
    assert deliver(world, "ci-second", event, hub)[0] == 401
    assert end_of(world, run) is None
    assert deliver(world, "ci-second", event, lambda body: hub(body, OTHER_SECRET)) == (204, None)
    assert end_of(world, run) == "job_ended"


@pytest.mark.parametrize("name", ["nobody", "nightly-report", "ada@example.com", "%00"])
def test_who_has_no_webhook_is_answered_as_a_bad_signature_is(world, name):
    event = completed_run(number())
    status, answer = deliver(world, name, event, hub)
    assert (status, answer) == deliver(world, "ci-github", event, {})
    assert status == 401


@pytest.mark.parametrize("sign", [{"X-Gitlab-Token": SECRET}, standard], ids=["token", "signed"])
def test_gitlab_ends_a_job_by_its_id(world, sign):
    jobs = [number() for _ in range(3)]
    runs = [start(world, world.gitlab, "ci-gitlab", project_path="shop/reports", job_id=str(job),
                  user_login="ada", user_email="ada@example.com", pipeline_source="push",
                  sub="project_path:shop/reports") for job in jobs]
    job_event = {"object_kind": "build", "build_id": jobs[0], "build_status": "running"}
    assert deliver(world, "ci-gitlab", job_event, sign) == (204, None)
    assert end_of(world, runs[0]) is None
    assert deliver(world, "ci-gitlab", job_event | {"build_status": "canceled"}, sign)[0] == 204
    assert [end_of(world, run) for run in runs] == ["job_ended", None, None]
    builds = [{"id": jobs[1], "status": "failed"}, {"id": jobs[2], "status": "running"}]
    pipeline = {"object_kind": "pipeline", "object_attributes": {"status": "failed"},
                "builds": builds}
    assert deliver(world, "ci-gitlab", pipeline, sign) == (204, None)
    assert [end_of(world, run) for run in runs] == ["job_ended", "job_ended", None]


def test_anything_else_names_claims_of_the_token(world):
    mine, theirs = (start(world, world.other, "ci-other", department="shop", sub=uuid.uuid4().hex)
                    for _ in range(2))
    sub = shown(world, mine)["job"]["claims"]["sub"]
    event = {"type": "job.ended", "data": {"claims": {"sub": sub, "department": "shop"}}}
    wrong = {"type": "job.ended", "data": {"claims": {"sub": sub, "department": "bank"}}}
    assert deliver(world, "ci-other", wrong, standard) == (204, None)
    assert end_of(world, mine) is None
    assert deliver(world, "ci-other", event, standard) == (204, None)
    assert (end_of(world, mine), end_of(world, theirs)) == ("job_ended", None)


def test_a_signed_event_that_names_no_job_is_refused(world):
    for event in (b"payload=%7B%7D", {"action": "completed", "workflow_job": {"id": 1}},
                  {"type": "job.ended", "data": {"claims": {}}}, {"object_kind": "pipeline"}):
        status, answer = deliver(world, "ci-github", event, hub)
        assert status == 422, (event, answer)
    status, answer = deliver(world, "ci-github", b" " * (BODY_BYTES_MAX + 1), hub)
    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert deliver(world, "ci-github", {"zen": "Keep it logically awesome."}, hub) == (204, None)


def test_a_webhook_of_a_foreign_issuer_or_with_a_short_secret_is_not_applied(world):
    good = workload("ci-new", "github", world.github, "{repository: shop/new}")
    short = world.gateway.apply(good, env={"WEBHOOK_SECRET": "short"}, expect=None)
    assert short.returncode != 0 and "shorter than 16 bytes" in short.stderr
    foreign = good.replace("webhook: {", "webhook: {issuer: 'https://foreign.example', ")
    refused = world.gateway.apply(foreign, env={"WEBHOOK_SECRET": SECRET}, expect=None)
    assert refused.returncode != 0 and "whose tokens start nothing here" in refused.stderr


def test_the_secret_is_never_shown_and_outlives_a_restart(own_shop):
    with Issuer() as issuer:
        own_shop.gateway.apply(workload("ci", "github", issuer, "{repository: shop/reports}"),
                               env={"WEBHOOK_SECRET": SECRET})
        own_shop.gateway.stop()
        own_shop.gateway.start()
        world = types.SimpleNamespace(gateway=own_shop.gateway,
                                      service=TokenService(own_shop.gateway))
        run_id, job = number(), number()
        run = start(world, issuer, "ci", repository="shop/reports", run_id=str(run_id),
                    run_attempt="1", check_run_id=str(job), event_name="push", actor="ada",
                    actor_id="1001", sub="repo:shop/reports")
        assert deliver(world, "ci", completed_job(run_id, job), hub) == (204, None)
        assert end_of(world, run) == "job_ended"
        stored = own_shop.gateway.json("get", "workload", "ci")
        assert SECRET not in json.dumps(stored)
        files = [path for path in own_shop.gateway.data.rglob("*") if path.is_file()]
        assert files and not [path for path in files if SECRET.encode() in path.read_bytes()]
