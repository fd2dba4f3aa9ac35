"""Counting: how many files wait, are in flight, done and failed, and how old the oldest of them are."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.config.settings import Inbox, Rules
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd
from inboxd.fs.walk import Entry, walk
from inboxd.intake.readiness import decide_by_folder_name, decide_by_name
from inboxd.spool.claims import list_files, list_parcels
from inboxd.spool.error_note import SUFFIX
from inboxd.spool.layout import created_at, open_folders


@dataclass(frozen=True, slots=True)
class ActiveCounts:
    """Numbers of files on their way; ages in seconds and paths of the oldest, None where there is none."""

    waiting: int
    in_flight: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None
    oldest_waiting: bytes | None = None
    oldest_claimed: bytes | None = None


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Numbers of files; ages, and the paths of the oldest below inbox/, are None where there is none."""

    waiting: int
    in_flight: int
    done: int
    failed: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None = None
    oldest_waiting: bytes | None = None
    oldest_claimed: bytes | None = None


def count_files(disk: Disk, inbox: Inbox) -> FileCounts:
    """Count an inbox's files. Raises FolderAway if a folder is missing, OSError if one can't be read."""
    moving = count_active(disk, inbox)
    with open_folders(disk, inbox.root) as folders:
        done = sum(1 for file in _list_files(disk, folders.done) if not file.name.startswith(TEMP_PREFIX))
        failed = sum(1 for file in _list_files(disk, folders.failed) if not _is_own_file(file.name))
    ages = moving.oldest_waiting_seconds, moving.oldest_claimed_seconds
    return FileCounts(moving.waiting, moving.in_flight, done, failed, *ages, moving.oldest_waiting, moving.oldest_claimed)


def count_active(disk: Disk, inbox: Inbox) -> ActiveCounts:
    """Count what is in inbox/ and claimed/ alone, which stay small. Raises FolderAway, OSError."""
    with open_folders(disk, inbox.root) as folders:
        oldest: tuple[float, bytes] | None = None
        waiting = 0
        for file in _list_files(disk, folders.inbox, inbox):
            if decide_by_name(file.path, inbox.include, inbox.exclude):
                continue
            try:
                changed = disk.stat(file.at, file.name).ctime_ns / 1e9
            except OSError:
                continue
            waiting += 1
            if oldest is None or changed < oldest[0]:
                oldest = changed, file.path
        held = [(parcel, found) for parcel in list_parcels(disk, folders) if (found := list_files(disk, folders, parcel))]
    since, path = oldest or (None, None)
    claimed, first = (created_at(held[0][0]), held[0][1][0]) if held else (None, None)
    return ActiveCounts(waiting, sum(len(found) for _, found in held), _age_since(since), _age_since(claimed), path, first)


def _age_since(since: float | None) -> float | None:
    return None if since is None else max(time.time() - since, 0.0)


def _is_own_file(name: bytes) -> bool:
    return name.startswith(TEMP_PREFIX) or name.endswith(SUFFIX)


def _list_files(disk: Disk, top: Fd, rules: Rules | None = None) -> Iterator[Entry]:
    """Yield everything below a folder that is not a folder; only where a scan by these rules would look."""

    def enter(folder: Entry) -> bool:
        return rules is None or (rules.recursive and not decide_by_folder_name(folder.name))

    return (entry for entry in walk(disk, top, enter) if not entry.is_folder)
