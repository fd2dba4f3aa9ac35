"""Following log files as they grow, across rotation: renamed, truncated, or not there yet."""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from console.records import BEGIN, Record, Wanted, oldest, parse

POLL_SECONDS = 0.2
TAIL_BYTES = 256 * 1024
"""So much of the end of each file is looked through for the last few records."""
READ_BYTES = 1024 * 1024
FAREWELL_SECONDS = 5.0
"""A program goes on writing to a file that was renamed until it opens the new one: so long without a byte, and it is let go."""
MARK_BYTES = 64
LINE_BYTES_MAX = 8 * 1024 * 1024


def follow(paths: list[Path], wanted: Wanted, last: int, show: Callable[[Record], None]) -> None:
    """Show the last few wanted records, or all since the wished moment, then each one as it comes. Does not return."""
    tails = [Tail(path, TAIL_BYTES if wanted.since is None else None) for path in paths]
    first, least = True, oldest(wanted.since)
    while True:
        lines = [line for tail in tails for line in tail.lines() if not (line.startswith(BEGIN) and line < least)]
        found = [record for line in lines if (record := parse(line)) and wanted.admits(record)]
        found.sort(key=lambda record: record.at)
        for record in found[-last:] if first and wanted.since is None else found:
            show(record)
        if not lines and not first:
            time.sleep(POLL_SECONDS)
        first = False


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

    def __init__(self, path: Path, back_bytes: int | None) -> None:
        """Begin so many bytes before the end of what is there now, or at its beginning for None."""
        self._path = path
        self._open: list[_Open] = []
        self._look()
        if self._open and back_bytes is not None:
            newest = self._open[-1]
            newest.at = max(0, os.fstat(newest.file).st_size - back_bytes)

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
