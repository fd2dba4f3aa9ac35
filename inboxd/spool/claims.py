"""One inbox's claimed/ folder: taking files into a parcel, looking into parcels, splitting them, giving files back.

Paths are bytes, relative to inbox/ and, unchanged, to claimed/<parcel>/. Every function may find that somebody else was
quicker; a lost race is an answer, never an error.
"""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from inboxd.fs.folders import DirHandle, open_path
from inboxd.fs.names import TEMP_NAME
from inboxd.fs.rename import move_into_new, move_to_free_name
from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.fs.walk import Entry, walk
from inboxd.spool.layout import CLAIMED_MODE, Folders, is_parcel_id, split_path

MOVED_AWAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system says of a path that somebody else has moved away meanwhile."""


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What a claim got: the paths that are in the parcel now, and what the system said to those that it kept from us."""

    claimed: list[bytes]
    denied: list[tuple[bytes, OSError]]


def claim(disk: Disk, folders: Folders, parcel: str, paths: Iterable[bytes]) -> ClaimResult:
    """Rename files from inbox/ into a new parcel. Raises OSError if the parcel itself can't be made."""
    name = parcel.encode()
    # If we die here: nothing has happened.
    disk.mkdir(folders.claimed, name, CLAIMED_MODE)
    claimed = ClaimResult([], [])
    with (
        closing(disk, disk.open_folder(folders.claimed, name)) as home,
        DirHandle(disk, folders.inbox) as inbox,
        DirHandle(disk, home, CLAIMED_MODE) as parcel_home,
    ):
        for path in paths:
            try:
                # If we die here: what was renamed is in a parcel without a lease, which recovery publishes.
                won = _rename(disk, inbox, parcel_home, path)
                if won is not None:
                    claimed.claimed.append(won)
            except OSError as error:
                claimed.denied.append((path, error))
    if not claimed.claimed:
        remove_if_empty(disk, folders, parcel)
    return claimed


def _rename(disk: Disk, src: DirHandle, dst: DirHandle, path: bytes) -> bytes | None:
    """Rename one file under its own relative path from one folder to another.

    Returns the path that it got (a folder of it may have to be called otherwise), or None if somebody else has it.
    """
    parts, name = split_path(path)
    try:
        src_at, _ = src.open(parts)
        if parts:
            disk.stat(src_at, name)  # no folders are made for a file that is gone
        dst_at, made = dst.open(parts)
        move_into_new(disk, src_at, name, dst_at, name)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return None
        raise
    return b"/".join((*made, name))


def list_parcels(disk: Disk, folders: Folders) -> list[str]:
    """List the parcels in claimed/, oldest first. What does not have a parcel's name is none of ours."""
    return sorted(
        name.decode()
        for name, is_folder in disk.entries(folders.claimed)
        if is_folder and is_parcel_id(name.decode("ascii", "replace"))
    )


def list_files(disk: Disk, folders: Folders, parcel: str) -> list[bytes]:
    """List the files that are in a parcel now, sorted; [] if there is no such parcel."""
    found = _walk_parcel(disk, folders, parcel)
    return sorted(entry.path for entry in found if not entry.is_folder and not TEMP_NAME.fullmatch(entry.name))


def _walk_parcel(disk: Disk, folders: Folders, parcel: str) -> Iterator[Entry]:
    """Yield all that a parcel holds, folders after what is in them."""
    try:
        home = disk.open_folder(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return
        raise
    with closing(disk, home):
        yield from walk(disk, home)


def open_folder_of(disk: Disk, folders: Folders, parcel: str, path: bytes) -> tuple[Fd, bytes]:
    """Open the folder of one file in a parcel; returns it (the caller closes it) and the file's own name.

    Raises FileNotFoundError (or its kin) if the parcel or the folder is gone.
    """
    parts, name = split_path(path)
    return open_path(disk, folders.claimed, (parcel.encode(), *parts)), name


def split_off(disk: Disk, folders: Folders, parcel: str, path: bytes, into: str) -> bool:
    """Move one file into a parcel of its own; False if it is gone. The new parcel has no lease yet."""
    disk.mkdir(folders.claimed, into.encode(), CLAIMED_MODE)
    # If we die here: an empty parcel, which the next sweep removes; the file is where it was.
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(closing(disk, disk.open_folder(folders.claimed, into.encode())))
        try:
            old = stack.enter_context(closing(disk, disk.open_folder(folders.claimed, parcel.encode())))
            src, dst = stack.enter_context(DirHandle(disk, old)), stack.enter_context(DirHandle(disk, home, CLAIMED_MODE))
            won = _rename(disk, src, dst, path) is not None
        except FileNotFoundError:
            won = False
    # If we die here: the file is in a parcel without a lease, which recovery publishes.
    remove_if_empty(disk, folders, parcel)
    if not won:
        remove_if_empty(disk, folders, into)
    return won


def release_file(disk: Disk, folders: Folders, parcel: str, path: bytes) -> bool:
    """Put a claimed file back into inbox/ under its own path, or a free name like it; False if it is gone."""
    parts, _ = split_path(path)
    try:
        at, name = open_folder_of(disk, folders, parcel, path)
        with closing(disk, at):
            disk.stat(at, name)
            with DirHandle(disk, folders.inbox, 0o777) as branch:
                inbox, _ = branch.open(parts)
                # If we die here: the file is still claimed, or back in inbox/.
                move_to_free_name(disk, at, name, inbox, name)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return False
        raise
    remove_if_empty(disk, folders, parcel)
    return True


def remove_if_empty(disk: Disk, folders: Folders, parcel: str) -> None:
    """Remove a parcel's folders if nothing is in them any more; whatever is left keeps its folders."""
    try:
        for entry in _walk_parcel(disk, folders, parcel):
            # If we die here: an empty folder (or half a copy) in claimed/, which the next sweep removes.
            if entry.is_folder:
                disk.rmdir(entry.at, entry.name)
            elif TEMP_NAME.fullmatch(entry.name):
                disk.unlink(entry.at, entry.name)
        disk.rmdir(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno not in (*MOVED_AWAY, errno.ENOTEMPTY, errno.EEXIST):
            raise
