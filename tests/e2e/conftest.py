"""What all end-to-end tests share: one database server, one shop for each file, and deadlines."""

import pytest

from harness.gateway import binary
from harness.postgres import RealPostgres
from harness.shop import Shop

pytest_plugins = ["harness.deadlines"]

LOG_LINES = 15


def pytest_sessionstart(session):
    if not binary().exists():
        pytest.exit(f"{binary()} is not built; run make build", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the gateway said last stands beside a failure."""
    report = yield
    if report.failed:
        for name in ("own_shop", "shop"):
            open_shop = item.funcargs.get(name) if hasattr(item, "funcargs") else None
            if open_shop:
                log = "\n".join(open_shop.gateway.log().splitlines()[-LOG_LINES:])
                report.sections.append((f"log of {name}'s gateway", log))
    return report


@pytest.fixture(scope="session")
def server():
    with RealPostgres() as running:
        yield running


@pytest.fixture(scope="module")
def shop(server):
    with Shop(server) as open_shop:
        yield open_shop


@pytest.fixture
def own_shop(server):
    """For tests that kill, disable or fill something."""
    with Shop(server) as open_shop:
        yield open_shop


@pytest.fixture
def token(shop):
    return shop.run()["token"]
