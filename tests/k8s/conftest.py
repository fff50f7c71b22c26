"""What the tests with a real cluster share: one cluster, and the two ways to it."""

import pytest

from cases_http import QUIET, QUIET_OBJECTS
from harness import cluster_parts as parts
from harness.cluster import Cluster
from corral_side import ClusterGateway
from known import KNOWN, KNOWN_WITH_OLDEST
from sides import Side

pytest_plugins = ["harness.deadlines"]


def pytest_addoption(parser):
    parser.addoption("--again", action="store_true",
                     help="compare the direct way with itself: what differs is the tests' fault")


@pytest.fixture(scope="session")
def cluster():
    with Cluster() as running:
        running.kubectl("create", "namespace", QUIET)
        running.apply(QUIET_OBJECTS, "-n", QUIET)
        yield running


def direct_side(cluster, name):
    token = cluster.tokens["admin"]
    return Side(name, cluster, cluster.server, cluster.ca_file, {"token": token}, token)


@pytest.fixture(scope="session")
def direct(cluster):
    return direct_side(cluster, "direct")


@pytest.fixture(scope="session")
def corral(cluster):
    with ClusterGateway(cluster) as running:
        yield running


@pytest.fixture(scope="session")
def other(request, cluster):
    """What is compared with the direct way."""
    if request.config.getoption("--again"):
        return direct_side(cluster, "second")
    return request.getfixturevalue("corral").side("corral", "cluster")


@pytest.fixture(scope="session")
def known(request):
    """The known differences, by the list's name."""
    if request.config.getoption("--again"):
        return {}
    return KNOWN if parts.chosen() == parts.NEWEST else KNOWN | KNOWN_WITH_OLDEST
