"""Count an inbox's files by folder, and find the oldest ones."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.config.rules import Inbox, Rules
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.rename import exists
from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.fs.walk import Entry, walk
from inboxd.intake.readiness import decide_by_folder_name
from inboxd.intake.scan import decide_entry_name
from inboxd.spool.claims import list_files, list_parcels
from inboxd.spool.error_note import note_name
from inboxd.spool.layout import FOLDER_NAMES, OUT, Folders, created_at, is_parcel_id, open_folders
from inboxd.spool.requeue import is_own_file


@dataclass(frozen=True, slots=True)
class Untaken:
    """Entries that nothing happens to: their number, the reason of most of them, and one with that reason.

    ``oldest_seconds`` is the time since the oldest one changed, None if there is none.
    """

    files: int = 0
    reason: str = ""
    example: bytes = b""
    oldest_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ActiveCounts:
    """Numbers of files in inbox/ and claimed/; age in seconds and path of the oldest ones, None if there is none.

    ``ignored`` are files in inbox/ that a rule ignores; ``stray`` are entries in the root or in claimed/, which nobody takes.
    """

    waiting: int
    in_flight: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None
    oldest_waiting: bytes | None = None
    oldest_claimed: bytes | None = None
    ignored: Untaken = Untaken()
    stray: Untaken = Untaken()


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Numbers of files in all four folders; age in seconds and path of the oldest ones, None if there is none.

    ``without_note`` are files in failed/ that inboxd has not put there, or whose note was removed; see ActiveCounts.
    """

    waiting: int
    in_flight: int
    done: int
    failed: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None = None
    oldest_waiting: bytes | None = None
    oldest_claimed: bytes | None = None
    ignored: Untaken = Untaken()
    stray: Untaken = Untaken()
    without_note: Untaken = Untaken()


def count_files(disk: Disk, inbox: Inbox) -> FileCounts:
    """Count an inbox's files. Raises FolderUnavailable if a folder is missing, OSError if one can't be read."""
    active = count_active(disk, inbox)
    with open_folders(disk, inbox.root) as folders:
        done = sum(1 for file in _list_files(disk, folders.done) if not file.name.startswith(TEMP_PREFIX))
        failed = 0
        without_note = _UntakenCounter()
        for file in _list_files(disk, folders.failed):
            if not _is_own_file(disk, file):
                failed += 1
                if not exists(disk, file.at, note_name(file.name)):
                    without_note.add("it has no error note", file.path, disk, file.at, file.name)
    shallow = {name: getattr(active, name) for name in ActiveCounts.__dataclass_fields__}
    return FileCounts(done=done, failed=failed, without_note=without_note.result(), **shallow)


def count_active(disk: Disk, inbox: Inbox) -> ActiveCounts:
    """Count the files in inbox/ and claimed/ only, which stay small. Raises FolderUnavailable, OSError."""
    with open_folders(disk, inbox.root) as folders:
        oldest: tuple[float, bytes] | None = None
        waiting = 0
        ignored, stray = _UntakenCounter(), _UntakenCounter()
        for file in _list_files(disk, folders.inbox, inbox):
            if why := decide_entry_name(disk, file.at, file.name, file.path, inbox):
                ignored.add(why.reason, file.path, disk, file.at, file.name)
                continue
            try:
                changed_at = disk.stat(file.at, file.name).ctime_ns / 1e9
            except OSError:
                continue
            waiting += 1
            if oldest is None or changed_at < oldest[0]:
                oldest = changed_at, file.path
        _count_stray(disk, inbox, folders, stray)
        parcels = [(parcel, paths) for parcel in list_parcels(disk, folders) if (paths := list_files(disk, folders, parcel))]
    waiting_since, path = oldest or (None, None)
    claimed_at, claimed = (created_at(parcels[0][0]), parcels[0][1][0]) if parcels else (None, None)
    ages = _seconds_since(waiting_since), _seconds_since(claimed_at)
    in_flight = sum(len(paths) for _, paths in parcels)
    return ActiveCounts(waiting, in_flight, *ages, path, claimed, ignored.result(), stray.result())


class _UntakenCounter:
    """Counts entries by reason."""

    def __init__(self) -> None:
        self._by_reason: dict[str, tuple[int, bytes]] = {}
        self._oldest: float | None = None

    def add(self, reason: str, path: bytes, disk: Disk, at: Fd, name: bytes) -> None:
        try:
            changed_at = disk.stat(at, name).ctime_ns / 1e9
        except OSError:  # moved meanwhile
            return
        files, example = self._by_reason.get(reason, (0, path))
        self._by_reason[reason] = files + 1, example
        self._oldest = changed_at if self._oldest is None else min(self._oldest, changed_at)

    def result(self) -> Untaken:
        if not self._by_reason:
            return Untaken()
        reason, (_, example) = max(self._by_reason.items(), key=lambda item: item[1][0])
        return Untaken(sum(files for files, _ in self._by_reason.values()), reason, example, _seconds_since(self._oldest))


def _count_stray(disk: Disk, inbox: Inbox, folders: Folders, stray: _UntakenCounter) -> None:
    """Count what was dropped beside the four folders, and what is no parcel in claimed/; hidden names are programs' own."""
    with closing(disk, disk.open_root(inbox.root)) as root:
        for name, _ in disk.entries(root):
            if name not in (*FOLDER_NAMES, OUT) and not name.startswith(b"."):
                stray.add("it is beside inbox/, not in it", name, disk, root, name)
    for name, is_folder in disk.entries(folders.claimed):
        if not (is_folder and is_parcel_id(name.decode("ascii", "replace"))) and not name.startswith(b"."):
            stray.add("it was put into claimed/ by hand", b"claimed/" + name, disk, folders.claimed, name)


def _seconds_since(moment: float | None) -> float | None:
    return None if moment is None else max(time.time() - moment, 0.0)


def _is_own_file(disk: Disk, file: Entry) -> bool:
    try:
        return is_own_file(disk, file.at, file.name)
    except FileNotFoundError:  # moved meanwhile
        return True


def _list_files(disk: Disk, top: Fd, rules: Rules | None = None) -> Iterator[Entry]:
    """Yield all entries below ``top`` that are not folders, in the folders that a scan with ``rules`` enters."""

    def enter(folder: Entry) -> bool:
        return rules is None or (rules.recursive and not decide_by_folder_name(folder.name))

    return (entry for entry in walk(disk, top, enter) if not entry.is_folder)
