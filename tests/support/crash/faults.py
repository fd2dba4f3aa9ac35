"""The faults that crash tests inject at any operation of a program, on disk or in Redis."""

import errno
from dataclasses import dataclass

from support.crash.fuse import Fuse

from inboxd.errors import BrokerUnavailable

WRITES = frozenset({"mkdir", "rename", "rename_over", "symlink", "link", "create", "write", "touch", "set_times", "fsync"})
"""Operations that fail on a full disk (ENOSPC)."""


@dataclass(frozen=True)
class Fault:
    """One fault of a process at one operation.

    By default the process dies before the operation; dying after an operation leaves the same as dying before the next one.
    With ``code`` the disk fails once with this errno. With ``loses_request`` a call to Redis fails once, not executed, and
    with ``loses_reply`` executed. With ``sends_twice`` Redis executes it twice, as when redis-py retries after a lost reply.
    """

    name: str
    code: int = 0
    only: frozenset[str] = frozenset()
    loses_request: bool = False
    loses_reply: bool = False
    sends_twice: bool = False

    @property
    def kills(self) -> bool:
        """Whether the process dies."""
        return not (self.code or self.loses_request or self.loses_reply or self.sends_twice)

    @property
    def on_disk(self) -> bool:
        """Whether operations on the disk are counted."""
        return self.kills or bool(self.code)

    @property
    def in_redis(self) -> bool:
        """Whether operations in Redis are counted."""
        return not self.code

    def fuse(self, point: int) -> Fuse:
        """Return a fuse that injects the fault at operation number ``point``."""
        error: Exception | None = BrokerUnavailable("on purpose") if self.loses_request or self.loses_reply else None
        error = OSError(self.code, "on purpose") if self.code else error
        return Fuse(None, point, after=self.loses_reply, error=error, runs_twice=self.sends_twice, only=self.only)


DIES = Fault("dies")
FAULTS = (
    DIES,
    Fault("EIO", code=errno.EIO),
    Fault("ENOSPC", code=errno.ENOSPC, only=WRITES),
    Fault("request lost", loses_request=True),
    Fault("reply lost", loses_reply=True),
    Fault("sent twice", sends_twice=True),
)
