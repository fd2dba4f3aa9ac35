"""Opening and making paths of folders, from descriptor to descriptor: no part may be a link."""

from contextlib import AbstractContextManager, nullcontext
from typing import Self

from inboxd.fs.names import candidate_names
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing


def make_path(disk: Disk, at: Fd, parts: tuple[bytes, ...], mode: int) -> tuple[Fd, tuple[bytes, ...]]:
    """Open a path of folders below ``at``, making what is missing; returns a descriptor that the caller closes, and the path.

    A part whose name is taken by something else gets the next free name like it, as a file would.
    """
    current, made = disk.open_folder(at, b"."), []
    for part in parts:
        with closing(disk, current):
            current, name = _make_or_open(disk, current, part, mode)
        made.append(name)
    return current, tuple(made)


def _make_or_open(disk: Disk, at: Fd, wanted: bytes, mode: int) -> tuple[Fd, bytes]:
    for name in candidate_names(wanted):
        try:
            # If we die here: an empty folder more, which the next try uses.
            disk.mkdir(at, name, mode)
        except FileExistsError:
            if disk.stat(at, name).kind is not FileKind.FOLDER:
                continue
        return disk.open_folder(at, name), name
    raise AssertionError("names never end")


def opened_path(disk: Disk, at: Fd, parts: tuple[bytes, ...]) -> AbstractContextManager[Fd]:
    """Open a path of folders below ``at`` for a with block; no part may be a symlink. No parts: it is ``at`` itself."""
    return closing(disk, open_path(disk, at, parts)) if parts else nullcontext(at)


class DirHandle:
    """Folders below one; the last stays open, for files come folder by folder."""

    def __init__(self, disk: Disk, top: Fd, mode: int | None = None) -> None:
        """Begin at ``top``, which stays the caller's to close. With a ``mode`` folders that are missing are made."""
        self._disk = disk
        self._top = top
        self._mode = mode
        self._parts: tuple[bytes, ...] = ()
        self._last: tuple[Fd, tuple[bytes, ...]] = top, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the last folder; another one may be asked for all the same."""
        fd, self._parts, self._last = self._last[0], (), (self._top, ())
        if fd != self._top:
            self._disk.close(fd)

    def open(self, parts: tuple[bytes, ...]) -> tuple[Fd, tuple[bytes, ...]]:
        """Return a folder's descriptor, which is open until another one is asked for, and its path, as in ``make_folders``."""
        if parts != self._parts:
            self.close()
            if parts:
                wanted = self._open(parts)
                self._parts, self._last = parts, wanted
        return self._last

    def _open(self, parts: tuple[bytes, ...]) -> tuple[Fd, tuple[bytes, ...]]:
        if self._mode is None:
            return open_path(self._disk, self._top, parts), parts
        return make_path(self._disk, self._top, parts, self._mode)


def open_path(disk: Disk, at: Fd, parts: tuple[bytes, ...]) -> Fd:
    """Open a path of folders below ``at``; no part may be a symlink. The caller closes it."""
    if parts:
        first, *parts_below = parts
        current = disk.open_folder(at, first)
    else:
        parts_below, current = [], disk.open_folder(at, b".")
    for part in parts_below:
        with closing(disk, current):
            current = disk.open_folder(current, part)
    return current
