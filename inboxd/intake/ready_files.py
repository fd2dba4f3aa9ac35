"""Scan an inbox in bounded steps and collect the files that are complete."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from inboxd.config.rules import Inbox
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import Candidate
from inboxd.intake.folder_clock import folder_clock_now
from inboxd.intake.inspection import file_version
from inboxd.intake.pruning import innermost_first, prune_folders
from inboxd.intake.readiness import Ready, Refuse, Wait, WaitTimes
from inboxd.intake.scan import WHOLE, DeniedEntry, QuietFolder, ScannedEntry, ScannedFolder, ScanPart, ScanStep, scan
from inboxd.intake.sub_mounts import SubMounts
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.spool.failure import Failure
from inboxd.spool.layout import Folders

ENTRIES_PER_TURN = 5000
"""Maximum entries that one turn scans, so that other inboxes get their turns."""

PRUNED_PER_TURN = 500
"""Maximum sub-folders that one turn tries to remove."""

FOLDERS_MAX = 100_000
"""Maximum sub-folders remembered during one scan, to be pruned at its end: a bound on memory."""

DENIED_SECONDS = (60.0, 3600.0)
"""First and longest time for which a file that can't be read or moved is skipped, in seconds; it doubles in between: a file
whose removal fails is copied to another mount at each attempt."""

DENIED_MAX = 100_000
"""Maximum such files remembered: a bound on memory."""

DENIED_LINES_MAX, DENIED_LINES_SECONDS = 20, 60.0
"""At most 20 lines in a minute name such files; the next line has the number of the others."""

_PERMISSION_REMEDY = "make the service the owner of inbox/ and its sub-folders, or give its group write permission there"
_OTHER_REMEDY = "check the disk or the mount, which must be writable; the file is tried again later"


@dataclass(slots=True)
class ScanResult:
    """The result of one step of a scan; ``has_folders``, ``ready_in`` and ``recheck_in`` are set by the last step.

    ``ready_in`` is the seconds until the next incomplete file is complete unless it changes; ``recheck_in`` until one for which
    no such time is known (because it is open for writing) is checked again; None if there is none. ``rescan_seconds`` is the
    time that was spent on entries that stay in the inbox: the expected duration of the next scan.
    """

    has_more: bool = False
    has_folders: bool = False
    ready_in: float | None = None
    recheck_in: float | None = None
    rescan_seconds: float = 0.0


class ReadyFiles:
    """The scan of one inbox and its results: ``small`` and ``large`` ready files, and ``refused`` entries and why."""

    def __init__(
        self, disk: Disk, inbox: Inbox, waits: WaitTimes, *, network: bool, later_by: float = 0.0, part: ScanPart = WHOLE
    ) -> None:
        """Use ``waits`` and ``network`` for the mount of inbox/; the mounts below it have their own.

        ``network``: other machines may write there, by their own clock (a network, FUSE or unknown file system). ``later_by``:
        seconds that are added to all wait times. ``part``: what is scanned.
        """
        self.small: dict[bytes, Candidate] = {}
        self.large: dict[bytes, Candidate] = {}
        self.refused: dict[bytes, Failure] = {}
        self._disk = disk
        self._inbox = inbox
        self._waits = waits.plus(later_by)
        self._network = network
        self._part = part
        self._sub_mounts = SubMounts(disk, inbox, later_by=later_by)
        self._quiet: dict[bytes, QuietFolder] = {}
        self._log = get_logger(__name__).bind(inbox=inbox.name)
        self._cursor: Iterator[ScanStep] | None = None
        self._sub_folders: list[ScannedFolder] = []
        self._unpruned: list[ScannedFolder] = []
        self._kept_folders: frozenset[bytes] | None = None
        """The sub-folders that the first complete scan found: their owner made them for later use, too."""
        self._result = ScanResult()
        self._scan_time = self._scan_started = self._scan_seconds = 0.0
        self._entries = self._ready_entries = 0
        self._ready_at: float | None = None
        self._recheck_at: float | None = None
        self._denied: dict[bytes, tuple[float, float]] = {}
        self._denied_lines_reset_at = 0.0
        self._denied_lines = self._denied_unlogged = 0

    @property
    def is_between_scans(self) -> bool:
        """Whether the next step begins a new scan, which includes all files that arrive before it."""
        return self._cursor is None and not self._unpruned

    @property
    def sub_mounts(self) -> Mapping[bytes, Mount]:
        """The mounts below inbox/ that the current or last scan has met, by path."""
        return self._sub_mounts.mounts

    @property
    def count(self) -> int:
        """The number of ready files."""
        return len(self.small) + len(self.large)

    def reset(self) -> None:
        """Discard the unfinished scan and its results, for example after an outage of the folder."""
        self._cursor = None
        self._sub_folders.clear()
        self._unpruned = []
        for results in (self.small, self.large, self.refused):
            results.clear()

    def advance(self, folders: Folders, files_max: int) -> ScanResult:
        """Scan more entries until ``files_max`` files are ready. Raises OSError if the inbox can't be read."""
        started = time.monotonic()
        result = self._advance(folders, files_max)
        self._scan_seconds += time.monotonic() - started
        # + 1 for the folder itself, which may take long to list even if it is empty
        result.rescan_seconds = self._scan_seconds * (self._entries - self._ready_entries + 1) / (self._entries + 1)
        return result

    def set_denied(self, path: bytes, error: OSError) -> None:
        """Skip a file for some time, and log that once in this time, unless many others are denied, too."""
        if self._is_denied(path):
            return
        now = time.monotonic()
        _, last_wait = self._denied.get(path, (0.0, 0.0))
        wait = min(max(DENIED_SECONDS[0], 2 * last_wait), DENIED_SECONDS[1])
        if len(self._denied) >= DENIED_MAX:
            self._denied = {other: (until, wait) for other, (until, wait) in self._denied.items() if until > now}
        if len(self._denied) < DENIED_MAX:
            self._denied[path] = now + wait, wait
        self._log_denied(path, error, now)

    def _log_denied(self, path: bytes, error: OSError, now: float) -> None:
        """Log one denied file, or only count it if many were logged within the last minute."""
        if now >= self._denied_lines_reset_at:
            self._denied_lines_reset_at, self._denied_lines = now + DENIED_LINES_SECONDS, 0
        if self._denied_lines >= DENIED_LINES_MAX:
            self._denied_unlogged += 1
            return
        remedy = _PERMISSION_REMEDY if isinstance(error, PermissionError) else _OTHER_REMEDY
        others = {"others": self._denied_unlogged} if self._denied_unlogged else {}
        self._log.warning(events.FILE_DENIED, file=path, error=error.strerror, remedy=remedy, **others)
        self._denied_lines, self._denied_unlogged = self._denied_lines + 1, 0

    def _advance(self, folders: Folders, files_max: int) -> ScanResult:
        if self._unpruned:
            return self._prune(folders)
        if self._cursor is None:
            self._scan_time = folder_clock_now(self._disk, folders, network=self._network)
            self._scan_started = time.monotonic()
            self._ready_at = self._recheck_at = None
            self._scan_seconds = 0.0
            self._entries = self._ready_entries = 0
            self._cursor = scan(
                self._disk, folders.inbox, self._inbox, self._waits, self._now,
                sub_mounts=self._sub_mounts, quiet=None if self._network else self._quiet, part=self._part,
            )  # fmt: skip
        for _ in range(ENTRIES_PER_TURN):
            if self.count >= files_max:
                return ScanResult()
            entry = next(self._cursor, None)
            if entry is None:
                return self._end_scan(folders)
            self._add(entry)
        return ScanResult(has_more=True)

    def _now(self) -> float:
        """Return the current unix time by the clock that sets the files' times."""
        return self._scan_time + time.monotonic() - self._scan_started

    def _seconds_until(self, moment: float | None) -> float | None:
        return None if moment is None else max(moment - self._now(), 0.0)

    def _is_denied(self, path: bytes) -> bool:
        until, _ = self._denied.get(path, (0.0, 0.0))
        return until > time.monotonic()

    def _add(self, entry: ScanStep) -> None:
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
                files = self.small if entry.stat.size <= self._inbox.inline_bytes_max else self.large
                by_copy = entry.stat.links > 1 or self._inbox.claim == "copy"
                files[entry.path] = Candidate(entry.path, entry.stat.size, file_version(entry.stat), by_copy)
                self._ready_entries += 1
            case Refuse(failure):
                self.refused[entry.path] = failure
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
        if self._kept_folders is None:
            self._kept_folders = frozenset(folder.path for folder in self._sub_folders)
        elif self._inbox.empty_folders == "remove":
            self._unpruned = innermost_first(folder for folder in self._sub_folders if folder.path not in self._kept_folders)
        self._sub_folders = []
        return self._prune(folders)

    def _prune(self, folders: Folders) -> ScanResult:
        """Try to remove the next sub-folders; the scan ends when all have been tried."""
        batch, self._unpruned = self._unpruned[:PRUNED_PER_TURN], self._unpruned[PRUNED_PER_TURN:]
        for path in prune_folders(self._disk, folders, batch, self._scan_time, self._inbox.empty_folder_seconds):
            self._log.info(events.FOLDER_PRUNED, file=path)
        return ScanResult(has_more=True) if self._unpruned else self._result
