"""Requeue filed files: move them back to their path in inbox/; a failed one's failures are stored for its next error note."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.fs.folders import make_path, open_path, opened_path
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.rename import exists, move_to_free_name
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing
from inboxd.fs.walk import Entry, walk
from inboxd.spool.claims import MOVED_AWAY
from inboxd.spool.error_note import SUFFIX, ParsedNote, is_note, note_name, parse_note
from inboxd.spool.filing import read_note
from inboxd.spool.history import save_history
from inboxd.spool.layout import FOLDER_MODE, Folders, split_path

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file or folder in failed/: its path there, and its parsed error note, or None if it has no valid one."""

    path: bytes
    note: ParsedNote | None
    is_folder: bool = False

    @property
    def original_path(self) -> bytes:
        """The path that it had below inbox/, from its note: in failed/ it may have another name."""
        return self.note.path if self.note else self.path


def list_failed_files(disk: Disk, folders: Folders) -> Iterator[FailedFile]:
    """Yield what can be requeued: dropped files, and folders that were refused as a whole. Raises OSError."""
    refused_folders: set[bytes] = set()

    def enter(folder: Entry) -> bool:
        if is_note(read_note(disk, folder.at, note_name(folder.name))):
            refused_folders.add(folder.path)
        return folder.path not in refused_folders

    for entry in walk(disk, folders.failed, enter):
        if entry.is_folder:
            if entry.path in refused_folders:
                refused_folders.remove(entry.path)
                yield _to_failed_file(disk, entry.at, entry.path, entry.name, is_folder=True)
        elif not is_own_file(disk, entry.at, entry.name):
            failed = _to_failed_file(disk, entry.at, entry.path, entry.name)
            if failed.note is None or not failed.note.is_output:
                yield failed


def find_failed_file(disk: Disk, folders: Folders, path: bytes) -> FailedFile | None:
    """Return the file or folder at a path in failed/; None if there is none, or only a file of inboxd's own.

    Raises OSError, and ValueError for a path that could lead out of the inbox.
    """
    parts, name = split_path(path)
    try:
        with opened_path(disk, folders.failed, parts) as at:
            if is_own_file(disk, at, name):
                return None
            return _to_failed_file(disk, at, path, name, is_folder=disk.stat(at, name).kind is FileKind.FOLDER)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return None
        raise


def requeue(disk: Disk, folders: Folders, failure: FailedFile) -> bytes | None:
    """Move a failed file or folder back to inbox/, under its original path or the next free name.

    Returns its path below inbox/, or None if it is missing. Raises OSError, with the file in failed/ or in inbox/.
    """
    parts, name = split_path(failure.path)
    for _ in range(_ATTEMPTS):
        try:
            at = open_path(disk, folders.failed, parts)
        except OSError as error:
            if error.errno in MOVED_AWAY:
                return None
            raise
        with closing(disk, at):
            if not exists(disk, at, name):
                return None
            try:
                return _requeue(disk, folders, at, name, failure)
            except FileNotFoundError:  # the file was moved, or a folder of inbox/ was pruned just before the move
                continue
    raise OSError(errno.EAGAIN, f"the destination folder was removed at each of {_ATTEMPTS} attempts", failure.original_path)


def _requeue(disk: Disk, folders: Folders, at: Fd, name: bytes, failure: FailedFile) -> bytes:
    stat = disk.stat(at, name)
    note_text = read_note(disk, at, note_name(name))
    if failure.note:
        # If we die here: an unneeded history; the next attempt replaces it, or retention removes it.
        save_history(disk, folders.failed, stat, failure.note.history)
    requeued = _move_to_inbox(disk, folders, at, name, failure.original_path)
    # If we die here: a note without its file, which retention removes; its content is in the history.
    if is_note(note_text) and read_note(disk, at, note_name(name)) == note_text:  # else the note is of another file by now
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(at, note_name(name))
    return requeued


def requeue_filed(disk: Disk, folders: Folders, filed: bytes, path: bytes) -> bytes | None:
    """Move a file from done/ back to inbox/, under ``path`` or the next free name; return its path there, None if missing.

    Raises OSError, with the file in done/ or in inbox/.
    """
    parts, name = split_path(filed)
    try:
        with opened_path(disk, folders.done, parts) as at:
            disk.stat(at, name)
            return _move_to_inbox(disk, folders, at, name, path)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return None
        raise


def _move_to_inbox(disk: Disk, folders: Folders, at: Fd, name: bytes, path: bytes) -> bytes:
    parts, wanted_name = split_path(path)
    # If we die here: perhaps an additional empty folder in inbox/, which the next attempt uses, or the watcher prunes.
    dst_at, dst_parts = make_path(disk, folders.inbox, parts, FOLDER_MODE)
    with closing(disk, dst_at):
        return b"/".join((*dst_parts, move_to_free_name(disk, at, name, dst_at, wanted_name)))


def _to_failed_file(disk: Disk, at: Fd, path: bytes, name: bytes, *, is_folder: bool = False) -> FailedFile:
    note = parse_note(read_note(disk, at, note_name(name)))
    try:
        split_path(note.path if note else path)
    except ValueError:
        note = None
    return FailedFile(path, note, is_folder)


def is_own_file(disk: Disk, at: Fd, name: bytes) -> bool:
    """Return whether an entry is one of inboxd's own: a note, an unfinished file, a history, or a reserved name.

    A file with a note of its own was dropped by a user, whatever it contains. Raises FileNotFoundError for a missing file.
    """
    if name.startswith(TEMP_PREFIX) or is_reserved(disk, at, name):
        return True
    if not name.endswith(SUFFIX) or exists(disk, at, note_name(name)):
        return False
    return is_note(read_note(disk, at, name))
