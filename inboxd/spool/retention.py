"""Retention: delete files past their retention period, notes without files, unfinished files, and emptied sub-folders."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.fs.names import TEMP_NAME
from inboxd.fs.rename import exists
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd
from inboxd.fs.walk import SKIPPED_ERRORS, Entry, walk
from inboxd.spool.error_note import SUFFIX, is_note, note_name
from inboxd.spool.filing import read_note
from inboxd.spool.history import HISTORY_NAME, KEEP_SECONDS

LEFTOVER_SECONDS = 3600.0
"""Age from which a temp or an orphaned note is deleted, in seconds: no process is still working on it."""

UNREMOVABLE = (*SKIPPED_ERRORS, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST)
"""Errors after which retention continues with the next entry: missing, in use, not empty, or permission denied."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """One deleted entry: its path below the folder, and the reason."""

    path: bytes
    reason: str


def delete_expired(disk: Disk, folder: Fd, now: float, keep_seconds: float, *, has_notes: bool = False) -> Iterator[Deleted]:
    """Delete files in done/ or failed/ that were filed more than ``keep_seconds`` ago (0: never), and inboxd's own leftovers.

    Yields each deletion. The age of a file counts from its ctime, which its filing set, and in a folder that was refused as a
    whole from that folder's note. Only failed/ has notes (``has_notes``): in done/, a file like a note is a user's.
    """
    refused = _RefusedFolder(disk)
    for entry in walk(disk, folder, refused.enter if has_notes else lambda _: True):
        try:
            if entry.is_folder:
                _remove_empty_folder(disk, entry, refused.since, now, keep_seconds)
                refused.leave(entry)
            elif reason := _deletion_reason(disk, entry, refused.since, now, keep_seconds, has_notes=has_notes):
                # If we die here: perhaps a deleted file without a line in the log.
                disk.unlink(entry.at, entry.name)
                yield Deleted(entry.path, reason)
        except OSError as error:
            if error.errno not in UNREMOVABLE:
                raise


class _RefusedFolder:
    """The folder around the walk's position that was refused as a whole: ``since`` is its note's ctime (Unix seconds), or 0."""

    def __init__(self, disk: Disk) -> None:
        self.since = 0.0
        self._disk = disk
        self._top = b""

    def enter(self, folder: Entry) -> bool:
        """Record that the walk enters a folder; a folder with a note was refused."""
        if not self.since:
            with contextlib.suppress(FileNotFoundError):
                self.since = self._disk.stat(folder.at, note_name(folder.name)).ctime_ns / 1e9
                self._top = folder.path
        return True

    def leave(self, folder: Entry) -> None:
        """Record that the walk has left a folder."""
        if folder.path == self._top:
            self.since, self._top = 0.0, b""


def _remove_empty_folder(disk: Disk, entry: Entry, since: float, now: float, keep_seconds: float) -> None:
    changed_at = max(disk.stat(entry.at, entry.name).mtime_ns / 1e9, since)
    if keep_seconds and now - changed_at > keep_seconds:
        with contextlib.suppress(OSError):
            disk.rmdir(entry.at, entry.name)  # fails if the folder is not empty


def _deletion_reason(disk: Disk, entry: Entry, since: float, now: float, keep_seconds: float, *, has_notes: bool) -> str | None:
    age = now - max(disk.stat(entry.at, entry.name).ctime_ns / 1e9, since)
    if keep_seconds and age > keep_seconds and not (has_notes and HISTORY_NAME.fullmatch(entry.name)):
        return f"kept for {keep_seconds / 86_400:g} days"
    if age < LEFTOVER_SECONDS:
        return None
    if has_notes and age >= KEEP_SECONDS and HISTORY_NAME.fullmatch(entry.name):
        return "history of a file that has not failed again"
    is_own_file = TEMP_NAME.fullmatch(entry.name) or is_reserved(disk, entry.at, entry.name)
    if is_own_file and not since:
        return "leftover temporary file of inboxd"
    if has_notes and entry.name.endswith(SUFFIX) and _is_orphaned_note(disk, entry.at, entry.name):
        return "error note without its file"
    return None


def _is_orphaned_note(disk: Disk, at: Fd, name: bytes) -> bool:
    """Return whether an entry is a note without its file; False for a cut name, or a user's file with a note of its own."""
    if b"~" in name or exists(disk, at, name.removesuffix(SUFFIX)) or exists(disk, at, note_name(name)):
        return False
    return is_note(read_note(disk, at, name))
