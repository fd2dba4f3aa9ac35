"""Count an inbox's files by folder, and find the oldest ones."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from inboxd.config.settings import Inbox, Rules
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd
from inboxd.fs.walk import Entry, walk
from inboxd.intake.readiness import decide_by_folder_name, decide_by_name
from inboxd.spool.claims import list_files, list_parcels
from inboxd.spool.layout import created_at, open_folders
from inboxd.spool.requeue import is_own_file


@dataclass(frozen=True, slots=True)
class ActiveCounts:
    """Numbers of files in inbox/ and claimed/; age in seconds and path of the oldest ones, None if there is none."""

    waiting: int
    in_flight: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None
    oldest_waiting: bytes | None = None
    oldest_claimed: bytes | None = None


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Numbers of files in all four folders; age in seconds and path of the oldest ones, None if there is none."""

    waiting: int
    in_flight: int
    done: int
    failed: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None = None
    oldest_waiting: bytes | None = None
    oldest_claimed: bytes | None = None


def count_files(disk: Disk, inbox: Inbox) -> FileCounts:
    """Count an inbox's files. Raises FolderUnavailable if a folder is missing, OSError if one can't be read."""
    active = count_active(disk, inbox)
    with open_folders(disk, inbox.root) as folders:
        done = sum(1 for file in _list_files(disk, folders.done) if not file.name.startswith(TEMP_PREFIX))
        failed = sum(1 for file in _list_files(disk, folders.failed) if not _is_own_file(disk, file))
    return FileCounts(done=done, failed=failed, **asdict(active))


def count_active(disk: Disk, inbox: Inbox) -> ActiveCounts:
    """Count the files in inbox/ and claimed/ only, which stay small. Raises FolderUnavailable, OSError."""
    with open_folders(disk, inbox.root) as folders:
        oldest: tuple[float, bytes] | None = None
        waiting = 0
        for file in _list_files(disk, folders.inbox, inbox):
            if decide_by_name(file.path, inbox):
                continue
            try:
                changed_at = disk.stat(file.at, file.name).ctime_ns / 1e9
            except OSError:
                continue
            waiting += 1
            if oldest is None or changed_at < oldest[0]:
                oldest = changed_at, file.path
        parcels = [(parcel, paths) for parcel in list_parcels(disk, folders) if (paths := list_files(disk, folders, parcel))]
    waiting_since, path = oldest or (None, None)
    claimed_at, claimed = (created_at(parcels[0][0]), parcels[0][1][0]) if parcels else (None, None)
    ages = _seconds_since(waiting_since), _seconds_since(claimed_at)
    return ActiveCounts(waiting, sum(len(paths) for _, paths in parcels), *ages, path, claimed)


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
