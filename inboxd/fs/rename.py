"""Moving one entry without ever overwriting: by rename, or by copy across file systems; and free names."""

import errno

from inboxd.fs.copy import move_by_copy
from inboxd.fs.names import candidate_names
from inboxd.fs.reserve import move_onto_reservation
from inboxd.fs.syscalls import Disk, Fd, NoReplaceUnsupported


def move(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry to a name that must be free.

    Raises FileExistsError if the name is taken, FileNotFoundError if the source is gone (somebody else moved it), and any
    other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has one of its two names.
        disk.rename(src_at, src, dst_at, dst)
    except NoReplaceUnsupported:
        move_onto_reservation(disk, src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        move_by_copy(disk, src_at, src, dst_at, dst)


def move_into_new(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry into a parcel that is being made: nobody else makes names there, so a plain rename overwrites nothing.

    Raises FileNotFoundError if the source is gone, and any other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has one of its two names.
        disk.rename_over(src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        move_by_copy(disk, src_at, src, dst_at, dst)


def move_to_free_name(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, wanted: bytes) -> bytes:
    """Move an entry to the wanted name or the next free one like it; returns the name it got."""
    for name in candidate_names(wanted):
        try:
            move(disk, src_at, src, dst_at, name)
        except FileExistsError:
            continue
        return name
    raise AssertionError("names never end")
