"""Filing away: from claimed/ to done/, or to failed/ with a note. Whoever renames first has decided; the rest finds nothing."""

import contextlib
import errno
import secrets
import time
from collections.abc import Callable
from typing import Self

from inboxd.fs.folders import DirHandle, opened_path
from inboxd.fs.names import TEMP_PREFIX, candidate_names
from inboxd.fs.rename import move, move_to_free_name
from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.spool.claims import MOVED_AWAY
from inboxd.spool.error_note import NOTE_BYTES_MAX, is_note, note_name, signature
from inboxd.spool.layout import DONE, FAILED, Folders, split_path

FOLDER_MODE = 0o777
"""Folders in done/ and failed/ belong to the people: the umask and the folder's default ACL say who may."""
NOTE_MODE = 0o666
_ATTEMPTS = 5
STALE_NOTE_SECONDS = 60.0
"""A note of ours without its file is being filed just now; when older, its file was taken away, and the name is free."""


class FilingTarget:
    """Open directories on the way from claimed/ to done/ or failed/: those opened for one file stay open for the next."""

    def __init__(self, disk: Disk, folders: Folders, to: Fd) -> None:
        self.claimed = DirHandle(disk, folders.claimed)
        self.destination = DirHandle(disk, to, FOLDER_MODE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.claimed.close()
        self.destination.close()


def file_done(disk: Disk, folders: Folders, parcel: str, path: bytes, target: FilingTarget | None = None) -> bytes | None:
    """Move a claimed file to done/ under its own path, or a free name like it.

    Returns the path it got below done/, or None if somebody else has filed it. Raises OSError; the file then is still claimed.
    A caller that files many passes one ``target`` for all of them.
    """
    # If we die here: the file is still claimed, its outcome is stored, and a sweep files it.
    with (
        _naming_folder(DONE),
        contextlib.nullcontext(target) if target else FilingTarget(disk, folders, folders.done) as to_done,
    ):
        return _file(disk, to_done, parcel, path, move_to_free_name)


def file_failed(disk: Disk, folders: Folders, parcel: str, path: bytes, note: bytes) -> bytes | None:
    """Move a claimed file to failed/, with its note beside it, under its own path or a free name like it.

    The note comes first, so that no file lies in failed/ without one. Returns the path below failed/, or None if somebody
    else has filed it. Raises OSError; the file then is still claimed.
    """

    def with_note(disk: Disk, at: Fd, name: bytes, home: Fd, wanted: bytes) -> bytes:
        return _move_with_note(disk, at, name, home, wanted, note, signature(path, parcel))

    with _naming_folder(FAILED), FilingTarget(disk, folders, folders.failed) as target:
        return _file(disk, target, parcel, path, with_note, prepared=True)


def is_filed(disk: Disk, folders: Folders, path: bytes) -> bool:
    """Tell whether something lies under a path in done/ or failed/. Raises OSError if that can't be seen."""
    parts, name = split_path(path)
    for folder in (folders.done, folders.failed):
        try:
            with opened_path(disk, folder, parts) as home:
                if exists(disk, home, name):
                    return True
        except OSError as error:
            if error.errno not in MOVED_AWAY:
                raise
    return False


class _naming_folder:  # noqa: N801 - read as a word: with _named(folder)
    """Lets an error say into which folder a file could not be moved."""

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
    target: FilingTarget,
    parcel: str,
    path: bytes,
    mover: Callable[[Disk, Fd, bytes, Fd, bytes], bytes],
    *,
    prepared: bool = False,
) -> bytes | None:
    """Move a claimed file. A folder on its target may be tidied away just before the move: then it is made again.

    Nothing is made or ``prepared`` for a file that is gone.
    """
    parts, name = split_path(path)
    for _ in range(_ATTEMPTS):
        try:
            at, _ = target.claimed.open((parcel.encode(), *parts))
        except OSError as error:
            if error.errno in MOVED_AWAY:
                return None
            raise
        if (prepared or parts) and not exists(disk, at, name):
            return None
        try:
            home, made = target.destination.open(parts)
            return b"/".join((*made, mover(disk, at, name, home, name)))
        except FileNotFoundError:
            if not exists(disk, at, name):
                return None
            target.destination.close()
    raise OSError(errno.EAGAIN, "its place is taken away again and again", path)


def _move_with_note(disk: Disk, at: Fd, name: bytes, home: Fd, wanted: bytes, note: bytes, signature: bytes) -> bytes:
    for candidate in candidate_names(wanted):
        there = exists(disk, home, candidate)
        if there and not _has_note(disk, home, candidate, signature):
            continue
        # there, and noted as this very file: an earlier try died between two names, and moving will end what it began
        if not there and not _place_note(disk, home, candidate, note, signature):
            continue
        try:
            # If we die here: the note waits for its file; the next try knows it by its signature, and moves the file to it.
            move(disk, at, name, home, candidate)
        except FileExistsError:
            if not there and exists(disk, at, name):  # else another has moved this very file to the note that we share
                _remove_note(disk, home, candidate, signature)
            continue
        except OSError:
            if not there and not exists(disk, home, candidate):
                _remove_note(disk, home, candidate, signature)
            raise
        # another mover of this very file may have taken back the note that both of us counted on
        _place_note(disk, home, candidate, note, signature)
        return candidate
    raise AssertionError("names never end")


def _has_note(disk: Disk, home: Fd, candidate: bytes, signature: bytes) -> bool:
    return signature in read_note(disk, home, note_name(candidate)).splitlines()


def _remove_note(disk: Disk, home: Fd, candidate: bytes, signature: bytes) -> None:
    """Remove our note, whose file did not come."""
    with contextlib.suppress(OSError):
        if _has_note(disk, home, candidate, signature):
            disk.unlink(home, note_name(candidate))


def _place_note(disk: Disk, home: Fd, candidate: bytes, note: bytes, signature: bytes) -> bool:
    """Put a note under a file's future name; False if another file's note has that place."""
    name = note_name(candidate)
    if exists(disk, home, name):
        text = read_note(disk, home, name)
        if signature in text.splitlines():
            return True
        age = time.time() - disk.stat(home, name).ctime_ns / 1e9
        dropped = exists(disk, home, note_name(name))  # what has a note itself is a person's file, whatever it says
        if dropped or not is_note(text) or age < STALE_NOTE_SECONDS:
            return False
        # If we die here: a note without a file is gone, as it would be in the end.
        disk.unlink(home, name)
    temp = TEMP_PREFIX + secrets.token_hex(8).encode() + b".note"
    # If we die here, before the rename: a temp, which retention removes.
    try:
        with closing(disk, disk.create(home, temp, NOTE_MODE)) as file:
            disk.write(file, note)
        move(disk, home, temp, home, name)
    except FileExistsError:
        disk.unlink(home, temp)
        return False
    except OSError:
        with contextlib.suppress(OSError):
            disk.unlink(home, temp)
        raise
    return True


def read_note(disk: Disk, at: Fd, name: bytes) -> bytes:
    """Return the beginning of a file that may be a note of ours; b"" if it can't be read."""
    try:
        with closing(disk, disk.open_file(at, name)) as file:
            return disk.read(file, NOTE_BYTES_MAX)
    except OSError:
        return b""


def exists(disk: Disk, at: Fd, name: bytes) -> bool:
    """Tell whether a name is taken, by whatever."""
    try:
        disk.stat(at, name)
    except FileNotFoundError:
        return False
    return True
