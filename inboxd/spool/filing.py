"""Move claimed files to done/, or to failed/ with an error note. The first rename wins; the loser of a race gets None."""

import contextlib
import errno
import secrets
import time
from collections.abc import Callable
from typing import Self

from inboxd.fs.folders import DirHandle, opened_path
from inboxd.fs.names import TEMP_PREFIX, free_names
from inboxd.fs.rename import exists, move, move_to_free_name
from inboxd.fs.sharing import share_as_parent
from inboxd.fs.syscalls import Disk, Fd, Stat, closing
from inboxd.spool.claims import MOVED_AWAY
from inboxd.spool.error_note import NOTE_BYTES_MAX, is_note, note_name, signature
from inboxd.spool.layout import DONE, FAILED, FOLDER_MODE, Folders, split_path
from inboxd.spool.outputs import discard_outputs
from inboxd.spool.packed_version import PackedVersion, raise_if_changed, raise_if_open

NOTE_MODE = 0o666
_ATTEMPTS = 5
STALE_NOTE_SECONDS = 60.0
"""Age from which a note without its file is replaced, in seconds; a newer one may be followed by its file's move."""


class FilingFolders:
    """The open source and destination folders of a move out of claimed/, kept open from one file to the next."""

    def __init__(self, disk: Disk, folders: Folders, destination: Fd) -> None:
        self.claimed = DirHandle(disk, folders.claimed)
        self.destination = DirHandle(disk, destination, FOLDER_MODE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.claimed.close()
        self.destination.close()


def move_to_done(
    disk: Disk, folders: Folders, parcel: str, path: bytes, target: FilingFolders | None = None, *,
    expected: PackedVersion | None = None, refuses_writers: bool = False,
) -> bytes | None:  # fmt: skip
    """Move a claimed file to done/, under its own path or the next free name.

    Returns its path below done/, or None if another process has filed it. Raises OSError, with the file still claimed, and
    FileChanged if it has another version than ``expected``, or with ``refuses_writers`` if a program has it open for writing.
    A caller that files several files passes one ``target`` for all of them.
    """

    def move_unchanged(src_at: Fd, name: bytes, dst_at: Fd) -> bytes:
        if expected is not None:
            raise_if_changed(disk, folders, disk.stat(src_at, name), expected)
        if refuses_writers:
            raise_if_open(disk, src_at, name)
        return move_to_free_name(disk, src_at, name, dst_at, name)

    # If we die here: the file is still claimed, its outcome is stored, and a sweep files it.
    with (
        _naming_folder(DONE),
        contextlib.nullcontext(target) if target else FilingFolders(disk, folders, folders.done) as open_target,
    ):
        return _file(disk, open_target, parcel, path, move_unchanged)


def move_to_failed(disk: Disk, folders: Folders, parcel: str, path: bytes, note: bytes) -> bytes | None:
    """Move a claimed file to failed/, under its own path or the next free name, with its note next to it.

    The note is written first, so that failed/ never has a file without one. Returns the file's path below failed/, or None if
    another process has filed it. Raises OSError, with the file still claimed. Its outputs are removed.
    """

    def move_with_note(src_at: Fd, name: bytes, dst_at: Fd) -> bytes:
        return _move_with_note(disk, src_at, name, dst_at, note, signature(path, parcel))

    discard_outputs(disk, folders, parcel, path)
    with _naming_folder(FAILED), FilingFolders(disk, folders, folders.failed) as target:
        return _file(disk, target, parcel, path, move_with_note, writes_note=True)


def is_filed(disk: Disk, folders: Folders, path: bytes) -> bool:
    """Return whether a path exists in done/ or failed/. Raises OSError if one of them is unreadable."""
    parts, name = split_path(path)
    for folder in (folders.done, folders.failed):
        try:
            with opened_path(disk, folder, parts) as at:
                if exists(disk, at, name):
                    return True
        except OSError as error:
            if error.errno not in MOVED_AWAY:
                raise
    return False


def stat_filed(disk: Disk, folders: Folders, path: bytes) -> Stat | None:
    """Return the stat of a file in done/, None if it is missing. Raises OSError."""
    return _stat(disk, folders.done, path)


def stat_claimed(disk: Disk, folders: Folders, parcel: str, path: bytes) -> Stat | None:
    """Return the stat of a claimed file, None if it is missing. Raises OSError."""
    return _stat(disk, folders.claimed, parcel.encode() + b"/" + path)


def _stat(disk: Disk, folder: Fd, path: bytes) -> Stat | None:
    parts, name = split_path(path)
    try:
        with opened_path(disk, folder, parts) as at:
            return disk.stat(at, name)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return None
        raise


class _naming_folder:  # noqa: N801 - used like a function: with _naming_folder(DONE)
    """A context manager that sets an OSError's filename to the folder into which a file could not be moved."""

    __slots__ = ("_folder",)

    def __init__(self, folder: bytes) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            error.filename = self._folder.decode()


def _file(
    disk: Disk,
    target: FilingFolders,
    parcel: str,
    path: bytes,
    mover: Callable[[Fd, bytes, Fd], bytes],
    *,
    writes_note: bool = False,
) -> bytes | None:
    """Move a claimed file; if a destination folder is pruned just before the move, create it again.

    No folder is created, and no note written, for a missing file.
    """
    parts, name = split_path(path)
    for _ in range(_ATTEMPTS):
        try:
            src_at, _ = target.claimed.open((parcel.encode(), *parts))
        except OSError as error:
            if error.errno in MOVED_AWAY:
                return None
            raise
        if (writes_note or parts) and not exists(disk, src_at, name):
            return None
        try:
            dst_at, dst_parts = target.destination.open(parts)
            return b"/".join((*dst_parts, mover(src_at, name, dst_at)))
        except FileNotFoundError:
            if not exists(disk, src_at, name):
                return None
            target.destination.close()
    raise OSError(errno.EAGAIN, f"the destination folder was removed at each of {_ATTEMPTS} attempts", path)


def _move_with_note(disk: Disk, src_at: Fd, name: bytes, dst_at: Fd, note: bytes, signature: bytes) -> bytes:
    for candidate in free_names(name, lambda candidate: exists(disk, dst_at, candidate)):
        is_taken = exists(disk, dst_at, candidate)
        # a taken name with this file's own note: an earlier attempt died between the two names, and the move completes it
        if is_taken and not _has_note(disk, dst_at, candidate, signature):
            continue
        if not is_taken and not _place_note(disk, dst_at, candidate, note, signature):
            continue
        try:
            # If we die here: a note without its file; the next attempt recognizes the signature and moves the file there.
            move(disk, src_at, name, dst_at, candidate)
        except FileExistsError:
            if not is_taken and exists(disk, src_at, name):  # else another process moved this file next to the shared note
                _remove_note(disk, dst_at, candidate, signature)
            continue
        except OSError:
            if not is_taken and not exists(disk, dst_at, candidate):
                _remove_note(disk, dst_at, candidate, signature)
            raise
        # another process that moves the same file may have removed the shared note
        _place_note(disk, dst_at, candidate, note, signature)
        return candidate
    raise AssertionError("free_names is infinite")


def _has_note(disk: Disk, at: Fd, candidate: bytes, signature: bytes) -> bool:
    return signature in read_note(disk, at, note_name(candidate)).splitlines()


def _remove_note(disk: Disk, at: Fd, candidate: bytes, signature: bytes) -> None:
    """Remove the note of a file that was not moved. Errors are ignored: retention removes the note later."""
    with contextlib.suppress(OSError):
        if _has_note(disk, at, candidate, signature):
            disk.unlink(at, note_name(candidate))


def _place_note(disk: Disk, at: Fd, candidate: bytes, note: bytes, signature: bytes) -> bool:
    """Write the note of a file that will be moved to ``candidate``; return False if the note's name is taken."""
    name = note_name(candidate)
    if exists(disk, at, name):
        text = read_note(disk, at, name)
        if signature in text.splitlines():
            return True
        age = time.time() - disk.stat(at, name).ctime_ns / 1e9
        is_users_file = exists(disk, at, note_name(name))  # a file with a note of its own was dropped, whatever it contains
        if is_users_file or not is_note(text) or age < STALE_NOTE_SECONDS:
            return False
        # If we die here: a note without its file is removed, as retention would do.
        disk.unlink(at, name)
    temp = TEMP_PREFIX + secrets.token_hex(8).encode() + b".note"
    # If we die before the rename: a temp, which retention removes.
    try:
        with closing(disk, disk.create(at, temp, NOTE_MODE)) as file:
            disk.write(file, note)
            share_as_parent(disk, at, file, is_folder=False)
        move(disk, at, temp, at, name)
    except FileExistsError:
        disk.unlink(at, temp)
        return False
    except OSError:
        with contextlib.suppress(OSError):
            disk.unlink(at, temp)
        raise
    return True


def read_note(disk: Disk, at: Fd, name: bytes) -> bytes:
    """Return the first NOTE_BYTES_MAX bytes of a file that may be a note; b"" if the file is unreadable."""
    try:
        with closing(disk, disk.open_file(at, name)) as file:
            return disk.read(file, NOTE_BYTES_MAX)
    except OSError:
        return b""
