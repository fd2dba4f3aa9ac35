"""Gathering what is ready: one unfinished scan of an inbox, and the files that it has found complete."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.config.settings import Inbox
from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import Candidate
from inboxd.intake.clock import scan_time
from inboxd.intake.inspection import file_version
from inboxd.intake.pruning import innermost_first, prune_folders
from inboxd.intake.readiness import Ready, Refuse, Wait, WaitTimes
from inboxd.intake.scan import DeniedEntry, ScannedEntry, ScannedFolder, scan
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.spool.layout import Folders

ENTRIES_PER_TURN = 5000
"""An inbox gives way to the others after so many entries."""

PRUNED_PER_TURN = 500
"""… and after so many sub-folders that may have to be removed."""

FOLDERS_MAX = 100_000
"""So many sub-folders are remembered during one scan, to be tidied after it."""

DENIED_SECONDS = 60.0
"""A file that the system keeps from us is left alone for so long."""

DENIED_MAX = 10_000


@dataclass(slots=True)
class ScanResult:
    """What one look did.

    ``more`` of the scan is left; ``sub_folders`` tells, at its end, that the inbox has some; ``due_in`` is the seconds until
    the next file that is not complete yet will be, None if there is none; ``again_in`` until one of which that is not known is
    worth another look. ``cost`` is the seconds that it took to look at what stays in the inbox: the next scan has to look at
    it again.
    """

    has_more: bool = False
    has_folders: bool = False
    ready_in: float | None = None
    recheck_in: float | None = None
    rescan_seconds: float = 0.0


class ReadyFiles:
    """One inbox's scan and its finds: ``small`` and ``large`` files that are ready, and what is ``refused``, and why."""

    def __init__(self, disk: Disk, inbox: Inbox, patience: WaitTimes, *, network: bool) -> None:
        """``network`` says that the folders are on another machine, whose clock the files' times are by."""
        self.small: dict[bytes, Candidate] = {}
        self.large: dict[bytes, Candidate] = {}
        self.refused: dict[bytes, str] = {}
        self._disk = disk
        self._inbox = inbox
        self._waits = patience
        self._network = network
        self._log = get_logger(__name__).bind(inbox=inbox.name)
        self._cursor: Iterator[ScannedEntry | ScannedFolder | DeniedEntry] | None = None
        self._sub_folders: list[ScannedFolder] = []
        self._unpruned: list[ScannedFolder] = []
        self._result = ScanResult()
        self._scan_began = self._scan_started = self._scan_seconds = 0.0
        self._entries = self._ready_entries = 0
        self._ready_at: float | None = None
        self._recheck_at: float | None = None
        self._denied: dict[bytes, float] = {}

    @property
    def is_between_scans(self) -> bool:
        """Whether the next look begins a new scan: what arrives before it will be seen."""
        return self._cursor is None and not self._unpruned

    @property
    def count(self) -> int:
        """How many files are ready."""
        return len(self.small) + len(self.large)

    def reset(self) -> None:
        """Give up the unfinished scan, as after the folder was away; the next look begins anew."""
        self._cursor = None
        self._sub_folders.clear()
        self._unpruned = []
        for kept in (self.small, self.large, self.refused):
            kept.clear()

    def advance(self, folders: Folders, room: int) -> ScanResult:
        """Look at some entries more, until ``room`` files are ready. Raises OSError if the inbox can't be read."""
        begun = time.monotonic()
        looked = self._advance(folders, room)
        self._scan_seconds += time.monotonic() - begun
        # the folder itself stays: to list it can take long, too
        looked.rescan_seconds = self._scan_seconds * (self._entries - self._ready_entries + 1) / (self._entries + 1)
        return looked

    def set_denied(self, path: bytes, error: OSError) -> None:
        """Leave a file alone for a while, and say so once in that time."""
        if len(self._denied) >= DENIED_MAX:
            self._denied.clear()
        if not self._is_denied(path):
            self._denied[path] = time.monotonic() + DENIED_SECONDS
            remedy = "let inbox/ and its sub-folders belong to the service, or permit its group to write there"
            self._log.warning(events.FILE_DENIED, file=path, error=error.strerror, remedy=remedy)

    def _advance(self, folders: Folders, room: int) -> ScanResult:
        if self._unpruned:
            return self._prune(folders)
        if self._cursor is None:
            self._scan_began = scan_time(self._disk, folders, network=self._network)
            self._scan_started = time.monotonic()
            self._ready_at = self._recheck_at = None
            self._scan_seconds = 0.0
            self._entries = self._ready_entries = 0
            self._cursor = scan(self._disk, folders.inbox, self._inbox, self._waits, self._now)
        for _ in range(ENTRIES_PER_TURN):
            if self.count >= room:
                return ScanResult()
            entry = next(self._cursor, None)
            if entry is None:
                return self._end_scan(folders)
            self._add(entry)
        return ScanResult(has_more=True)

    def _now(self) -> float:
        """Return the time by the clock that the files' times are by."""
        return self._scan_began + time.monotonic() - self._scan_started

    def _seconds_until(self, moment: float | None) -> float | None:
        return None if moment is None else max(moment - self._now(), 0.0)

    def _is_denied(self, path: bytes) -> bool:
        return self._denied.get(path, 0.0) > time.monotonic()

    def _add(self, entry: ScannedEntry | ScannedFolder | DeniedEntry) -> None:
        self._entries += 1
        match entry:
            case ScannedFolder():
                if len(self._sub_folders) < FOLDERS_MAX:
                    self._sub_folders.append(entry)
            case DeniedEntry(path, error):
                self.set_denied(path, error)
            case ScannedEntry() if not self._is_denied(entry.path):
                self._add_entry(entry)

    def _add_entry(self, entry: ScannedEntry) -> None:
        match entry.decision:
            case Ready() if entry.stat:
                kind = self.small if entry.stat.size <= self._inbox.inline_bytes_max else self.large
                kind[entry.path] = Candidate(entry.path, entry.stat.size, file_version(entry.stat))
                self._ready_entries += 1
            case Refuse(why):
                self.refused[entry.path] = why
                self._ready_entries += 1
            case Wait(until, _, is_certain=True):
                self._ready_at = until if self._ready_at is None else min(self._ready_at, until)
            case Wait(until, _):
                self._recheck_at = until if self._recheck_at is None else min(self._recheck_at, until)
            case _:
                pass

    def _end_scan(self, folders: Folders) -> ScanResult:
        self._cursor = None
        self._result = ScanResult(
            has_folders=bool(self._sub_folders),
            ready_in=self._seconds_until(self._ready_at),
            recheck_in=self._seconds_until(self._recheck_at),
        )
        if self._inbox.empty_folders == "remove":
            self._unpruned = innermost_first(self._sub_folders)
        self._sub_folders = []
        return self._prune(folders)

    def _prune(self, folders: Folders) -> ScanResult:
        """Remove some of the sub-folders that are empty; the scan is at its end when all have been tried."""
        some, self._unpruned = self._unpruned[:PRUNED_PER_TURN], self._unpruned[PRUNED_PER_TURN:]
        for path in prune_folders(self._disk, folders, some, self._scan_began, self._inbox.empty_folder_seconds):
            self._log.info(events.FOLDER_PRUNED, file=path)
        return ScanResult(has_more=True) if self._unpruned else self._result
