"""Wait for a condition, with a deadline."""

import time
from collections.abc import Callable

DEADLINE_SECONDS = 60.0
PROGRAM_SECONDS = 300.0
"""For a program that should end by itself: only one that hangs takes as long, however busy the machine."""


def eventually(condition: Callable[[], bool]) -> None:
    """Return once ``condition()`` is true; fail the test if that takes longer than DEADLINE_SECONDS."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {DEADLINE_SECONDS} s"
