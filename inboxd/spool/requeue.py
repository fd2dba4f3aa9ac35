"""Putting failed files back into inbox/, under the path that they had there; why they failed is kept for their next note."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.fs.folders import make_path, open_path, opened_path
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.rename import move_to_free_name
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing
from inboxd.fs.walk import Entry, walk
from inboxd.spool.claims import MOVED_AWAY
from inboxd.spool.error_note import SUFFIX, ParsedNote, is_note, note_name, parse_note
from inboxd.spool.filing import FOLDER_MODE, exists, read_note
from inboxd.spool.history import save_history
from inboxd.spool.layout import Folders, split_path

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class FailedFile:
    """Something that lies in failed/: its path there, and what its note says; None if it has none of ours."""

    path: bytes
    note: ParsedNote | None
    is_folder: bool = False

    @property
    def original_path(self) -> bytes:
        """Its path below inbox/: as its note remembers it, for in failed/ it may have got another name."""
        return self.note.path if self.note else self.path


def list_failed_files(disk: Disk, folders: Folders) -> Iterator[FailedFile]:
    """Yield all that can be put back: files, and folders that were refused as a whole. Raises OSError."""
    whole: set[bytes] = set()

    def enter(folder: Entry) -> bool:
        if is_note(read_note(disk, folder.at, note_name(folder.name))):
            whole.add(folder.path)
        return folder.path not in whole

    for entry in walk(disk, folders.failed, enter):
        if entry.is_folder:
            if entry.path in whole:
                whole.remove(entry.path)
                yield _to_failed_file(disk, entry.at, entry.path, entry.name, is_folder=True)
        elif not _is_own_file(disk, entry.at, entry.name):
            yield _to_failed_file(disk, entry.at, entry.path, entry.name)


def find_failed_file(disk: Disk, folders: Folders, path: bytes) -> FailedFile | None:
    """Return what lies in failed/ under this path; None if nothing does, or only something of our own.

    Raises OSError, and ValueError for a path that could lead outside.
    """
    parts, name = split_path(path)
    try:
        with opened_path(disk, folders.failed, parts) as at:
            if _is_own_file(disk, at, name):
                return None
            return _to_failed_file(disk, at, path, name, is_folder=disk.stat(at, name).kind is FileKind.FOLDER)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return None
        raise


def requeue(disk: Disk, folders: Folders, failure: FailedFile) -> bytes | None:
    """Move what has failed back into inbox/, under its own path or a free name like it.

    Returns the path that it got below inbox/, None if it is gone. Raises OSError; it lies in failed/ or in inbox/ then.
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
            except FileNotFoundError:  # another was quicker; or a sub-folder of inbox/ was tidied away just before the move
                continue
    raise OSError(errno.EAGAIN, "its place is taken away again and again", failure.original_path)


def _requeue(disk: Disk, folders: Folders, at: Fd, name: bytes, failure: FailedFile) -> bytes:
    look = disk.stat(at, name)
    text = read_note(disk, at, note_name(name))
    if failure.note:
        # If we die here: a history too many; the next try writes the same, or retention removes it.
        save_history(disk, folders.failed, look, failure.note.history)
    wanted_parts, wanted = split_path(failure.original_path)
    # If we die here: perhaps an empty folder more in inbox/, which the next try uses, or which is tidied away.
    folder, made = make_path(disk, folders.inbox, wanted_parts, FOLDER_MODE)
    with closing(disk, folder):
        got = move_to_free_name(disk, at, name, folder, wanted)
    # If we die here: a note without its file, which retention removes; its words are in the history.
    if is_note(text) and read_note(disk, at, note_name(name)) == text:  # else another file has taken the name
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(at, note_name(name))
    return b"/".join((*made, got))


def _to_failed_file(disk: Disk, at: Fd, path: bytes, name: bytes, *, is_folder: bool = False) -> FailedFile:
    told = parse_note(read_note(disk, at, note_name(name)))
    try:
        split_path(told.path if told else path)
    except ValueError:
        told = None
    return FailedFile(path, told, is_folder)


def _is_own_file(disk: Disk, at: Fd, name: bytes) -> bool:
    """Tell whether it is something of our own that lies beside the files: a note, an unfinished file, a reserved name.

    What has a note itself is a person's file, whatever it says. Raises FileNotFoundError if it is gone.
    """
    if name.startswith(TEMP_PREFIX) or is_reserved(disk, at, name):
        return True
    if not name.endswith(SUFFIX) or exists(disk, at, note_name(name)):
        return False
    return is_note(read_note(disk, at, name))
