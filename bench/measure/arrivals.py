"""Observe files arriving in a folder through inotify, read in bulk to use little processor time."""

import ctypes
import os
import select
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Self

IN_MOVED_TO, IN_CREATE = 0x80, 0x100
IN_Q_OVERFLOW, IN_ISDIR = 0x4000, 0x40000000
_HEAD = struct.Struct("iIII")
_READ_BYTES = 1 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)


class Overflow(Exception):
    """The kernel's queue overflowed, so events were lost."""


class Arrivals:
    """The names that appear in a folder from now on. Raises OSError if inotify fails."""

    def __init__(self, folder: Path) -> None:
        self._fd = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or _LIBC.inotify_add_watch(self._fd, os.fsencode(folder), IN_MOVED_TO | IN_CREATE) < 0:
            raise OSError(ctypes.get_errno(), f"no inotify for {folder}")
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._fd)

    def pending(self) -> list[bytes]:
        """Return the names that have appeared since the last call. Raises Overflow."""
        names: list[bytes] = []
        while True:
            try:
                raw = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return names
            names += parse(raw)

    def wait_for(self, name: bytes, seconds: float) -> float | None:
        """Return the ``time.monotonic()`` at which a name appeared; None after ``seconds``. Raises Overflow."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            self._poll.poll(remaining * 1000)
            now = time.monotonic()
            if name in self.pending():
                return now
        return None


def parse(raw: bytes) -> list[bytes]:
    """Return the names of files, not folders, in inotify's events. Raises Overflow."""
    names, offset = [], 0
    while offset < len(raw):
        _, mask, _, length = _HEAD.unpack_from(raw, offset)
        if mask & IN_Q_OVERFLOW:
            raise Overflow
        begin, offset = offset + _HEAD.size, offset + _HEAD.size + length
        if not mask & IN_ISDIR:
            names.append(raw[begin:offset].rstrip(b"\0"))
    return names
