"""Directly and through Corral the same answer, but for what is listed here with its reason."""

import pytest

import cases
import cases_clients  # noqa: F401  (its cases enter the table)
import cases_http

# Case: why its transcripts differ. One that does not differ any more fails.
KNOWN_CASES = {}
KNOWN_REQUESTS = {}


def judge(known, name, direct, other):
    if name in known:
        assert direct != other, f"{name} no longer differs: take it off the list"
    else:
        assert other == direct


@pytest.mark.deadline(150)
@pytest.mark.parametrize("name", cases.CASES)
def test_clients_see_no_difference(name, direct, other, known_cases):
    transcripts = []
    for side in (direct, other):
        side.enter_namespace()
        transcripts.append(cases.CASES[name](side))
    judge(known_cases, name, *transcripts)


@pytest.mark.parametrize("name", cases_http.REQUESTS)
def test_bare_requests_see_no_difference(name, direct, other, known_requests):
    judge(known_requests, name, cases_http.ask(direct, name), cases_http.ask(other, name))
