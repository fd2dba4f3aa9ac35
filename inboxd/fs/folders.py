"""Open and create paths of folders, each relative to its parent's descriptor, so that no part may be a symlink."""

from contextlib import AbstractContextManager, nullcontext
from typing import Self

from inboxd.fs.names import candidate_names
from inboxd.fs.sharing import share_as_parent
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing


def make_path(disk: Disk, at: Fd, parts: tuple[bytes, ...], mode: int) -> tuple[Fd, tuple[bytes, ...]]:
    """Open a path of folders below ``at`` and create missing ones; return a descriptor, which the caller closes, and the path.

    If a file or symlink has the name of a part, that folder gets the next free name, as a file would.
    """
    current, names = disk.open_folder(at, b"."), []
    for part in parts:
        with closing(disk, current):
            current, name = _make_or_open(disk, current, part, mode)
        names.append(name)
    return current, tuple(names)


def _make_or_open(disk: Disk, at: Fd, wanted_name: bytes, mode: int) -> tuple[Fd, bytes]:
    for name in candidate_names(wanted_name):
        try:
            # If we die here: an additional empty folder, which the next attempt uses.
            disk.mkdir(at, name, mode)
        except FileExistsError:
            if disk.stat(at, name).kind is not FileKind.FOLDER:
                continue
        else:
            return _open_new(disk, at, name), name
        return disk.open_folder(at, name), name
    raise AssertionError("candidate_names is infinite")


def _open_new(disk: Disk, at: Fd, name: bytes) -> Fd:
    folder = disk.open_folder(at, name)
    share_as_parent(disk, at, folder, is_folder=True)
    return folder


def opened_path(disk: Disk, at: Fd, parts: tuple[bytes, ...]) -> AbstractContextManager[Fd]:
    """Open a path of folders below ``at`` for a with block; without parts, that is ``at`` itself, which stays open."""
    return closing(disk, open_path(disk, at, parts)) if parts else nullcontext(at)


class DirHandle:
    """Opens folders below one top folder and keeps the last one open, because consecutive files often share a folder."""

    def __init__(self, disk: Disk, top: Fd, mode: int | None = None) -> None:
        """Start at ``top``, which the caller closes. With a ``mode``, missing folders are created."""
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
        """Close the folder opened last. The handle stays usable."""
        fd, self._parts, self._last = self._last[0], (), (self._top, ())
        if fd != self._top:
            self._disk.close(fd)

    def open(self, parts: tuple[bytes, ...]) -> tuple[Fd, tuple[bytes, ...]]:
        """Return a folder's descriptor, open until the next call with another path, and its path (``make_path``)."""
        if parts != self._parts:
            self.close()
            if parts:
                self._last = self._open(parts)
                self._parts = parts
        return self._last

    def _open(self, parts: tuple[bytes, ...]) -> tuple[Fd, tuple[bytes, ...]]:
        if self._mode is None:
            return open_path(self._disk, self._top, parts), parts
        return make_path(self._disk, self._top, parts, self._mode)


def open_path(disk: Disk, at: Fd, parts: tuple[bytes, ...]) -> Fd:
    """Open a path of folders below ``at`` and return a descriptor, which the caller closes; a symlink raises OSError."""
    first, *rest = parts or (b".",)
    current = disk.open_folder(at, first)
    for part in rest:
        with closing(disk, current):
            current = disk.open_folder(current, part)
    return current
