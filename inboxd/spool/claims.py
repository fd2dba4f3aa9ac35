"""One inbox's claimed/ folder: taking files into a parcel, looking into parcels, splitting them, giving files back.

Paths are bytes, relative to inbox/ and, unchanged, to claimed/<parcel>/. Every function may find that somebody else was
quicker; a lost race is an answer, never an error.
"""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from inboxd.fs.folders import Branch, open_path
from inboxd.fs.names import TEMP_NAME
from inboxd.fs.rename import move_free, move_in
from inboxd.fs.syscalls import Disk, Fd, held
from inboxd.fs.walk import Entry, walk
from inboxd.spool.layout import CLAIMED_MODE, Folders, is_parcel_id, split_path

LOST = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system says of a path that somebody else has moved away meanwhile."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim got: the paths that are in the parcel now, and what the system said to those that it kept from us."""

    won: list[bytes]
    denied: list[tuple[bytes, OSError]]


def claim(disk: Disk, folders: Folders, parcel: str, paths: Iterable[bytes]) -> Claim:
    """Rename files from inbox/ into a new parcel. Raises OSError if the parcel itself can't be made."""
    name = parcel.encode()
    # If we die here: nothing has happened.
    disk.mkdir(folders.claimed, name, CLAIMED_MODE)
    claimed = Claim([], [])
    with (
        held(disk, disk.open_folder(folders.claimed, name)) as home,
        Branch(disk, folders.inbox) as inbox,
        Branch(disk, home, CLAIMED_MODE) as parcel_home,
    ):
        for path in paths:
            try:
                # If we die here: what was renamed is in a parcel without a lease, which recovery publishes.
                won = _rename(disk, inbox, parcel_home, path)
                if won is not None:
                    claimed.won.append(won)
            except OSError as error:
                claimed.denied.append((path, error))
    if not claimed.won:
        discard(disk, folders, parcel)
    return claimed


def _rename(disk: Disk, src: Branch, dst: Branch, path: bytes) -> bytes | None:
    """Rename one file under its own relative path from one folder to another.

    Returns the path that it got (a folder of it may have to be called otherwise), or None if somebody else has it.
    """
    parts, name = split_path(path)
    try:
        src_at, _ = src.at(parts)
        if parts:
            disk.stat(src_at, name)  # no folders are made for a file that is gone
        dst_at, made = dst.at(parts)
        move_in(disk, src_at, name, dst_at, name)
    except OSError as error:
        if error.errno in LOST:
            return None
        raise
    return b"/".join((*made, name))


def parcels(disk: Disk, folders: Folders) -> list[str]:
    """List the parcels in claimed/, oldest first. What does not have a parcel's name is none of ours."""
    return sorted(
        name.decode()
        for name, is_folder in disk.entries(folders.claimed)
        if is_folder and is_parcel_id(name.decode("ascii", "replace"))
    )


def files(disk: Disk, folders: Folders, parcel: str) -> list[bytes]:
    """List the files that are in a parcel now, sorted; [] if there is no such parcel."""
    found = _walk(disk, folders, parcel)
    return sorted(entry.path for entry in found if not entry.is_folder and not TEMP_NAME.fullmatch(entry.name))


def _walk(disk: Disk, folders: Folders, parcel: str) -> Iterator[Entry]:
    """Yield all that a parcel holds, folders after what is in them."""
    try:
        home = disk.open_folder(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno in LOST:
            return
        raise
    with held(disk, home):
        yield from walk(disk, home)


def open_in(disk: Disk, folders: Folders, parcel: str, path: bytes) -> tuple[Fd, bytes]:
    """Open the folder of one file in a parcel; returns it (the caller closes it) and the file's own name.

    Raises FileNotFoundError (or its kin) if the parcel or the folder is gone.
    """
    parts, name = split_path(path)
    return open_path(disk, folders.claimed, (parcel.encode(), *parts)), name


def split(disk: Disk, folders: Folders, parcel: str, path: bytes, into: str) -> bool:
    """Move one file into a parcel of its own; False if it is gone. The new parcel has no lease yet."""
    disk.mkdir(folders.claimed, into.encode(), CLAIMED_MODE)
    # If we die here: an empty parcel, which the next sweep removes; the file is where it was.
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(held(disk, disk.open_folder(folders.claimed, into.encode())))
        try:
            old = stack.enter_context(held(disk, disk.open_folder(folders.claimed, parcel.encode())))
            src, dst = stack.enter_context(Branch(disk, old)), stack.enter_context(Branch(disk, home, CLAIMED_MODE))
            won = _rename(disk, src, dst, path) is not None
        except FileNotFoundError:
            won = False
    # If we die here: the file is in a parcel without a lease, which recovery publishes.
    discard(disk, folders, parcel)
    if not won:
        discard(disk, folders, into)
    return won


def release(disk: Disk, folders: Folders, parcel: str, path: bytes) -> bool:
    """Put a claimed file back into inbox/ under its own path, or a free name like it; False if it is gone."""
    parts, _ = split_path(path)
    try:
        at, name = open_in(disk, folders, parcel, path)
        with held(disk, at):
            disk.stat(at, name)
            with Branch(disk, folders.inbox, 0o777) as branch:
                inbox, _ = branch.at(parts)
                # If we die here: the file is still claimed, or back in inbox/.
                move_free(disk, at, name, inbox, name)
    except OSError as error:
        if error.errno in LOST:
            return False
        raise
    discard(disk, folders, parcel)
    return True


def discard(disk: Disk, folders: Folders, parcel: str) -> None:
    """Remove a parcel's folders if nothing is in them any more; whatever is left keeps its folders."""
    try:
        for entry in _walk(disk, folders, parcel):
            # If we die here: an empty folder (or half a copy) in claimed/, which the next sweep removes.
            if entry.is_folder:
                disk.rmdir(entry.at, entry.name)
            elif TEMP_NAME.fullmatch(entry.name):
                disk.unlink(entry.at, entry.name)
        disk.rmdir(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno not in (*LOST, errno.ENOTEMPTY, errno.EEXIST):
            raise
