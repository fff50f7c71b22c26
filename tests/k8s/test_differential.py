"""Directly and through Corral the same answer, but for what is listed in known.py with its reason."""

import pytest

import cases
import cases_clients  # noqa: F401  (its cases enter the table)
import cases_http


def judge(known, name, direct, other):
    if name in known:
        assert direct != other, f"{name} no longer differs: take it off the list"
    else:
        assert other == direct


@pytest.mark.deadline(150)
@pytest.mark.parametrize("name", cases.CASES)
def test_clients_see_no_difference(name, direct, other, known):
    for side in (direct, other):
        side.enter_namespace()
    expected = cases.CASES[name](direct)
    try:
        told = cases.CASES[name](other)
    except Exception as error:  # A listed case may find nothing to go on with.
        if name not in known:
            raise
        told = error
    judge(known, name, expected, told)


@pytest.mark.parametrize("name", cases_http.REQUESTS)
def test_bare_requests_see_no_difference(name, direct, other, known):
    judge(known, name, cases_http.ask(direct, name), cases_http.ask(other, name))
