"""The clock that files' ages are measured by: that of the machine that stores them, which may differ from the local one."""

import contextlib
import time

from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.spool.layout import Folders

CLOCK_FILE = b".inboxd-clock"
"""Name of the empty file that is made and removed in a folder whose clock is asked for."""


def folder_clock_now(disk: Disk, folders: Folders, *, network: bool) -> float:
    """Return the current unix time by the clock of the machine that stores inbox/."""
    if not network:
        return time.time()
    if disk.fstat(folders.claimed).dev == disk.fstat(folders.inbox).dev:
        return file_system_time(disk, folders.claimed)
    return time_of_new_file(disk, folders.inbox)


def file_system_time(disk: Disk, folder: Fd) -> float:
    """Set the times of an open folder to now, and return that time, in unix seconds, as its file system recorded it."""
    disk.touch(folder)
    return disk.fstat(folder).mtime_ns / 1e9


def time_of_new_file(disk: Disk, folder: Fd) -> float:
    """Make and remove an empty file, and return its time in unix seconds; the local time where no file can be made.

    For folders of other people, whose own times must stay as they are.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(folder, CLOCK_FILE)  # a crash may have left it
        # If we die here: a hidden empty file, which scans ignore and the next call removes.
        with closing(disk, disk.create(folder, CLOCK_FILE, 0o600)) as file:
            now = disk.fstat(file).mtime_ns / 1e9
        disk.unlink(folder, CLOCK_FILE)
    except OSError:
        return time.time()
    return now
