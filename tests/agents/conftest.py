"""What all tests of agent frameworks share: one stage, and the frameworks, one after the other."""

import importlib.util

import pytest

from harness.gateway import binary
from stage import Stage

pytest_plugins = ["harness.deadlines"]

LOG_LINES = 15
# The example's name, and the module without which it cannot run.
FRAMEWORKS = {"langgraph": "langgraph", "openai_agents": "agents", "pydantic_ai": "pydantic_ai"}


def pytest_sessionstart(session):
    if not binary().exists():
        pytest.exit(f"{binary()} is not built; run make build", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the gateway said last stands beside a failure."""
    report = yield
    stage = getattr(item, "funcargs", {}).get("stage")
    if report.failed and stage:
        log = "\n".join(stage.gateway.log().splitlines()[-LOG_LINES:])
        report.sections.append(("log of the gateway", log))
    return report


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request):
    if importlib.util.find_spec(FRAMEWORKS[request.param]) is None:
        pytest.skip(f"{request.param} is not installed; make test-agents installs it")
    return request.param


@pytest.fixture(scope="session")
def stage():
    with Stage() as running:
        yield running
