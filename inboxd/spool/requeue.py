"""Putting failed files back into inbox/, under the path that they had there; why they failed is kept for their next note."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.fs.folders import beneath, make_folders, open_path
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.rename import move_free
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd, Kind, held
from inboxd.fs.walk import Entry, walk
from inboxd.spool import error_note, history
from inboxd.spool.claims import LOST
from inboxd.spool.error_note import Told
from inboxd.spool.filing import FOLDER_MODE, exists, read_note
from inboxd.spool.layout import Folders, split_path

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that lies in failed/: its path there, and what its note says; None if it has none of ours."""

    path: bytes
    told: Told | None
    is_folder: bool = False

    @property
    def wanted(self) -> bytes:
        """Its path below inbox/: as its note remembers it, for in failed/ it may have got another name."""
        return self.told.path if self.told else self.path


def failures(disk: Disk, folders: Folders) -> Iterator[Failure]:
    """Yield all that can be put back: files, and folders that were refused as a whole. Raises OSError."""
    whole: set[bytes] = set()

    def enter(folder: Entry) -> bool:
        if error_note.is_ours(read_note(disk, folder.at, error_note.name_for(folder.name))):
            whole.add(folder.path)
        return folder.path not in whole

    for entry in walk(disk, folders.failed, enter):
        if entry.is_folder:
            if entry.path in whole:
                whole.remove(entry.path)
                yield _failure(disk, entry.at, entry.path, entry.name, is_folder=True)
        elif not _is_ours(disk, entry.at, entry.name):
            yield _failure(disk, entry.at, entry.path, entry.name)


def failure_at(disk: Disk, folders: Folders, path: bytes) -> Failure | None:
    """Return what lies in failed/ under this path; None if nothing does, or only something of our own.

    Raises OSError, and ValueError for a path that could lead outside.
    """
    parts, name = split_path(path)
    try:
        with beneath(disk, folders.failed, parts) as at:
            if _is_ours(disk, at, name):
                return None
            return _failure(disk, at, path, name, is_folder=disk.stat(at, name).kind is Kind.FOLDER)
    except OSError as error:
        if error.errno in LOST:
            return None
        raise


def put_back(disk: Disk, folders: Folders, failure: Failure) -> bytes | None:
    """Move what has failed back into inbox/, under its own path or a free name like it.

    Returns the path that it got below inbox/, None if it is gone. Raises OSError; it lies in failed/ or in inbox/ then.
    """
    parts, name = split_path(failure.path)
    for _ in range(_TRIES):
        try:
            at = open_path(disk, folders.failed, parts)
        except OSError as error:
            if error.errno in LOST:
                return None
            raise
        with held(disk, at):
            if not exists(disk, at, name):
                return None
            try:
                return _put_back(disk, folders, at, name, failure)
            except FileNotFoundError:  # another was quicker; or a sub-folder of inbox/ was tidied away just before the move
                continue
    raise OSError(errno.EAGAIN, "its place is taken away again and again", failure.wanted)


def _put_back(disk: Disk, folders: Folders, at: Fd, name: bytes, failure: Failure) -> bytes:
    look = disk.stat(at, name)
    text = read_note(disk, at, error_note.name_for(name))
    if failure.told:
        # If we die here: a history too many; the next try writes the same, or retention removes it.
        history.remember(disk, folders.failed, look, failure.told.history)
    wanted_parts, wanted = split_path(failure.wanted)
    # If we die here: perhaps an empty folder more in inbox/, which the next try uses, or which is tidied away.
    folder, made = make_folders(disk, folders.inbox, wanted_parts, FOLDER_MODE)
    with held(disk, folder):
        got = move_free(disk, at, name, folder, wanted)
    # If we die here: a note without its file, which retention removes; its words are in the history.
    if (
        error_note.is_ours(text) and read_note(disk, at, error_note.name_for(name)) == text
    ):  # else another file has taken the name
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(at, error_note.name_for(name))
    return b"/".join((*made, got))


def _failure(disk: Disk, at: Fd, path: bytes, name: bytes, *, is_folder: bool = False) -> Failure:
    told = error_note.read(read_note(disk, at, error_note.name_for(name)))
    try:
        split_path(told.path if told else path)
    except ValueError:
        told = None
    return Failure(path, told, is_folder)


def _is_ours(disk: Disk, at: Fd, name: bytes) -> bool:
    """Tell whether it is something of our own that lies beside the files: a note, an unfinished file, a reserved name.

    What has a note itself is a person's file, whatever it says. Raises FileNotFoundError if it is gone.
    """
    if name.startswith(TEMP_PREFIX) or is_reserved(disk, at, name):
        return True
    if not name.endswith(error_note.SUFFIX) or exists(disk, at, error_note.name_for(name)):
        return False
    return error_note.is_ours(read_note(disk, at, name))
