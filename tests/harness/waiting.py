"""Waiting for something to become true, with a deadline and never with a bare sleep."""

import time

POLL_INTERVAL_S = 0.02


class DeadlinePassed(AssertionError):
    """What was waited for did not happen in time."""


def wait_until(condition, what, deadline_s=10.0):
    """Gives the first true value of `condition()`; fails with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise DeadlinePassed(f"after {deadline_s:.0f} s still not: {what}")
        time.sleep(POLL_INTERVAL_S)
