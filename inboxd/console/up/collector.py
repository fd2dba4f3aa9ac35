"""Collect what the programs of `inboxd up` write: into the log file, and to the terminal or whatever stderr is.

Each program has a pipe of its own, which the processes of a worker's pool share; one thread reads all pipes, and is the only
writer of the log file. Lines that arrive together are written together: at full rate a block for each read.
"""

import contextlib
import json
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fcntl import F_SETPIPE_SZ, fcntl

from inboxd.config.loading import LOG_PIPE_VARIABLE
from inboxd.console.log_reading.records import LINE_START
from inboxd.console.up.log_file import LogFile
from inboxd.logs import events
from inboxd.logs.pipe import LineJoiner, pipe_name

PIPE_BYTES = 1024 * 1024
"""Size of each pipe, as far as the system allows: programs wait only if it is full."""
READ_BYTES = 1024 * 1024
FEW_BYTES = 32 * 1024
SORTED_BYTES_MAX = 64 * 1024
"""Maximum length of lines of several programs that are sorted by time: of more the sorting would cost as much as the rest."""
PAUSE_SECONDS = 0.01
"""Time between two reads, if the last one returned few bytes: a wake-up for each line would cost more than the line."""
LINE_BYTES_MAX = 8 * 1024 * 1024
STOP_SECONDS = 5.0
"""How long a stop waits until what the programs have written is read: stderr may not accept it."""

_MOMENT_END = len(LINE_START) + len("2026-11-30T12:00:00.000000")


@dataclass(slots=True)
class _Pipe:
    """The reading end of a program's pipe: the start of a line whose end is not read yet, and lines in parts."""

    fd: int
    partial: bytes = b""
    joiner: LineJoiner = field(default_factory=LineJoiner)

    def read(self) -> tuple[bytes, bool]:
        """Return whole lines, and whether no more will come."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b"", False
        if not data:
            return self.finish(), True
        lines, line_feed, rest = data.rpartition(b"\n")
        if not line_feed:
            self.partial += data
            return (self._give_up_line(), False) if len(self.partial) > LINE_BYTES_MAX else (b"", False)
        lines, self.partial = self.partial + lines + b"\n", rest
        return self.joiner.join(lines), False

    def finish(self) -> bytes:
        """Return what was read of lines whose end was not."""
        return (self.joiner.join(self._give_up_line()) if self.partial else b"") + self.joiner.unfinished()

    def _give_up_line(self) -> bytes:
        line, self.partial = self.partial, b""
        return line + b"\n"


@dataclass(frozen=True, slots=True)
class OutputPipe:
    """The writing end of a program's pipe, for its stdout and stderr; and what its environment needs for that."""

    fd: int
    environment: Mapping[str, str]


class Collector:
    """Reads pipes in a thread of its own, and passes each block of whole lines to ``file`` and to ``show``.

    ``show`` is called in that thread.
    """

    def __init__(self, file: LogFile | None, show: Callable[[bytes], None]) -> None:
        self._file = file
        self._show = show
        self._has_failed = False
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-collector", daemon=True)
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @contextlib.contextmanager
    def open_output(self) -> Iterator[OutputPipe]:
        """Make a pipe and read it; its writing end is closed at the end of the block, when a child process has it."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        with contextlib.suppress(OSError):  # an unprivileged user may have reached a limit
            fcntl(writer, F_SETPIPE_SZ, PIPE_BYTES)
        self._selector.register(reader, selectors.EVENT_READ, _Pipe(reader))
        self._wake()
        status = os.fstat(writer)
        try:
            yield OutputPipe(writer, {LOG_PIPE_VARIABLE: pipe_name(status.st_dev, status.st_ino)})
        finally:
            os.close(writer)

    def stop(self) -> None:
        """Read what is left in the pipes, and end the thread. Pipes that a stranger still has open are not waited for."""
        self._stopping.set()
        self._wake()
        self._thread.join(STOP_SECONDS)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is awake
            os.write(self._wake_writer, b"\0")

    def _run(self) -> None:
        while True:
            is_stopping = self._stopping.is_set()
            blocks = self._read_ready(0.0 if is_stopping else None)
            if blocks:
                self._pass_on(_in_order_of_time(blocks))
            elif is_stopping:
                self._pass_on(self._unfinished())
                return
            if sum(map(len, blocks)) < FEW_BYTES:
                self._stopping.wait(PAUSE_SECONDS)

    def _read_ready(self, timeout: float | None) -> list[bytes]:
        """Return what can be read now, a block of whole lines for each pipe; wait for it if ``timeout`` is None."""
        blocks = []
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                os.read(self._wake_reader, 4096)
                continue
            pipe: _Pipe = key.data
            lines, is_closed = pipe.read()
            if is_closed:
                self._selector.unregister(pipe.fd)
                os.close(pipe.fd)
            if lines:
                blocks.append(lines)
        return blocks

    def _unfinished(self) -> bytes:
        """Return what is read of lines that have no end yet, from pipes that are still open at the stop."""
        pipes = [key.data for key in self._selector.get_map().values() if key.data is not None]
        return b"".join(pipe.finish() for pipe in pipes)

    def _pass_on(self, lines: bytes) -> None:
        if not lines:
            return
        if self._file is not None:
            lines += self._write(self._file, lines)
        try:
            self._show(lines)
        except Exception as error:  # noqa: BLE001 - if this thread ended, the programs would wait for ever
            self._show = pass_to_stderr
            self._show(_own_line("error", events.LOG_FILE_UNAVAILABLE, error=f"a line can't be shown: {error!r}") + lines)

    def _write(self, file: LogFile, lines: bytes) -> bytes:
        """Write lines to the file; return a line about the first error, or about its end, for the terminal."""
        file.write(lines)
        if bool(file.error) == self._has_failed:
            return b""
        self._has_failed = bool(file.error)
        if file.error:
            remedy = "make room, or make the folder writable; until then the log is only shown here"
            return _own_line("error", events.LOG_FILE_UNAVAILABLE, path=str(file.path), error=file.error, remedy=remedy)
        line = _own_line("warning", events.LOG_FILE_AVAILABLE, path=str(file.path), lost_lines=file.lost_lines)
        file.lost_lines = 0
        file.write(line)
        return line


def _in_order_of_time(blocks: list[bytes]) -> bytes:
    """Return the lines of several pipes, in order of time if they are few and all are log lines."""
    joined = b"".join(blocks)
    if len(blocks) == 1 or len(joined) > SORTED_BYTES_MAX:
        return joined
    lines: list[bytes] = joined.splitlines(keepends=True)
    if not all(line.startswith(LINE_START) for line in lines):
        return joined
    lines.sort(key=lambda line: line[:_MOMENT_END])
    return b"".join(lines)


def _own_line(level: str, event: str, **fields: object) -> bytes:
    """Return a log line of the collector, which can't use a logger: that writes to a pipe that this thread reads."""
    timestamp = datetime.fromtimestamp(time.time(), tz=UTC).isoformat().replace("+00:00", "Z")
    first = {"timestamp": timestamp, "level": level, "program": "up", "event": event, "module": __name__}
    return json.dumps({**first, **fields}).encode() + b"\n"


def pass_to_stderr(lines: bytes) -> None:
    """Write lines to stderr unchanged; if nobody reads them, they are lost."""
    written = 0
    with contextlib.suppress(OSError):
        while written < len(lines):
            written += os.write(sys.stderr.fileno(), lines[written:])
