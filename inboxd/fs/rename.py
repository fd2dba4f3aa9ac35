"""Moving one entry without ever overwriting: by rename, or by copy across file systems; and free names."""

import errno

from inboxd.fs.copy import _copy_across
from inboxd.fs.names import names_like
from inboxd.fs.reserve import _move_onto_own
from inboxd.fs.syscalls import CantNoReplace, Disk, Fd


def move(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry to a name that must be free.

    Raises FileExistsError if the name is taken, FileNotFoundError if the source is gone (somebody else moved it), and any
    other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has one of its two names.
        disk.rename(src_at, src, dst_at, dst)
    except CantNoReplace:
        _move_onto_own(disk, src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_across(disk, src_at, src, dst_at, dst)


def move_in(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry into a parcel that is being made: nobody else makes names there, so a plain rename overwrites nothing.

    Raises FileNotFoundError if the source is gone, and any other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has one of its two names.
        disk.rename_over(src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_across(disk, src_at, src, dst_at, dst)


def move_free(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, wanted: bytes) -> bytes:
    """Move an entry to the wanted name or the next free one like it; returns the name it got."""
    for name in names_like(wanted):
        try:
            move(disk, src_at, src, dst_at, name)
        except FileExistsError:
            continue
        return name
    raise AssertionError("names never end")
