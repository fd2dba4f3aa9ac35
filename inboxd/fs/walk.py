"""Walking through a tree of any depth and any breadth: one folder open at a time, and only sub-folders' names remembered."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inboxd.fs.syscalls import Disk, Fd

SKIPPED_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: the open folder that it is in, that folder's path ("" or ending in a slash), and its name."""

    at: Fd
    prefix: bytes
    name: bytes
    is_folder: bool

    @property
    def path(self) -> bytes:
        """The path below the top."""
        return self.prefix + self.name


@dataclass(slots=True)
class _Level:
    """A folder on the way down: what tells it from others, its name, and its sub-folders that are still to be walked."""

    identity: tuple[int, int]
    name: bytes
    pending: list[bytes]


def walk(disk: Disk, top: Fd, enter: Callable[[Entry], bool] = lambda _: True) -> Iterator[Entry]:
    """Yield every entry below a folder: its files first, then each sub-folder after all that is in it.

    Sub-folders that ``enter`` does not want, or that can't be opened, are told and not walked through. What moves away
    meanwhile ends the walk early: whoever walks comes again. Raises OSError if the top can't be read.
    """
    here, prefix = disk.open_folder(top, b"."), b""
    try:
        levels = [_Level(_identity(disk, here), b"", [])]
        yield from _list_files(disk, here, prefix, levels[-1])
        while True:
            level = levels[-1]
            if level.pending:
                folder = Entry(here, prefix, level.pending.pop(), is_folder=True)
                below = _open(disk, here, folder.name) if enter(folder) else None
                if below is None:
                    yield folder
                    continue
                disk.close(here)
                here, prefix = below, folder.path + b"/"
                levels.append(_Level(_identity(disk, here), folder.name, []))
                yield from _list_files(disk, here, prefix, levels[-1])
                continue
            levels.pop()
            if not levels:
                return
            above = disk.open_folder(here, b"..")
            disk.close(here)
            here, prefix = above, prefix[: -len(level.name) - 1]
            if _identity(disk, here) != levels[-1].identity:
                return  # moved away under us: where we are now is not ours to walk in
            yield Entry(here, prefix, level.name, is_folder=True)
    finally:
        disk.close(here)


def _identity(disk: Disk, folder: Fd) -> tuple[int, int]:
    look = disk.fstat(folder)
    return look.dev, look.ino


def _open(disk: Disk, at: Fd, name: bytes) -> Fd | None:
    """Open a sub-folder that we can come up from again; None if we can't, or it is gone."""
    try:
        below = disk.open_folder(at, name)
    except OSError as error:
        if error.errno in SKIPPED_ERRORS:
            return None
        raise
    try:
        disk.close(disk.open_folder(below, b".."))
    except OSError as error:
        disk.close(below)
        if error.errno in SKIPPED_ERRORS:  # readable, but not to be entered
            return None
        raise
    return below


def _list_files(disk: Disk, folder: Fd, prefix: bytes, level: _Level) -> Iterator[Entry]:
    for name, is_folder in disk.entries(folder):
        if is_folder:
            level.pending.append(name)
        else:
            yield Entry(folder, prefix, name, is_folder=False)
