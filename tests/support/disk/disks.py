"""Disks of another kind than the one that the tests run on."""

import errno
from collections.abc import Callable
from functools import partial

from inboxd.fs.syscalls import Disk, Fd, NoReplaceUnsupported


class LinkingDisk(Disk):
    """A file system without a rename that refuses to overwrite, as NFS is and some FUSE: moves reserve names by links."""

    def rename(self, *_: object) -> None:
        raise NoReplaceUnsupported(errno.EINVAL, "no such rename here")


class TwoDisks(Disk):
    """Every folder on a file system of its own: moves copy."""

    def rename(self, *_: object) -> None:
        raise OSError(errno.EXDEV, "across file systems")

    rename_over = rename

    def fsync(self, fd: Fd) -> None:
        """Save the time: no test here can cut the power."""


def kind_of(disk: Disk) -> str:
    """Tell how a disk moves a file."""
    return {LinkingDisk: "link", TwoDisks: "copy"}.get(type(disk), "rename")


class RefusingDisk(Disk):
    """Refuses one operation on one name."""

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
    """Tells of each move just before it is made, by the name that is moved."""

    def __init__(self, before: Callable[[bytes], object]) -> None:
        self._before = before

    def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        self._before(src)
        super().rename(src_at, src, dst_at, dst)

    def rename_over(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        self._before(src)
        super().rename_over(src_at, src, dst_at, dst)


class RacingDisk:
    """Lets a rival act, from beginning to end, right before operation number ``at`` (of one kind, or of all)."""

    def __init__(self, behind: Disk, rival: Callable[[], object], at: int = 1, *, only: str = "") -> None:
        self._behind = behind
        self._rival = rival
        self._at = at
        self._only = only
        self.count = 0

    @property
    def raced(self) -> bool:
        """Whether the rival has had its turn."""
        return self.count >= self._at

    def __getattr__(self, name: str) -> Callable[..., object]:
        operation = getattr(self._behind, name)
        return operation if name == "close" or (self._only and name != self._only) else partial(self._race, operation)

    def _race(self, operation: Callable[..., object], *args: object) -> object:
        self.count += 1
        if self.count == self._at:
            self._rival()
        return operation(*args)
