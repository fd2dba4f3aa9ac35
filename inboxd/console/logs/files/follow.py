"""Following log files as they grow, across rotation: renamed, truncated, or not there yet."""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inboxd.console.logs.records import LINE_START, LogFilter, Record, oldest_line_start, parse

FileId = tuple[int, int]
"""A file system's device, and a file's number there."""

POLL_SECONDS = 0.2
READ_BYTES = 1024 * 1024
RENAMED_IDLE_SECONDS = 5.0
"""A program goes on writing to a file that was renamed until it opens the new one: so long without a byte, and it is let go."""
MARK_BYTES = 64
LINE_BYTES_MAX = 8 * 1024 * 1024


def follow(tails: list["Tail"], wanted: LogFilter, show: Callable[[Record], None]) -> None:
    """Show each wanted record as it comes. Does not return."""
    least = oldest_line_start(wanted.since)
    while True:
        lines = [line for tail in tails for line in tail.lines()]
        new = [record for line in lines if not (line.startswith(LINE_START) and line < least) and (record := parse(line))]
        for record in sorted(filter(wanted.matches, new), key=lambda record: record.at):
            show(record)
        if not lines:
            time.sleep(POLL_SECONDS)


@dataclass(slots=True)
class _OpenFile:
    """One open file: how far it is read, the bytes just before that, and a line whose end has not come yet."""

    file: int
    position: int = 0
    mark: bytes = b""
    partial_line: bytes = b""
    last_read: float = field(default_factory=time.monotonic)


class Tail:
    """One path, and whatever file is there at a time."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        """Begin behind the last whole line of what is there now, or at its beginning."""
        self._path = path
        self._open: list[_OpenFile] = []
        self._reopen_if_replaced()
        if self._open and at_end:
            newest = self._open[-1]
            newest.position = _end_of_last_line(newest.file)
            newest.mark = os.pread(newest.file, MARK_BYTES, max(newest.position - MARK_BYTES, 0))[: newest.position]

    @property
    def position(self) -> tuple[FileId, int] | None:
        """Which file it has open, and how far that is read; None while there is none."""
        if not self._open:
            return None
        look = os.fstat(self._open[-1].file)
        return (look.st_dev, look.st_ino), self._open[-1].position

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come since the last call."""
        self._reopen_if_replaced()
        found = [line for one in self._open for line in _read_new_lines(one)]
        now = time.monotonic()
        for gone in [one for one in self._open[:-1] if now - one.last_read > RENAMED_IDLE_SECONDS]:
            os.close(gone.file)
            self._open.remove(gone)
        return found

    def _reopen_if_replaced(self) -> None:
        """Open the file that is at the path now, if it is another than before."""
        try:
            there = self._path.stat()
            if self._open and os.path.samestat(os.fstat(self._open[-1].file), there):
                return
            if not stat.S_ISREG(there.st_mode):
                return
            self._open.append(_OpenFile(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)))
        except OSError:  # it is just being renamed, or is kept from us: what is open is followed, and the path looked at again
            return


def _end_of_last_line(file: int) -> int:
    end = os.fstat(file).st_size
    while end > 0:
        begin = max(end - READ_BYTES, 0)
        if (found := os.pread(file, end - begin, begin).rfind(b"\n")) >= 0:
            return begin + found + 1
        end = begin
    return 0


def _read_new_lines(one: _OpenFile) -> list[bytes]:
    """Read what has come, at most READ_BYTES of it; from the beginning if the file was truncated since."""
    if os.fstat(one.file).st_size < one.position or os.pread(one.file, len(one.mark), one.position - len(one.mark)) != one.mark:
        one.position, one.mark, one.partial_line = 0, b"", b""
    data = os.pread(one.file, READ_BYTES, one.position)
    if not data:
        return []
    one.position += len(data)
    one.mark = (one.mark + data)[-MARK_BYTES:]
    one.last_read = time.monotonic()
    *whole, one.partial_line = (one.partial_line + data).split(b"\n")
    if len(one.partial_line) > LINE_BYTES_MAX:
        one.partial_line = b""
    return whole
