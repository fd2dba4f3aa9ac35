"""Following log files as they grow, across rotation: renamed, truncated, or not there yet."""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inboxd.console.logs.records import BEGIN, Record, Wanted, oldest, parse

FileId = tuple[int, int]
"""A file system's device, and a file's number there."""

POLL_SECONDS = 0.2
READ_BYTES = 1024 * 1024
FAREWELL_SECONDS = 5.0
"""A program goes on writing to a file that was renamed until it opens the new one: so long without a byte, and it is let go."""
MARK_BYTES = 64
LINE_BYTES_MAX = 8 * 1024 * 1024


def follow(tails: list["Tail"], wanted: Wanted, show: Callable[[Record], None]) -> None:
    """Show each wanted record as it comes. Does not return."""
    least = oldest(wanted.since)
    while True:
        lines = [line for tail in tails for line in tail.lines()]
        new = [record for line in lines if not (line.startswith(BEGIN) and line < least) and (record := parse(line))]
        for record in sorted(filter(wanted.admits, new), key=lambda record: record.at):
            show(record)
        if not lines:
            time.sleep(POLL_SECONDS)


@dataclass(slots=True)
class _Open:
    """One open file: how far it is read, the bytes just before that, and a line whose end has not come yet."""

    file: int
    at: int = 0
    mark: bytes = b""
    rest: bytes = b""
    heard: float = field(default_factory=time.monotonic)


class Tail:
    """One path, and whatever file is there at a time."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        """Begin behind the last whole line of what is there now, or at its beginning."""
        self._path = path
        self._open: list[_Open] = []
        self._look()
        if self._open and at_end:
            newest = self._open[-1]
            newest.at = _behind_last_line(newest.file)
            newest.mark = os.pread(newest.file, MARK_BYTES, max(newest.at - MARK_BYTES, 0))[: newest.at]

    @property
    def place(self) -> tuple[FileId, int] | None:
        """Which file it has open, and how far that is read; None while there is none."""
        if not self._open:
            return None
        look = os.fstat(self._open[-1].file)
        return (look.st_dev, look.st_ino), self._open[-1].at

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come since the last call."""
        self._look()
        found = [line for one in self._open for line in _read(one)]
        now = time.monotonic()
        for gone in [one for one in self._open[:-1] if now - one.heard > FAREWELL_SECONDS]:
            os.close(gone.file)
            self._open.remove(gone)
        return found

    def _look(self) -> None:
        """Open the file that is at the path now, if it is another than before."""
        try:
            there = self._path.stat()
            if self._open and os.path.samestat(os.fstat(self._open[-1].file), there):
                return
            if not stat.S_ISREG(there.st_mode):
                return
            self._open.append(_Open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)))
        except OSError:  # it is just being renamed, or is kept from us: what is open is followed, and the path looked at again
            return


def _behind_last_line(file: int) -> int:
    end = os.fstat(file).st_size
    while end > 0:
        begin = max(end - READ_BYTES, 0)
        if (found := os.pread(file, end - begin, begin).rfind(b"\n")) >= 0:
            return begin + found + 1
        end = begin
    return 0


def _read(one: _Open) -> list[bytes]:
    """Read what has come, at most READ_BYTES of it; from the beginning if the file was truncated since."""
    if os.fstat(one.file).st_size < one.at or os.pread(one.file, len(one.mark), one.at - len(one.mark)) != one.mark:
        one.at, one.mark, one.rest = 0, b"", b""
    data = os.pread(one.file, READ_BYTES, one.at)
    if not data:
        return []
    one.at += len(data)
    one.mark = (one.mark + data)[-MARK_BYTES:]
    one.heard = time.monotonic()
    *whole, one.rest = (one.rest + data).split(b"\n")
    if len(one.rest) > LINE_BYTES_MAX:
        one.rest = b""
    return whole
