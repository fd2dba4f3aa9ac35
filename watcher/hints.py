"""Hints: somebody should look again at an inbox. Put by observer threads and signal handlers, taken by the daemon's loop."""

import queue
from dataclasses import dataclass
from enum import StrEnum


class HintKind(StrEnum):
    """Why to look again."""

    ARRIVED = "arrived"  # something was closed, moved or made in inbox/
    PARCEL_RETURNED = "returned"  # a parcel left claimed/: there is room for another
    OVERFLOWED = "overflowed"  # the kernel has dropped events
    ROOT_LOST = "root_lost"  # the watched folder was moved, deleted or unmounted
    RELOAD = "reload"  # the settings file is to be read again
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Hint:
    """A hint about one inbox; "" where it is about all of them."""

    kind: HintKind
    inbox: str = ""


class HintQueue:
    """A queue that any thread, and any signal handler, may put into."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Hint] = queue.SimpleQueue()

    def put(self, hint: Hint) -> None:
        """Add a hint; never blocks, and is safe inside a signal handler."""
        self._queue.put(hint)

    def wait(self, seconds: float) -> set[Hint]:
        """Wait for the first hint, at most so long, and return all there are, once each."""
        hints: set[Hint] = set()
        try:
            hints.add(self._queue.get(timeout=max(seconds, 0.0)) if seconds > 0 else self._queue.get_nowait())
            while True:
                hints.add(self._queue.get_nowait())
        except queue.Empty:
            return hints
