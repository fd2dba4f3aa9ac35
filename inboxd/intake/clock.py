"""The clock that an inbox's files are judged by: a file server's may differ from ours."""

import time

from inboxd.fs.syscalls import Disk, Fd
from inboxd.spool.layout import Folders


def scan_time(disk: Disk, folders: Folders, *, network: bool) -> float:
    """Return the time, unix seconds, by the clock of the machine that an inbox's folders are on."""
    return file_system_time(disk, folders.claimed) if network else time.time()


def file_system_time(disk: Disk, folder: Fd) -> float:
    """Return the time, unix seconds, by a file system's own clock."""
    disk.touch(folder)
    return disk.fstat(folder).mtime_ns / 1e9
