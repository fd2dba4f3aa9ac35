"""Walk a tree of any depth and breadth with one open folder at a time and only the names of sub-folders in memory."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inboxd.fs.syscalls import Disk, Fd

SKIPPED_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory entry: its open folder, that folder's path ("" or with a slash at its end), and the entry's name."""

    at: Fd
    prefix: bytes
    name: bytes
    is_folder: bool

    @property
    def path(self) -> bytes:
        """The path below the top folder."""
        return self.prefix + self.name


@dataclass(slots=True)
class _Level:
    """A folder between the top and the current position: its device and inode, its name, and its sub-folders not yet walked."""

    identity: tuple[int, int]
    name: bytes
    pending: list[bytes]


def walk(disk: Disk, top: Fd, enter: Callable[[Entry], bool] = lambda _: True) -> Iterator[Entry]:
    """Yield every entry below a folder: its files first, then each sub-folder after that sub-folder's contents.

    A sub-folder that can't be opened, or for which ``enter`` returns False, is yielded without its contents. If a folder is
    moved out of the tree during the walk, the walk ends early; callers retry later. Raises OSError if the top is unreadable.
    """
    current, prefix = disk.open_folder(top, b"."), b""
    try:
        levels = [_Level(_identity(disk, current), b"", [])]
        yield from _list_files(disk, current, prefix, levels[-1])
        while True:
            level = levels[-1]
            if level.pending:
                folder = Entry(current, prefix, level.pending.pop(), is_folder=True)
                child = _open(disk, current, folder.name) if enter(folder) else None
                if child is None:
                    yield folder
                    continue
                disk.close(current)
                current, prefix = child, folder.path + b"/"
                levels.append(_Level(_identity(disk, current), folder.name, []))
                yield from _list_files(disk, current, prefix, levels[-1])
                continue
            levels.pop()
            if not levels:
                return
            parent = disk.open_folder(current, b"..")
            disk.close(current)
            current, prefix = parent, prefix[: -len(level.name) - 1]
            if _identity(disk, current) != levels[-1].identity:
                return  # the folder was moved: its parent is outside the walked tree
            yield Entry(current, prefix, level.name, is_folder=True)
    finally:
        disk.close(current)


def _identity(disk: Disk, folder: Fd) -> tuple[int, int]:
    stat = disk.fstat(folder)
    return stat.dev, stat.ino


def _open(disk: Disk, at: Fd, name: bytes) -> Fd | None:
    """Open a sub-folder from which ".." can be opened; return None if either is not permitted, or the sub-folder is missing."""
    try:
        child = disk.open_folder(at, name)
    except OSError as error:
        if error.errno in SKIPPED_ERRORS:
            return None
        raise
    try:
        disk.close(disk.open_folder(child, b".."))
    except OSError as error:
        disk.close(child)
        if error.errno in SKIPPED_ERRORS:  # the sub-folder has read permission, but no search permission
            return None
        raise
    return child


def _list_files(disk: Disk, folder: Fd, prefix: bytes, level: _Level) -> Iterator[Entry]:
    for name, is_folder in disk.entries(folder):
        if is_folder:
            level.pending.append(name)
        else:
            yield Entry(folder, prefix, name, is_folder=False)
