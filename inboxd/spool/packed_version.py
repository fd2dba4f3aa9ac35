"""The version of a claimed file, which filing compares: a file that was changed after it was packed was not handled."""

from typing import NamedTuple

from inboxd.fs.mounts import find_mount
from inboxd.fs.syscalls import Disk, Fd, Stat, WriterCheck, closing
from inboxd.spool.layout import Folders


class PackedVersion(NamedTuple):
    """A file's size in bytes and its times in nanoseconds, after its claim. A new inode has another ctime, too.

    ``is_unsure``: the system could not show whether a program has the file open for writing.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    is_unsure: bool = False


class FileChanged(Exception):
    """A claimed file is not as it was when it was packed, or is about to be changed."""


def packed_version(stat: Stat, *, is_unsure: bool = False) -> PackedVersion:
    """Return the version of the file with this ``stat``."""
    return PackedVersion(stat.size, stat.mtime_ns, stat.ctime_ns, is_unsure)


def raise_if_changed(disk: Disk, folders: Folders, stat: Stat, expected: PackedVersion | None) -> None:
    """Raise FileChanged if a claimed file has another version than ``expected``; None: it is not known.

    On network and FUSE mounts the ctime does not count: there a client may learn late that its own rename has changed it.
    """
    if expected is None or (stat.size, stat.mtime_ns, stat.ctime_ns) == expected[:3]:
        return
    if (stat.size, stat.mtime_ns) == expected[:2] and find_mount(disk, folders.claimed).is_network:
        return
    raise FileChanged


def raise_if_open(disk: Disk, at: Fd, name: bytes) -> None:
    """Raise FileChanged if a program has a file open for writing, as far as the system shows that."""
    try:
        with closing(disk, disk.open_file(at, name)) as file:
            is_open = disk.check_writers(file) is WriterCheck.BUSY
    except OSError:  # unreadable, or gone: the move decides
        return
    if is_open:
        raise FileChanged
