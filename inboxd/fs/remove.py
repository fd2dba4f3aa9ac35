"""Remove a tree of any depth, whatever permissions its folders have."""

import contextlib

from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.fs.walk import Entry, walk

OWNER_FOLDER, OWNER_FILE = 0o700, 0o600
"""The permissions that the owner of a folder or file needs to read and to change it."""


def open_up(disk: Disk, entry: Entry, permissions: int) -> None:
    """Give the owner of an entry these permissions, if that is us; else leave it as it is."""
    with contextlib.suppress(OSError):
        mode = disk.stat(entry.at, entry.name).mode
        if mode & permissions != permissions:
            disk.change_mode(entry.at, entry.name, mode | permissions)


def remove_tree(disk: Disk, at: Fd, name: bytes) -> None:
    """Remove a folder and everything in it. Raises OSError; a folder that is not there is no error."""

    def enter(folder: Entry) -> bool:
        open_up(disk, folder, OWNER_FOLDER)
        return True

    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        open_up(disk, Entry(at, b"", name, is_folder=True), OWNER_FOLDER)
        with closing(disk, disk.open_folder(at, name)) as top:
            for entry in walk(disk, top, enter):
                with contextlib.suppress(FileNotFoundError):
                    disk.rmdir(entry.at, entry.name) if entry.is_folder else disk.unlink(entry.at, entry.name)
        disk.rmdir(at, name)
