"""Log lines in a pipe that several processes share: no line is torn by another, however long it is.

The kernel writes up to PIPE_BUF bytes in one piece. A longer line is written in parts, each a short line of its own that begins
with a record separator (as in RFC 7464), the line's token and "+", or "." for the last part; the reader joins them again.
"""

import contextlib
import io
import secrets
import select
from collections.abc import Iterator, Mapping
from typing import TextIO

from inboxd.config.loading import LOG_PIPE_VARIABLE
from inboxd.fs.syscalls import Disk

SEPARATOR = b"\x1e"
UNFINISHED_LINES_MAX = 256
"""Maximum number of lines of which parts are kept: a process that was killed while it wrote leaves its line unfinished."""

_TOKEN_BYTES = 4
_HEAD_CHARS = 1 + 2 * _TOKEN_BYTES + 1
_PART_BYTES = select.PIPE_BUF - _HEAD_CHARS - 1
_MORE, _LAST = b"+", b"."


class PipeStream(io.TextIOBase):
    """Writes each text to a pipe: in one piece, or, if it is long, in parts. Safe with threads and after a fork.

    Nothing is raised, as in logging: if the reader is gone, the text is lost.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        """``raw`` is the pipe's unbuffered file."""
        self._raw = raw

    def write(self, text: str) -> int:
        """Write whole lines."""
        data = text.encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError, ValueError):
            if len(data) <= select.PIPE_BUF:
                self._raw.write(data)
            else:
                for part in split_line(data.removesuffix(b"\n").replace(b"\n", b"\\n")):
                    self._raw.write(part)
        return len(text)


def is_log_pipe(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether a stream is the pipe that LOG_PIPE_VARIABLE names by device and inode, as JOURNAL_STREAM does.

    Child processes inherit the variable, even if their stderr is redirected.
    """
    if not environment.get(LOG_PIPE_VARIABLE):
        return False
    try:
        stat = Disk().fstat(stream.fileno())
    except (AttributeError, OSError, ValueError):  # closed, not a file, or None
        return False
    return environment[LOG_PIPE_VARIABLE] == pipe_name(stat.dev, stat.ino)


def pipe_name(dev: int, ino: int) -> str:
    """Return the value of LOG_PIPE_VARIABLE for a pipe."""
    return f"{dev}:{ino}"


def unbuffered(stream: TextIO) -> io.RawIOBase | None:
    """Return the unbuffered file below a text stream (with PYTHONUNBUFFERED there is no buffer); None if there is none."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, io.RawIOBase) else None


def split_line(line: bytes) -> Iterator[bytes]:
    """Yield the parts of a line, each at most PIPE_BUF bytes long with its line feed."""
    token = secrets.token_hex(_TOKEN_BYTES).encode()
    for begin in range(0, len(line), _PART_BYTES):
        mark = _MORE if begin + _PART_BYTES < len(line) else _LAST
        yield SEPARATOR + token + mark + line[begin : begin + _PART_BYTES] + b"\n"


class LineJoiner:
    """Joins the parts of lines that were written to one pipe."""

    def __init__(self) -> None:
        self._unfinished: dict[bytes, list[bytes]] = {}

    def join(self, block: bytes) -> bytes:
        """Return whole lines with those in parts joined; the rest of a part's line comes with a later block."""
        if SEPARATOR not in block:
            return block
        lines = (self._join_line(line) for line in block.splitlines(keepends=True))
        return b"".join(lines)

    def unfinished(self) -> bytes:
        """Return what has come of lines that were never finished, a line each, and forget it."""
        lines = [b"".join(parts) + b"\n" for parts in self._unfinished.values()]
        self._unfinished.clear()
        return b"".join(lines)

    def _join_line(self, line: bytes) -> bytes:
        mark = line[_HEAD_CHARS - 1 : _HEAD_CHARS]
        if not line.startswith(SEPARATOR) or mark not in (_MORE, _LAST) or not line.endswith(b"\n"):
            return line
        token, text = line[1 : _HEAD_CHARS - 1], line[_HEAD_CHARS:-1]
        parts = self._unfinished.setdefault(token, [])
        parts.append(text)
        if mark == _LAST:
            return b"".join(self._unfinished.pop(token)) + b"\n"
        if len(self._unfinished) > UNFINISHED_LINES_MAX:
            oldest = next(iter(self._unfinished))
            return b"".join(self._unfinished.pop(oldest)) + b"\n"
        return b""
