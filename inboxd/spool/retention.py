"""Tidying: what is older than its inbox keeps, notes without files, our own leftovers, and sub-folders that we have emptied."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.fs.names import TEMP_NAME
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd
from inboxd.fs.walk import SKIPPED_ERRORS, Entry, walk
from inboxd.spool.error_note import SUFFIX, is_note, note_name
from inboxd.spool.filing import exists, read_note
from inboxd.spool.history import HISTORY_NAME, KEEP_SECONDS

LEFTOVER_SECONDS = 3600.0
"""A temp or an orphaned note this old belongs to nobody who is still at work."""

UNREMOVABLE = (*SKIPPED_ERRORS, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST)
"""What must not keep the others from being tidied: it is gone, in use, not empty, or kept from us."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """One thing that was deleted: its path below the folder, and why."""

    path: bytes
    reason: str


def delete_expired(disk: Disk, folder: Fd, now: float, keep_seconds: float, *, has_notes: bool = False) -> Iterator[Deleted]:
    """Delete files of done/ or failed/ that were filed more than ``keep_seconds`` ago (0 keeps them), and our leftovers.

    Age counts from ctime, which the filing rename has set; what lies in a folder that was refused as a whole is as old as that
    folder's note. Only failed/ has notes (``notes_too``): elsewhere what looks like one is a person's. Yields what was deleted.
    """
    tree = _RefusedFolder(disk)
    for entry in walk(disk, folder, tree.enter if has_notes else lambda _: True):
        try:
            if entry.is_folder:
                _remove_empty_folder(disk, entry, tree.refused_at, now, keep_seconds)
                tree.leave(entry)
            elif why := _deletion_reason(disk, entry, tree.refused_at, now, keep_seconds, notes_too=has_notes):
                # If we die here: it is gone, and the log does not say so.
                disk.unlink(entry.at, entry.name)
                yield Deleted(entry.path, why)
        except OSError as error:
            if error.errno not in UNREMOVABLE:
                raise


class _RefusedFolder:
    """Where the walk is in a folder that was refused as a whole: ``since`` is its note's ctime, unix seconds; 0 outside."""

    def __init__(self, disk: Disk) -> None:
        self.refused_at = 0.0
        self._disk = disk
        self._top = b""

    def enter(self, folder: Entry) -> bool:
        """Note that the walk goes down; a note beside a folder says that it was refused."""
        if not self.refused_at:
            with contextlib.suppress(FileNotFoundError):
                self.refused_at = self._disk.stat(folder.at, note_name(folder.name)).ctime_ns / 1e9
                self._top = folder.path
        return True

    def leave(self, folder: Entry) -> None:
        """Note that the walk has come up."""
        if folder.path == self._top:
            self.refused_at, self._top = 0.0, b""


def _remove_empty_folder(disk: Disk, entry: Entry, since: float, now: float, keep_seconds: float) -> None:
    changed = max(disk.stat(entry.at, entry.name).mtime_ns / 1e9, since)
    if keep_seconds and now - changed > keep_seconds:
        with contextlib.suppress(OSError):
            disk.rmdir(entry.at, entry.name)  # a folder that is not empty refuses


def _deletion_reason(disk: Disk, entry: Entry, since: float, now: float, keep_seconds: float, *, notes_too: bool) -> str | None:
    age = now - max(disk.stat(entry.at, entry.name).ctime_ns / 1e9, since)
    if keep_seconds and age > keep_seconds and not (notes_too and HISTORY_NAME.fullmatch(entry.name)):
        return f"kept for {keep_seconds / 86_400:g} days"
    if age < LEFTOVER_SECONDS:
        return None
    if notes_too and age >= KEEP_SECONDS and HISTORY_NAME.fullmatch(entry.name):
        return "the history of a file that has not failed again"
    ours = TEMP_NAME.fullmatch(entry.name) or is_reserved(disk, entry.at, entry.name)
    if ours and not since:
        return "an unfinished file of inboxd's"
    if notes_too and entry.name.endswith(SUFFIX) and _is_orphaned_note(disk, entry.at, entry.name):
        return "a note of inboxd's whose file is gone"
    return None


def _is_orphaned_note(disk: Disk, at: Fd, name: bytes) -> bool:
    """Tell whether a note has lost its file. One that has a note itself was dropped by a person; a cut name tells nothing."""
    if b"~" in name or exists(disk, at, name.removesuffix(SUFFIX)) or exists(disk, at, note_name(name)):
        return False
    return is_note(read_note(disk, at, name))
