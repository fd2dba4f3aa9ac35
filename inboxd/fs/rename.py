"""Move one entry without overwriting: by a rename, or by a copy to another file system."""

import errno

from inboxd.fs.copy import copy_over, move_to_other_mount
from inboxd.fs.names import free_names
from inboxd.fs.reserve import move_onto_reservation
from inboxd.fs.syscalls import Disk, Fd, FileKind, NoReplaceUnsupported

_NO_FILE = (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)


def move(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry to a name that must be free.

    Raises FileExistsError if the name is taken, FileNotFoundError if the source is missing (another process moved it), and any
    other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has its old or its new name.
        disk.rename(src_at, src, dst_at, dst)
    except NoReplaceUnsupported:
        move_onto_reservation(disk, src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        move_to_other_mount(disk, src_at, src, dst_at, dst)


def exists(disk: Disk, at: Fd, name: bytes) -> bool:
    """Return whether an entry of any type has a name. Raises OSError other than FileNotFoundError."""
    try:
        disk.stat(at, name)
    except FileNotFoundError:
        return False
    return True


def move_into_new(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
    """Move an entry into a new parcel, where only this process creates names: a plain rename overwrites nothing there.

    Raises FileNotFoundError if the source is missing, and any other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has its old or its new name.
        disk.rename_over(src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        move_to_other_mount(disk, src_at, src, dst_at, dst)


def move_over(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> bool:
    """Move a file to a name, and replace the file that has it, at once; False if that is no file, and stays.

    To another file system, the copy replaces it once it is complete and stored. Raises FileNotFoundError if the source is
    missing, and any other OSError with the source untouched.
    """
    try:
        # If we die here: the entry has its old or its new name.
        disk.rename_over(src_at, src, dst_at, dst)
    except OSError as error:
        if error.errno in _NO_FILE:
            return False
        if error.errno != errno.EXDEV:
            raise
        if exists(disk, dst_at, dst) and disk.stat(dst_at, dst).kind is FileKind.FOLDER:
            return False
        copy_over(disk, src_at, src, dst_at, dst)
    return True


def move_to_free_name(disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, wanted_name: bytes) -> bytes:
    """Move an entry to ``wanted_name`` or, if that is taken, the next of ``free_names``; return the name it got."""
    for name in free_names(wanted_name, lambda name: exists(disk, dst_at, name)):
        try:
            move(disk, src_at, src, dst_at, name)
        except FileExistsError:
            continue
        return name
    raise AssertionError("free_names is infinite")
