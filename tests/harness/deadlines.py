"""A pytest plugin: a test that hangs fails by itself instead of holding up the others."""

import signal

import pytest

DEADLINE_S = 60


class TookTooLong(BaseException):
    """Not an Exception: what a test catches must not hold it up."""


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
