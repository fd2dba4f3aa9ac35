"""Counting: how many files wait, are in flight, done and failed, and how old the oldest of them are."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from spool import notes
from spool.disk import Disk, Fd
from spool.folders import born, opened
from spool.moves import TEMP_PREFIX
from spool.readiness import by_name, folder_by_name
from spool.settings import Inbox, Rules
from spool.store import files, parcels
from spool.walk import Entry, walk


@dataclass(frozen=True, slots=True)
class Moving:
    """Numbers of files on their way, and the ages in seconds of the oldest; None where there is none."""

    waiting: int
    in_flight: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None


@dataclass(frozen=True, slots=True)
class Census:
    """Numbers of files; ages are None where there is none."""

    waiting: int
    in_flight: int
    done: int
    failed: int
    oldest_waiting_seconds: float | None
    oldest_claimed_seconds: float | None = None


def count(disk: Disk, inbox: Inbox) -> Census:
    """Count an inbox's files. Raises FolderAway if a folder is missing, OSError if one can't be read."""
    moving = count_moving(disk, inbox)
    with opened(disk, inbox.root) as folders:
        done = sum(1 for file in _files(disk, folders.done) if not file.name.startswith(TEMP_PREFIX))
        failed = sum(1 for file in _files(disk, folders.failed) if not _is_ours(file.name))
    ages = moving.oldest_waiting_seconds, moving.oldest_claimed_seconds
    return Census(moving.waiting, moving.in_flight, done, failed, *ages)


def count_moving(disk: Disk, inbox: Inbox) -> Moving:
    """Count what is in inbox/ and claimed/ alone, which stay small. Raises FolderAway, OSError."""
    with opened(disk, inbox.root) as folders:
        oldest: float | None = None
        waiting = 0
        for file in _files(disk, folders.inbox, inbox):
            if by_name(file.path, inbox.include, inbox.exclude):
                continue
            try:
                changed = disk.stat(file.at, file.name).ctime_ns / 1e9
            except OSError:
                continue
            waiting += 1
            oldest = changed if oldest is None else min(oldest, changed)
        held = [(parcel, count) for parcel in parcels(disk, folders) if (count := len(files(disk, folders, parcel)))]
    claimed = born(held[0][0]) if held else None
    return Moving(waiting, sum(count for _, count in held), _age(oldest), _age(claimed))


def _age(since: float | None) -> float | None:
    return None if since is None else max(time.time() - since, 0.0)


def _is_ours(name: bytes) -> bool:
    return name.startswith(TEMP_PREFIX) or name.endswith(notes.SUFFIX)


def _files(disk: Disk, top: Fd, rules: Rules | None = None) -> Iterator[Entry]:
    """Yield everything below a folder that is not a folder; only where a scan by these rules would look."""

    def enter(folder: Entry) -> bool:
        return rules is None or (rules.recursive and not folder_by_name(folder.name))

    return (entry for entry in walk(disk, top, enter) if not entry.is_folder)
