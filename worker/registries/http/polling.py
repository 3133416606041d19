"""Asks again and again until a deadline, at ever longer intervals: the same for everything that takes its time."""

import time
from collections.abc import Iterator

FIRST_POLL, LONGEST_POLL = 0.05, 2.0  # seconds between two looks at what goes on, doubled each time


def polls(deadline: float) -> Iterator[bool]:
    """Waits before each look, at least one: whether it is the last, as `time.monotonic()` has reached `deadline`."""
    wait, last = FIRST_POLL, False
    while not last:
        time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
        last = time.monotonic() >= deadline
        yield last
        wait = min(wait * 2, LONGEST_POLL)
