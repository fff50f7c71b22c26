"""What all end-to-end tests share: one database server, one shop for each file, and deadlines."""

import signal

import pytest

from harness.gateway import binary
from harness.postgres import RealPostgres
from harness.shop import Shop

DEADLINE_S = 60
LOG_LINES = 15


class TookTooLong(BaseException):
    """A test that hangs fails by itself instead of holding up the others."""


def pytest_sessionstart(session):
    if not binary().exists():
        pytest.exit(f"{binary()} is not built; run make build", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    marker = item.get_closest_marker("deadline")
    seconds = marker.args[0] if marker else DEADLINE_S

    def give_up(_signal, _frame):
        raise TookTooLong(f"{item.nodeid} took more than {seconds} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        return (yield)
    except TookTooLong as error:
        raise AssertionError(str(error)) from error
    finally:
        signal.alarm(0)


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
