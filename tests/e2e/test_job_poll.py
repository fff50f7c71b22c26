"""The API of a CI system is asked whether jobs still go on: a run ends with its job, and with
nothing else that the API says or fails to say."""

import json
import subprocess
import types
import uuid

import pytest

from harness.ci_api import TOKEN, CiApi
from harness.issuer import AUDIENCE, Issuer
from harness.token_service import TokenService
from harness.waiting import wait_until

INTERVAL_S = 1
GITHUB = {"repository": "shop/reports", "event_name": "push", "actor": "ada", "actor_id": "1001",
          "sub": "repo:shop/reports:ref:refs/heads/main", "run_attempt": "1"}


def workload(issuer, api, platform="github", name="ci-polled",
             matched="{repository: shop/reports}"):
    return f"""
kind: Workload
name: {name}
sponsor: ada@example.com
groups: [agents]
trust: [{{platform: {platform}, issuer: '{issuer.url}', audience: {AUDIENCE}, match: {matched}}}]
poll: {{api: '{api.url}', every: {INTERVAL_S}s, token: {{env: API_TOKEN}}}}
"""


class World:
    """A workload whose jobs a stand-in API knows."""

    def __init__(self, shop, issuer, api):
        self.shop, self.gateway, self.issuer, self.api = shop, shop.gateway, issuer, api
        self.service = TokenService(shop.gateway)
        self.apply()

    def apply(self, **more):
        self.gateway.apply(workload(self.issuer, self.api, **more), env={"API_TOKEN": TOKEN})

    def start(self, **claims):
        status, answer = self.service.exchange(self.issuer.token(**claims))
        assert status == 200, answer
        [detail] = answer["authorization_details"]
        return types.SimpleNamespace(id=detail["run_id"], token=answer["access_token"])

    def github_job(self, **answer):
        """A job that goes on, and its run; None as `status`: the API does not know it."""
        run_id, job = number(), number()
        path = f"/repos/shop/reports/actions/jobs/{job}"
        self.api.jobs[path] = {"id": job, "run_id": run_id, "run_attempt": 1,
                               "status": "in_progress", "conclusion": None} | answer
        run = self.start(**GITHUB, run_id=str(run_id), check_run_id=str(job))
        run.path = path
        return run

    def known(self, run):
        """Waits until the API has told of a run's job."""
        wait_until(lambda: [1 for _, _, status in self.api.asked(run.path) if status == 200],
                   "the job is asked after")

    def end_of(self, run):
        shown = self.gateway.json("runs", "show", run.id)
        return shown["end_reason"] if shown["state"] == "ended" else None

    def ends(self, run):
        return [event for event in self.gateway.events("--run", run.id)
                if event["event"] == "run.ended" and event["run"] == run.id]

    def polls(self, name):
        return [event for event in self.gateway.events("--text", "ci-polled")
                if event["event"] == f"poll.{name}"]

    def asked_again(self, run, times=2):
        """Waits until a job was asked after so many times more."""
        before = len(self.api.asked(run.path))
        wait_until(lambda: len(self.api.asked(run.path)) >= before + times, "it is asked again",
                   deadline_s=30)


def number():
    return uuid.uuid4().int % 10 ** 12


@pytest.fixture
def world(shop):
    with Issuer() as issuer, CiApi() as api:
        yield World(shop, issuer, api)
        shop.gateway.run("delete", "Workload", "ci-polled")


@pytest.mark.parametrize("conclusion", ["success", "cancelled"])
def test_a_job_that_is_over_takes_its_run_and_a_live_session_along(world, conclusion):
    run, beside = world.github_job(), world.github_job()
    world.known(run)
    child = world.gateway.json("runs", "start", "--name", "child", token=run.token)
    psql = subprocess.Popen(
        ["psql", "--no-psqlrc", "-c", "select 'here'", "-c", "select pg_sleep(60)"],
        env=world.gateway.psql_env(child["token"], "plain-db"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "?column?" in psql.stdout.readline()
        assert world.end_of(run) is None
        world.api.jobs[run.path] |= {"status": "completed", "conclusion": conclusion}
        _, errors = psql.communicate(timeout=INTERVAL_S + 5)
        assert psql.returncode != 0
        assert "the job of this session's run has ended" in errors
    finally:
        psql.kill()
        psql.communicate()
    assert world.end_of(run) == "job_ended"
    world.asked_again(beside)
    assert world.end_of(beside) is None
    [end] = world.ends(run)
    assert (end["reason"], end["by"]) == ("job_ended", "poll ci-polled")
    assert world.polls("failed") == []


def test_a_job_that_an_api_no_longer_knows_ends_after_the_second_answer(world):
    run = world.github_job()
    world.known(run)
    del world.api.jobs[run.path]
    wait_until(lambda: world.end_of(run) == "job_ended", "the run ends")
    assert [status for _, _, status in world.api.asked(run.path)].count(404) == 2


def test_a_job_that_an_api_never_knew_goes_on(world):
    run = world.github_job()
    del world.api.jobs[run.path]
    world.asked_again(run, times=3)
    assert world.end_of(run) is None
    [failed] = world.polls("failed")
    assert failed["workload"] == "ci-polled" and "what its token may read" in failed["reason"]


FAILURES = {
    "hangs": ("hangs", "no whole answer within"),
    "huge": ("huge", "larger than"),
    "garbage": ("garbage", "no JSON object"),
    "redirects": ("redirects", "answered 302"),
    "500": (500, "answered 500"),
    "401": (401, "answered 401"),
    "403": (403, "answered 403"),
    "429": (429, "answered 429"),
    "304 that nobody asked for": (304, "answered 304"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_an_api_that_fails_ends_nothing_and_is_recorded_once(world, how):
    behaviour, why = FAILURES[how]
    before = len(world.polls("failed")), len(world.polls("recovered"))
    run = world.github_job()
    world.known(run)
    world.api.behaviour = behaviour
    wait_until(lambda: len(world.polls("failed")) > before[0], "the failure is recorded",
               deadline_s=20)
    assert why in world.polls("failed")[-1]["reason"]
    assert TOKEN not in world.polls("failed")[-1]["reason"]
    if behaviour != "hangs":
        world.asked_again(run, times=1)
    assert len(world.polls("failed")) == before[0] + 1
    assert not [path for _, path, _ in world.api.asked() if path == "/elsewhere"]
    assert world.end_of(run) is None
    world.api.behaviour = None
    wait_until(lambda: len(world.polls("recovered")) > before[1], "the recovery is recorded",
               deadline_s=30)
    assert len(world.polls("failed")) == before[0] + 1
    assert len(world.polls("recovered")) == before[1] + 1
    world.api.jobs[run.path]["status"] = "completed"
    wait_until(lambda: world.end_of(run) == "job_ended", "the run ends")


def test_an_api_that_asks_to_be_left_alone_is(world):
    run = world.github_job()
    world.known(run)
    world.api.headers = {"Retry-After": "6"}
    world.api.behaviour = 429
    wait_until(lambda: [1 for _, _, status in world.api.asked(run.path) if status == 429], "429")
    world.api.behaviour = None
    refused_at = [at for at, _, status in world.api.asked(run.path) if status == 429][0]
    after = wait_until(lambda: [at for at, _, _ in world.api.asked(run.path) if at > refused_at],
                       "it is asked again", deadline_s=20)
    assert after[0] - refused_at >= 6


@pytest.mark.parametrize("lie", [
    {"id": 1}, {"run_id": 1}, {"run_attempt": 2}, {"status": "no such state"}, {"status": None}])
def test_an_answer_about_another_job_ends_nothing(world, lie):
    before = len(world.polls("failed"))
    run = world.github_job()
    world.known(run)
    world.api.jobs[run.path] |= {"status": "completed"} | lie
    wait_until(lambda: len(world.polls("failed")) > before, "the lie is recorded")
    world.asked_again(run)
    assert world.end_of(run) is None
    assert "does not count" in world.polls("failed")[-1]["reason"]


def test_what_did_not_change_is_not_sent_again(world):
    world.api.with_etags = True
    run = world.github_job()
    wait_until(lambda: [1 for _, _, status in world.api.asked(run.path) if status == 304], "304")
    assert world.end_of(run) is None
    world.api.jobs[run.path]["status"] = "completed"
    wait_until(lambda: world.end_of(run) == "job_ended", "the run ends")


def test_an_api_that_hangs_delays_no_other(world):
    run = world.github_job()
    world.known(run)
    with Issuer() as issuer, CiApi() as api:
        name = "ci-polled-gitlab"
        manifest = workload(issuer, api, "gitlab", name, "{project_path: shop/reports}")
        world.gateway.apply(manifest, env={"API_TOKEN": TOKEN})
        try:
            job = number()
            path = f"/projects/7/jobs/{job}"
            api.jobs[path] = {"id": job, "status": "running", "pipeline": {"project_id": 7}}
            status, answer = world.service.exchange(issuer.token(
                project_path="shop/reports", project_id="7", job_id=str(job), user_login="ada",
                user_email="ada@example.com", pipeline_source="push", sub="x"))
            assert status == 200, answer
            other = types.SimpleNamespace(id=answer["authorization_details"][0]["run_id"])
            wait_until(lambda: api.asked(path), "it is asked after")
            world.api.behaviour = "hangs"
            wait_until(lambda: [1 for _, _, status in world.api.asked() if status is None], "hangs")
            api.jobs[path]["status"] = "canceled"
            wait_until(lambda: world.end_of(other) == "job_ended", "it ends", deadline_s=5)
        finally:
            world.gateway.run("delete", "Workload", name)


def test_a_restart_goes_on_asking_and_the_token_stays_sealed(own_shop):
    with Issuer() as issuer, CiApi() as api:
        world = World(own_shop, issuer, api)
        run = world.github_job()
        world.known(run)
        own_shop.gateway.stop()
        world.api.jobs[run.path]["status"] = "completed"
        own_shop.gateway.start()
        wait_until(lambda: world.end_of(run) == "job_ended", "the run ends")
        assert len(world.ends(run)) == 1
        asked = len(api.asked(run.path))
        other = world.github_job()
        world.asked_again(other)
        assert len(api.asked(run.path)) == asked, "a run that ended is asked after no more"
        assert TOKEN not in json.dumps(own_shop.gateway.json("get", "workload", "ci-polled"))
        files = [path for path in own_shop.gateway.data.rglob("*") if path.is_file()]
        assert files and not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_token_is_not_shown_to_another_api_than_it_was_given_for(world):
    manifest = workload(world.issuer, world.api).replace(", token: {env: API_TOKEN}", "")
    world.gateway.apply(manifest)
    with CiApi() as other:
        moved = world.gateway.apply(manifest.replace(world.api.url, other.url), expect=None)
        assert moved.returncode != 0 and "poll.token must be given again" in moved.stderr
        for wrong, why in [("http://ci.example.com", "poll.api"), ("", "poll.api")]:
            refused = world.gateway.apply(manifest.replace(world.api.url, wrong), expect=None)
            assert refused.returncode != 0 and why in refused.stderr
        assert other.asked() == []
