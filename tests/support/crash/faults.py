"""What can happen to a program at any operation, on its disk or in Redis."""

import errno
from dataclasses import dataclass

from support.crash.fuse import Fuse

from inboxd.errors import BrokerUnavailable

WRITES = frozenset({"mkdir", "rename", "rename_over", "symlink", "link", "create", "write", "touch", "set_times", "fsync"})
"""What needs room on a disk."""


@dataclass(frozen=True)
class Fault:
    """What happens to a process at one operation.

    It dies; or its disk is in trouble (``code``) once; or Redis can't be asked, or its answer is lost
    (``after``); or its client asks ``again`` when that happens, as redis-py does. To die after an operation is to die before
    the next: what is left is the same.
    """

    name: str
    code: int = 0
    only: frozenset[str] = frozenset()
    lost: bool = False
    after: bool = False
    again: bool = False

    @property
    def kills(self) -> bool:
        """Whether the process is no more."""
        return not (self.code or self.lost or self.again)

    @property
    def on_disk(self) -> bool:
        """Whether operations on the disk count."""
        return self.kills or bool(self.code)

    @property
    def in_redis(self) -> bool:
        """Whether operations in Redis count."""
        return not self.code

    def fuse(self, point: int) -> Fuse:
        """Return a fuse that lets this happen."""
        error = OSError(self.code, "on purpose") if self.code else BrokerUnavailable("on purpose") if self.lost else None
        return Fuse(None, point, after=self.after, error=error, again=self.again, only=self.only)


DIES = Fault("dies")
FAULTS = (
    DIES,
    Fault("EIO", code=errno.EIO),
    Fault("ENOSPC", code=errno.ENOSPC, only=WRITES),
    Fault("not sent", lost=True),
    Fault("not answered", lost=True, after=True),
    Fault("asked twice", again=True),
)
