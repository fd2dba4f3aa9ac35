"""What handlers print becomes log lines of their own: event ``handler_output``, with the file that was in hand.

Standard output and standard error of a child process end in a pipe, which a thread reads; inboxd's own lines go elsewhere. A
line that a handler prints can thus not pass for one of inboxd's, which `inboxd audit` and `trace` believe.
"""

import contextlib
import fcntl
import os
import select
import struct
import sys
import termios
import threading
import time

from inboxd.logs import events
from inboxd.logs.logger import get_logger

LINE_BYTES_MAX = 1000
LINES_MAX = 100
"""Maximum number of lines of one file's handler that are logged, and bytes of each."""
STANDARD_FDS = (1, 2)
DRAIN_SECONDS = 0.2
"""How long the end of a call waits until what was printed is read."""

_READ_BYTES = 65_536
_POLL_SECONDS = 0.001

_log = get_logger(__name__)


class HandlerOutput:
    """The output of one child process; does nothing before ``start``."""

    def __init__(self) -> None:
        self._read_fd: int | None = None
        self._pipe = 0
        self._labels: dict[str, object] = {}
        self._partial = b""
        self._lines = 0
        self._is_reading = False

    def start(self) -> None:
        """Redirect this process's standard output and standard error."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._read_fd, write_fd = os.pipe()
        for fd in STANDARD_FDS:
            os.dup2(write_fd, fd)
        os.close(write_fd)
        self._pipe = os.fstat(self._read_fd).st_ino
        with contextlib.suppress(AttributeError, ValueError):
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        threading.Thread(target=self._read, args=(self._read_fd,), name="handler-output", daemon=True).start()

    @property
    def is_intact(self) -> bool:
        """Whether a handler has left the pipe, the descriptors that end in it, and Python's streams as they were."""
        if self._read_fd is None:
            return True
        try:
            inodes = {os.fstat(fd).st_ino for fd in (*STANDARD_FDS, self._read_fd)}
        except OSError:
            return False
        return inodes == {self._pipe} and not (sys.stdout.closed or sys.stderr.closed)

    def begin(self, inbox: str, file: bytes, parcel: str) -> None:
        """Attribute what is printed from now on to the handler of this file."""
        self._labels, self._lines = {"inbox": inbox, "file": file, "parcel": parcel}, 0

    def end(self) -> None:
        """Wait until what the handler has printed is logged."""
        if self._read_fd is None:
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # the handler has closed or replaced them
            pass
        with contextlib.suppress(OSError):  # the handler has closed the pipe
            if _unread_bytes(self._read_fd) or self._is_reading:
                self._drain(self._read_fd)
        if self._partial:
            partial, self._partial = self._partial, b""
            self._log_line(partial)

    def _drain(self, fd: int) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while (_unread_bytes(fd) or self._is_reading) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _read(self, fd: int) -> None:
        while True:
            select.select([fd], [], [])
            self._is_reading = True  # before the bytes leave the pipe: ``end`` sees them in one of the two places
            chunk = os.read(fd, _READ_BYTES)
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            for line in lines:
                self._log_line(line)
            if len(self._partial) > LINE_BYTES_MAX:
                self._log_line(self._partial)
                self._partial = b""
            self._is_reading = False

    def _log_line(self, line: bytes) -> None:
        self._lines += 1
        if self._lines > LINES_MAX:
            return
        text = line[:LINE_BYTES_MAX] + (b" ..." if len(line) > LINE_BYTES_MAX else b"")
        rest = "further lines of this file are left out" if self._lines == LINES_MAX else None
        _log.info(events.HANDLER_OUTPUT, **self._labels, line=text.rstrip(b"\r"), note=rest)


def _unread_bytes(fd: int) -> int:
    """Return the number of bytes that wait in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])
