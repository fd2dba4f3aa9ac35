"""Waiting for a condition, with a deadline."""

import time
from collections.abc import Callable

DEADLINE_SECONDS = 10.0


def eventually(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail the test when it does not in time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
