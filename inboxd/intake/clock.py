"""The clock that a file's age is measured by: a file server's clock may differ from the local one."""

import time

from inboxd.fs.syscalls import Disk, Fd
from inboxd.spool.layout import Folders


def folder_clock_now(disk: Disk, folders: Folders, *, network: bool) -> float:
    """Return the current unix time by the clock of the machine that stores the inbox's folders."""
    return file_system_time(disk, folders.claimed) if network else time.time()


def file_system_time(disk: Disk, folder: Fd) -> float:
    """Set the times of an open folder to now, and return that time, in unix seconds, as its file system recorded it."""
    disk.touch(folder)
    return disk.fstat(folder).mtime_ns / 1e9
