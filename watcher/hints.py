"""Hints: requests from observer threads and signal handlers to the daemon's loop."""

import queue
from dataclasses import dataclass
from enum import StrEnum


class HintKind(StrEnum):
    """What the loop must react to."""

    ARRIVED = "arrived"  # an entry was written, moved or created in inbox/
    PARCEL_REMOVED = "returned"  # a parcel was removed from claimed/: another may be sent
    OVERFLOWED = "overflowed"  # the kernel dropped events
    ROOT_LOST = "root_lost"  # a watched folder was moved, deleted or unmounted
    RELOAD = "reload"  # the settings file must be read again
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Hint:
    """A hint; ``inbox`` is "" for RELOAD and STOP."""

    kind: HintKind
    inbox: str = ""


class HintQueue:
    """A queue that threads and signal handlers may put hints into."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Hint] = queue.SimpleQueue()

    def put(self, hint: Hint) -> None:
        """Add a hint. Never blocks, and is safe in a signal handler."""
        self._queue.put(hint)

    def wait(self, seconds: float) -> set[Hint]:
        """Wait at most ``seconds`` for the first hint; return all queued hints without duplicates."""
        hints: set[Hint] = set()
        try:
            hints.add(self._queue.get(timeout=max(seconds, 0.0)) if seconds > 0 else self._queue.get_nowait())
            while True:
                hints.add(self._queue.get_nowait())
        except queue.Empty:
            return hints
