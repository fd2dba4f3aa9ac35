"""An index in memory of all failed files and their reasons, kept up to date by a thread that works a fraction of the time."""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.console.web.failure import Failure, FailureFilter, Failures, collect, select
from inboxd.console.web.folder_scan import FolderReader, FolderScan
from inboxd.errors import FolderUnavailable
from inboxd.fs.folders import opened_path
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.spool.layout import open_folders

FILES_MAX = 300_000
"""Maximum failed files in the index, some 1.5 KB each; the page says if there are more."""
WORK_SECONDS, REST_FACTOR = 0.004, 4.0
"""After this time of work the thread rests for so many times as long: a request waits for the interpreter for 4 ms at most."""
INTERVAL_SECONDS, INTERVAL_FACTOR = 1.0, 10.0
"""Minimum pause between two passes, in seconds, and as a multiple of a pass's own CPU time."""
PARTIAL_SECONDS = 2.0
"""Interval at which the first pass publishes what it has read so far."""

_log = get_logger(__name__)


class FailedIndex:
    """Failed files of all inboxes. ``start`` begins the thread; until ``latest.is_complete`` the first pass is reading."""

    def __init__(self, settings: Settings, disk: Disk | None = None, rest: Callable[[float], object] | None = None) -> None:
        """``rest`` waits for some seconds."""
        self.latest = Failures()
        self._settings = settings
        self._disk = disk or Disk()
        self._scans: dict[tuple[str, bytes], FolderScan] = {}
        self._gone: frozenset[tuple[str, bytes, tuple[int, int]]] = frozenset()
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._rest = rest or self._stopped.wait
        self._worked_since = self._published_at = 0.0
        self._total = 0
        self._problems: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="failed-index", daemon=True)
        self.select = lru_cache(maxsize=8)(self._select)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait for its end."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def matching(self, wanted: FailureFilter) -> list[Failure]:
        """Return the failed files that a filter selects, the latest first, without those that were moved back meanwhile."""
        found = self.select(self.latest, self._gone, replace(wanted, until=None))
        return found if wanted.until is None else found[bisect_left(found, -wanted.until, key=lambda f: -f.failed_at) :]

    def forget(self, files: Iterable[Failure]) -> None:
        """Leave out files that were moved back, at once; the next pass finds them missing."""
        self._gone |= {(failure.inbox, failure.path, failure.identity) for failure in files}
        self._wake.set()

    @staticmethod
    def _select(latest: Failures, gone: frozenset[tuple[str, bytes, tuple[int, int]]], wanted: FailureFilter) -> list[Failure]:
        found = latest.files if wanted.is_all else select(latest.files, wanted)
        return [f for f in found if (f.inbox, f.path, f.identity) not in gone] if gone else list(found)

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = time.thread_time()
            try:
                self.read_all()
            except Exception as error:  # noqa: BLE001 - the page goes on with what is known
                _log.warning(events.WEB_UNAVAILABLE, error=repr(error), remedy="none needed if the next pass succeeds")
            self._wake.wait(max(INTERVAL_SECONDS, INTERVAL_FACTOR * (time.thread_time() - began)))
            self._wake.clear()

    def read_all(self) -> None:
        """Read what has changed since the last pass, and publish it."""
        gone = self._gone
        scans: dict[tuple[str, bytes], FolderScan] = {}
        reasons: dict[str, str] = {}
        self._problems, self._total, self._worked_since = {}, 0, time.monotonic()
        for inbox in self._settings.inbox.values():
            reader = FolderReader(self._disk, inbox.name, self._pause, lambda reason: reasons.setdefault(reason, reason))
            try:
                for prefix, scan in self._scan_inbox(inbox, reader):
                    scans[inbox.name, prefix] = scan
                    if not self.latest.is_complete and time.monotonic() - self._published_at > PARTIAL_SECONDS:
                        self._publish(scans, is_complete=False)
            except (FolderUnavailable, OSError) as error:
                self._problems[inbox.name] = str(error)
        has_changed = scans.keys() != self._scans.keys() or any(self._scans.get(key) is not scan for key, scan in scans.items())
        self._scans = scans
        if has_changed or not self.latest.is_complete or self._problems != self.latest.problems:
            self._publish(scans, is_complete=True)
        self._gone -= gone

    def _scan_inbox(self, inbox: Inbox, reader: FolderReader) -> Iterator[tuple[bytes, FolderScan]]:
        """Yield each folder of an inbox's failed/, as its path with a slash at its end, and what it contains."""
        with open_folders(self._disk, inbox.root) as folders:
            pending = [b""]
            while pending and self._total < FILES_MAX and not self._stopped.is_set():
                prefix = pending.pop()
                try:
                    with opened_path(self._disk, folders.failed, tuple(prefix.split(b"/")[:-1])) as at:
                        scan = reader.scan(at, prefix, self._scans.get((inbox.name, prefix)))
                except OSError:
                    if not prefix:
                        raise
                    continue  # removed meanwhile, or not permitted
                self._total += len(scan.failures)
                pending += [prefix + name + b"/" for name in scan.sub_folders]
                yield prefix, scan

    def _publish(self, scans: dict[tuple[str, bytes], FolderScan], *, is_complete: bool) -> None:
        files = (failure for scan in scans.values() for failure in scan.failures.values())
        is_truncated = self._total >= FILES_MAX
        version = self.latest.version + 1
        self.latest = collect(files, version, self._problems, is_complete=is_complete, is_truncated=is_truncated)
        self._published_at = time.monotonic()

    def _pause(self) -> None:
        worked = time.monotonic() - self._worked_since
        if worked > WORK_SECONDS:
            self._rest(min(worked, 0.1) * REST_FACTOR)
            self._worked_since = time.monotonic()
