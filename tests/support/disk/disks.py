"""Disks without RENAME_NOREPLACE, across file systems, with errors, and with races."""

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path

from inboxd.fs.syscalls import Disk, Fd, NoReplaceUnsupported


class LinkingDisk(Disk):
    """A file system without RENAME_NOREPLACE, such as NFS and some of FUSE: a move reserves the new name by a link."""

    def rename(self, *_: object) -> None:
        raise NoReplaceUnsupported(errno.EINVAL, "RENAME_NOREPLACE is not supported")


class TwoDisks(Disk):
    """Every folder on its own file system: a move copies the file."""

    def rename(self, *_: object) -> None:
        raise OSError(errno.EXDEV, "across file systems")

    rename_over = rename

    def fsync(self, fd: Fd) -> None:
        """Do nothing, to save time: these tests don't simulate power cuts."""


class ElsewhereDisk(Disk):
    """Folders whose path has "elsewhere" in it are on another file system."""

    def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        self._refuse_across(src_at, dst_at)
        super().rename(src_at, src, dst_at, dst)

    def rename_over(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        self._refuse_across(src_at, dst_at)
        super().rename_over(src_at, src, dst_at, dst)

    def _refuse_across(self, *folders: Fd) -> None:
        if len({"elsewhere" in str(Path(f"/proc/self/fd/{folder}").readlink()) for folder in folders}) > 1:
            raise OSError(errno.EXDEV, "across file systems")


def kind_of(disk: Disk) -> str:
    """Return how a disk moves a file: "rename", "link" or "copy"."""
    return {LinkingDisk: "link", TwoDisks: "copy"}.get(type(disk), "rename")


class RefusingDisk(Disk):
    """Fails one operation on one name with this errno."""

    def __init__(self, operation: str, name: bytes, code: int) -> None:
        self._code = code
        self._name = name
        self._real = getattr(super(), operation)
        setattr(self, operation, self._refuse)

    def _refuse(self, at: Fd, name: bytes, *rest: object) -> object:
        if name == self._name:
            raise OSError(self._code, "refused")
        return self._real(at, name, *rest)


class MovingDisk(Disk):
    """Calls ``before`` with the source name just before each move."""

    def __init__(self, before: Callable[[bytes], object]) -> None:
        self._before = before

    def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        self._before(src)
        super().rename(src_at, src, dst_at, dst)

    def rename_over(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        self._before(src)
        super().rename_over(src_at, src, dst_at, dst)


class RacingDisk:
    """Runs all of ``rival`` just before operation number ``at``; with ``only``, before the ``at``-th operation of this name."""

    def __init__(self, target: Disk, rival: Callable[[], object], at: int = 1, *, only: str = "") -> None:
        self._target = target
        self._rival = rival
        self._at = at
        self._only = only
        self.count = 0

    @property
    def raced(self) -> bool:
        """Whether the rival has run."""
        return self.count >= self._at

    def __getattr__(self, name: str) -> Callable[..., object]:
        operation = getattr(self._target, name)
        return operation if name == "close" or (self._only and name != self._only) else partial(self._race, operation)

    def _race(self, operation: Callable[..., object], *args: object) -> object:
        self.count += 1
        if self.count == self._at:
            self._rival()
        return operation(*args)
