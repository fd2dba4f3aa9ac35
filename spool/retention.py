"""Tidying: what is older than its inbox keeps, notes without files, our own leftovers, and sub-folders that we have emptied."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from spool import notes
from spool.disk import Disk, Fd, held
from spool.filing import read_note
from spool.folders import Folders, split_path
from spool.moves import TEMP_PREFIX, open_path
from spool.scan import SubFolder

LEFTOVER_SECONDS = 3600.0
"""A temp or an orphaned note this old belongs to nobody who is still at work."""

_PASSED_OVER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was deleted: its path below the folder, and why."""

    path: bytes
    why: str


def expire(disk: Disk, folder: Fd, now: float, keep_seconds: float) -> Iterator[Removed]:
    """Delete files of done/ or failed/ that were filed more than ``keep_seconds`` ago (0 keeps them), and our leftovers.

    Age counts from ctime, which the filing rename has set. Yields what was deleted, as it is deleted.
    """
    for at, prefix, name, is_folder in _tree(disk, folder):
        try:
            if is_folder:
                if keep_seconds and now - disk.stat(at, name).mtime_ns / 1e9 > keep_seconds:
                    disk.rmdir(at, name)  # a folder that is not empty refuses
                continue
            age = now - disk.stat(at, name).ctime_ns / 1e9
            if why := _reason(disk, at, name, age, keep_seconds):
                disk.unlink(at, name)
                yield Removed(prefix + name, why)
        except OSError as error:
            if error.errno not in (*_PASSED_OVER, *_NOT_EMPTY):
                raise


def _reason(disk: Disk, at: Fd, name: bytes, age: float, keep_seconds: float) -> str | None:
    if keep_seconds and age > keep_seconds:
        return f"kept for {keep_seconds / 86_400:g} days"
    if age < LEFTOVER_SECONDS:
        return None
    if name.startswith(TEMP_PREFIX):
        return "an unfinished file of inboxd's"
    if name.endswith(notes.SUFFIX) and _is_orphan(disk, at, name):
        return "a note of inboxd's whose file is gone"
    return None


def _is_orphan(disk: Disk, at: Fd, name: bytes) -> bool:
    try:
        disk.stat(at, name.removesuffix(notes.SUFFIX))
    except FileNotFoundError:
        fits = b"~" not in name  # a cut name can't be traced back to its file
        return fits and notes.is_ours(read_note(disk, at, name))
    return False


def _tree(disk: Disk, top: Fd) -> Iterator[tuple[Fd, bytes, bytes, bool]]:
    """Yield every entry below a folder as (open folder, prefix, name, is it a folder), folders after their entries."""
    pending: list[tuple[bytes, bytes | None]] = [(b"", None)]
    while pending:
        prefix, leave = pending.pop()
        try:
            parts = tuple(prefix.split(b"/")[:-1])
            at = open_path(disk, top, parts)
        except OSError as error:
            if error.errno in _PASSED_OVER:
                continue
            raise
        with held(disk, at):
            if leave is not None:
                yield at, prefix, leave, True
                continue
            for name, is_folder in disk.entries(at):
                if is_folder:
                    pending += [(prefix, name), (prefix + name + b"/", None)]
                else:
                    yield at, prefix, name, False


def prune(disk: Disk, folders: Folders, seen: list[SubFolder], now: float, quiet_seconds: float) -> list[bytes]:
    """Remove sub-folders of inbox/ that are empty, quiet, and known below done/ or failed/: their files went through our hands.

    A folder that a person has made and never used stays. Returns the paths that were removed. A dropper who is quicker makes
    rmdir fail, and keeps his folder.
    """
    removed = []
    for folder in sorted(seen, key=lambda folder: folder.path.count(b"/"), reverse=True):
        if now - folder.mtime < quiet_seconds or not _went_through(disk, folders, folder.path):
            continue
        parts, name = split_path(folder.path)
        try:
            with held(disk, open_path(disk, folders.inbox, parts)) as at:
                # If we die here: an empty sub-folder stays until the next pass.
                disk.rmdir(at, name)
        except OSError as error:
            if error.errno not in (*_PASSED_OVER, *_NOT_EMPTY, errno.EPERM, errno.EROFS):
                raise
            continue
        removed.append(folder.path)
    return removed


def _went_through(disk: Disk, folders: Folders, path: bytes) -> bool:
    for filed in (folders.done, folders.failed):
        try:
            disk.close(open_path(disk, filed, tuple(path.split(b"/"))))
        except OSError:
            continue
        return True
    return False
