"""Follow log files as they grow, across rotation by rename or truncation, and before they exist."""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inboxd.console.log_reading.records import LINE_START, LogFilter, Record, oldest_line_start, parse

FileId = tuple[int, int]
"""A file's device and inode numbers."""

POLL_SECONDS = 0.2
READ_BYTES = 1024 * 1024
RENAMED_IDLE_SECONDS = 5.0
"""How long a renamed file stays open without new bytes: a program writes to the old file until it has opened the new one."""
MARK_BYTES = 64
LINE_BYTES_MAX = 8 * 1024 * 1024


def follow(tails: list["Tail"], log_filter: LogFilter, show: Callable[[Record], None]) -> None:
    """Pass each new record that matches to ``show``. Does not return."""
    oldest = oldest_line_start(log_filter.since)
    while True:
        lines = [line for tail in tails for line in tail.lines()]
        new = [record for line in lines if not (line.startswith(LINE_START) and line < oldest) and (record := parse(line))]
        for record in sorted(filter(log_filter.matches, new), key=lambda record: record.at):
            show(record)
        if not lines:
            time.sleep(POLL_SECONDS)


@dataclass(slots=True)
class _OpenFile:
    """An open file: the offset read up to, the bytes just before that offset, and an incomplete last line."""

    fd: int
    position: int = 0
    mark: bytes = b""
    partial_line: bytes = b""
    last_read: float = field(default_factory=time.monotonic)


class Tail:
    """The growing end of the file at one path, whichever file is there."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        """Start after the last whole line of the current file, or at its beginning."""
        self._path = path
        self._open: list[_OpenFile] = []
        self._reopen_if_replaced()
        if self._open and at_end:
            newest = self._open[-1]
            newest.position = _end_of_last_line(newest.fd)
            newest.mark = os.pread(newest.fd, MARK_BYTES, max(newest.position - MARK_BYTES, 0))[: newest.position]

    @property
    def position(self) -> tuple[FileId, int] | None:
        """The newest open file and the offset it is read up to; None if no file is open."""
        if not self._open:
            return None
        status = os.fstat(self._open[-1].fd)
        return (status.st_dev, status.st_ino), self._open[-1].position

    def lines(self) -> list[bytes]:
        """Return the whole lines written since the last call."""
        self._reopen_if_replaced()
        new = [line for file in self._open for line in _read_new_lines(file)]
        now = time.monotonic()
        for idle in [file for file in self._open[:-1] if now - file.last_read > RENAMED_IDLE_SECONDS]:
            os.close(idle.fd)
            self._open.remove(idle)
        return new

    def _reopen_if_replaced(self) -> None:
        """Open the file at the path if it is not the newest open one."""
        try:
            status = self._path.stat()
            is_open = bool(self._open) and os.path.samestat(os.fstat(self._open[-1].fd), status)
            if is_open or not stat.S_ISREG(status.st_mode):
                return
            self._open.append(_OpenFile(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)))
        except OSError:  # being renamed, or unreadable: the open files are still followed, and the next poll tries again
            return


def _end_of_last_line(fd: int) -> int:
    end = os.fstat(fd).st_size
    while end > 0:
        begin = max(end - READ_BYTES, 0)
        if (found := os.pread(fd, end - begin, begin).rfind(b"\n")) >= 0:
            return begin + found + 1
        end = begin
    return 0


def _read_new_lines(file: _OpenFile) -> list[bytes]:
    """Return the new whole lines, reading at most READ_BYTES; start again at offset 0 if the file was truncated."""
    written_before = os.pread(file.fd, len(file.mark), file.position - len(file.mark))
    if os.fstat(file.fd).st_size < file.position or written_before != file.mark:
        file.position, file.mark, file.partial_line = 0, b"", b""
    data = os.pread(file.fd, READ_BYTES, file.position)
    if not data:
        return []
    file.position += len(data)
    file.mark = (file.mark + data)[-MARK_BYTES:]
    file.last_read = time.monotonic()
    *whole, file.partial_line = (file.partial_line + data).split(b"\n")
    if len(file.partial_line) > LINE_BYTES_MAX:
        file.partial_line = b""
    return whole
