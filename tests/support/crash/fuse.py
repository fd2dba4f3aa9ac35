"""Kill a process, or inject an error, at its n-th operation: a test takes n = 1, 2, 3 … until the path completes."""

import io
import os
from collections.abc import Callable

UNCOUNTED = frozenset({"close", "get_key_for_task", "decode_result"})
"""Calls that are no operation. ``close`` is one of them because the kernel closes a dead process's files."""

Operation = Callable[[], object]


class ProcessDied(BaseException):
    """The simulated death of the process: ``except Exception`` does not catch it, and every later operation raises it too."""


class Fuse:
    """Counts and forwards every operation of one process, and raises ProcessDied from operation number ``blow_at`` on.

    With ``after`` that operation is executed before the exception is raised. With ``error`` this error is raised once, instead
    of ProcessDied; with ``runs_twice`` the operation is executed twice, as by a client that retries after a lost reply. With
    ``only`` other operations than these are not counted.
    """

    def __init__(
        self,
        target: object,
        blow_at: int,
        *,
        after: bool = False,
        error: Exception | None = None,
        runs_twice: bool = False,
        only: frozenset[str] = frozenset(),
    ) -> None:
        self._blow_at = blow_at
        self._after = after
        self._is_fatal = not runs_twice and error is None
        self._runs_twice = runs_twice
        self._error = error
        self.only = only
        self._first_part = self.add_part(target)
        self.count = 0

    @property
    def blown(self) -> bool:
        """Whether operation number ``blow_at`` was reached."""
        return self.count >= self._blow_at

    def add_part(self, target: object, error: Exception | None = None) -> "Part":
        """Return a proxy of another part of the process, whose operations count too; ``error`` is raised there instead."""
        return Part(self, target, error or self._error)

    def __getattr__(self, name: str) -> object:
        return getattr(self._first_part, name)

    def run_counted(self, operation: Operation, error: Exception | None) -> object:
        """Execute an operation, or inject the fault."""
        self.count += 1
        is_target = self.count == self._blow_at
        if not self._is_fatal:
            return self._run_faulty(operation, error) if is_target else operation()
        if self.count > self._blow_at or (is_target and not self._after):
            raise ProcessDied
        result = operation()
        if is_target:
            raise ProcessDied
        return result

    def _run_faulty(self, operation: Operation, error: Exception | None) -> object:
        if self._runs_twice:
            operation()
            return operation()
        if self._after:
            operation()
        assert error is not None
        raise error


class Part:
    """A proxy of one part of the process, its disk or a Redis client, whose operations the fuse counts."""

    def __init__(self, fuse: Fuse, target: object, error: Exception | None) -> None:
        self._fuse = fuse
        self._target = target
        self._error = error

    def __getattr__(self, name: str) -> object:
        attribute = getattr(self._target, name)
        if name == "reader":  # each of its reads is an operation
            return lambda fd: io.BufferedReader(_CountedReader(self, fd))
        if name == "register_script":  # the request is sent when the script is called
            return lambda script: self._counted(attribute(script))
        if not callable(attribute):
            return self if attribute is self._target else attribute
        is_counted = name in self._fuse.only if self._fuse.only else name not in UNCOUNTED
        return self._counted(attribute) if is_counted else attribute

    def _counted(self, operation: Callable[..., object]) -> Callable[..., object]:
        return lambda *args, **kwargs: self._fuse.run_counted(lambda: operation(*args, **kwargs), self._error)


class _CountedReader(io.RawIOBase):
    """An open file, each read of which is an operation of the disk."""

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
