"""A process that dies at its n-th operation, or meets trouble there: a test blows it at 1, 2, 3 … until the path completes."""

import io
import os
from collections.abc import Callable

FREE = frozenset({"close", "get_key_for_task", "decode_result"})
"""What is no operation. Closing is free, for the system closes what a dead process had open."""

Operation = Callable[[], object]


class Blown(BaseException):
    """The process is dead: nothing that catches Exception sees it, and no operation follows."""


class Fuse:
    """Passes every operation on and counts it.

    At operation ``blow_at`` it raises Blown, before or ``after`` the operation, and at every later one, too. With ``error`` it
    raises that instead, once, and lives on; with ``again`` it asks twice, as a client does whose first answer was lost. With
    ``only`` it counts no operations but those.
    """

    def __init__(
        self,
        behind: object,
        blow_at: int,
        *,
        after: bool = False,
        error: Exception | None = None,
        again: bool = False,
        only: frozenset[str] = frozenset(),
    ) -> None:
        self._blow_at = blow_at
        self._after = after
        self._lives = again or error is not None
        self._again = again
        self._error = error
        self.only = only
        self._own = self.also(behind)
        self.count = 0

    @property
    def blown(self) -> bool:
        """Whether it got as far as the operation that it was to blow at."""
        return self.count >= self._blow_at

    def also(self, behind: object, error: Exception | None = None) -> "Part":
        """Count the operations on another part of the same process, too; ``error`` is what trouble is called there."""
        return Part(self, behind, error or self._error)

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)

    def count_one(self, operation: Operation, error: Exception | None) -> object:
        """Carry out an operation, or blow up."""
        self.count += 1
        here = self.count == self._blow_at
        if self._lives:
            return self._in_trouble(operation, error) if here else operation()
        if self.count > self._blow_at or (here and not self._after):
            raise Blown
        result = operation()
        if here:
            raise Blown
        return result

    def _in_trouble(self, operation: Operation, error: Exception | None) -> object:
        if self._again:
            operation()
            return operation()
        if self._after:
            operation()
        assert error is not None
        raise error


class Part:
    """One part of a process that is on a fuse: its disk, or one of its ways to Redis."""

    def __init__(self, fuse: Fuse, behind: object, error: Exception | None) -> None:
        self._fuse = fuse
        self._behind = behind
        self._error = error

    def __getattr__(self, name: str) -> object:
        there = getattr(self._behind, name)
        if name == "reader":  # each of its reads is an operation
            return lambda fd: io.BufferedReader(_Reading(self, fd))
        if name == "register_script":  # it is calling the script that asks the server
            return lambda script: self._counted(there(script))
        if not callable(there):
            return self if there is self._behind else there
        counts = name in self._fuse.only if self._fuse.only else name not in FREE
        return self._counted(there) if counts else there

    def _counted(self, operation: Callable[..., object]) -> Callable[..., object]:
        return lambda *args, **kwargs: self._fuse.count_one(lambda: operation(*args, **kwargs), self._error)


class _Reading(io.RawIOBase):
    """An open file that is read by a disk's operations."""

    def __init__(self, disk: Part, fd: int) -> None:
        self._disk = disk
        self._fd = fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = self._disk.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
