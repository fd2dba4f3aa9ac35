"""Count the files in inbox/ and claimed/ of all inboxes while a burst is shown, in a thread: a mount may hang."""

import threading
import time
from dataclasses import dataclass

from inboxd.config.settings import Settings
from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.monitoring.file_counts import count_active

INTERVAL_SECONDS = 1.0
PAUSE_FACTOR = 20
"""Counting takes at most a twentieth of the time."""


@dataclass(frozen=True, slots=True)
class FilesLeft:
    """Numbers of files in all inbox/ and claimed/ folders."""

    waiting: int = 0
    in_flight: int = 0


class WaitingFiles:
    """The last counts; ``counts`` starts a new count in the background if one is due."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last = FilesLeft()
        self._due_at = float("-inf")
        self._thread: threading.Thread | None = None

    def counts(self) -> FilesLeft:
        """Return the last counts; all are zero before the first one."""
        is_counting = self._thread is not None and self._thread.is_alive()
        if not is_counting and time.monotonic() >= self._due_at:
            self._thread = threading.Thread(target=self._count, name="count-files", daemon=True)
            self._thread.start()
        return self._last

    def _count(self) -> None:
        began_at = time.monotonic()
        waiting = in_flight = 0
        for inbox in self._settings.inbox.values():
            try:
                counts = count_active(Disk(), inbox)
            except (FolderUnavailable, OSError):
                continue
            waiting, in_flight = waiting + counts.waiting, in_flight + counts.in_flight
        self._last = FilesLeft(waiting, in_flight)
        now = time.monotonic()
        self._due_at = max(began_at + INTERVAL_SECONDS, now + PAUSE_FACTOR * (now - began_at))
