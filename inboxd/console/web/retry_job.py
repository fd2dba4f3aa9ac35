"""Moving many failed files back in a thread of the server: it goes on when the browser is closed, and its progress is kept."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

from inboxd.config.settings import Settings
from inboxd.console.requeue import RequeueResult, requeue_paths
from inboxd.console.web.failed_index import FailedIndex
from inboxd.console.web.failure import Failure
from inboxd.errors import InboxdError
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape

CHUNK_FILES = 100
"""Files between two looks at whether the server stops."""
PROBLEMS_MAX = 20
"""Files that were not moved and that the page lists."""

_log = get_logger(__name__)


@dataclass(slots=True)
class RetryJob:
    """One retry of many files: how many there are, were moved and were not, the first of these, and how it ended.

    ``error`` is why it ended early; ``ended_at`` is None while it runs. Times are Unix seconds.
    """

    description: str
    total: int
    began_at: float
    moved: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)
    error: str = ""
    ended_at: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether files are still being moved."""
        return self.ended_at is None

    def count(self, result: RequeueResult) -> None:
        """Count one result."""
        if result.new_path is not None:
            self.moved += 1
            return
        self.kept += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(escape(f"{result.inbox}: ") + escape(result.failure.path) + f": {escape(result.problem)}")


class RetryJobs:
    """Runs one job at a time, and keeps the last one. Thread-safe."""

    def __init__(self, settings: Settings, index: FailedIndex) -> None:
        self.last: RetryJob | None = None
        self._settings = settings
        self._index = index
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, files: Sequence[Failure], description: str, user: str) -> bool:
        """Start moving files back; return False if another job is running."""
        with self._lock:
            if self.last and self.last.is_running:
                return False
            self.last = RetryJob(description, len(files), time.time())
            self._thread = threading.Thread(target=self._run, args=(self.last, files, user), name="retry", daemon=True)
            self._thread.start()
            return True

    def stop(self) -> None:
        """End a running job after the files that it is moving."""
        self._stopped.set()
        if self._thread:
            self._thread.join()

    def _run(self, job: RetryJob, files: Sequence[Failure], user: str) -> None:
        try:
            for inbox, failures in groupby(sorted(files, key=lambda failure: failure.inbox), lambda failure: failure.inbox):
                while (chunk := list(islice(failures, CHUNK_FILES))) and not self._stopped.is_set():
                    self._move(job, inbox, chunk)
            if self._stopped.is_set() and job.moved + job.kept < job.total:
                job.error = "the server was stopped; the other files are still in failed/"
        except (InboxdError, OSError) as error:
            job.error = escape(str(error))
        finally:
            job.ended_at = time.time()
            _log.info(events.WEB_RETRY, user=user, files=job.total, moved=job.moved, kept=job.kept, error=job.error or None)

    def _move(self, job: RetryJob, inbox: str, chunk: Sequence[Failure]) -> None:
        kept = set()
        for result in requeue_paths(self._settings, inbox, [failure.path for failure in chunk]):
            job.count(result)
            if result.new_path is None:
                kept.add(result.failure.path)
        self._index.forget(failure for failure in chunk if failure.path not in kept)
