"""The log file of `inboxd up`: one writer, rotation by size, and errors that stop nothing."""

import fcntl
import os
import stat
import time
from pathlib import Path

from inboxd.config.tables import Log
from inboxd.errors import Finding, SettingsError

CHECK_SECONDS = 1.0
"""Interval of looks whether the file is still at its path (another program may have moved it), and of attempts to open it."""
RETRY_SECONDS = 5.0
"""Time after a failed write in which lines are lost without another attempt: on a full disk a short line may still fit."""
MODE = 0o640
REMEDY = 'set log.file to another path, or to "" for none'


class LogFile:
    """A file that whole lines are appended to; it is locked, and rotated to NAME.1, NAME.2 … when it would become too large.

    ``write`` raises no OSError: ``error`` is why the last write failed, "" if it did not, and ``lost_lines`` counts the lines
    that have not been written since.
    """

    def __init__(self, path: Path, bytes_max: int, kept: int) -> None:
        self.path = path
        self.error = ""
        self.lost_lines = 0
        self._bytes_max = bytes_max
        self._kept = kept
        self._fd: int | None = None
        self._size = 0
        self._checked_at = float("-inf")
        self._failed_at = float("-inf")

    def open(self) -> None:
        """Open and lock the file. Raises SettingsError if another process writes to it, or if it is no regular file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except BlockingIOError:
            remedy = f"stop that program, or {REMEDY}"
            raise SettingsError([Finding(f"log.file = {self.path}", "another program writes to this file", remedy)]) from None
        except OSError as error:
            self.error = error.strerror or str(error)

    def write(self, lines: bytes) -> None:
        """Append whole lines, or count them as lost."""
        if time.monotonic() - self._failed_at < RETRY_SECONDS:
            self.lost_lines += lines.count(b"\n")
            return
        try:
            error = self._prepare(len(lines))
            if self._fd is not None:
                self._append(self._fd, lines)
                self.error = error
                return
        except (OSError, SettingsError) as raised:
            error = getattr(raised, "strerror", None) or str(raised)
        self._failed_at = time.monotonic()
        self.error = error or self.error or "the file is not open"
        self.lost_lines += lines.count(b"\n")

    def _prepare(self, length: int) -> str:
        """Open the file if that is due, rotate it if it has no room; return why it can't be rotated, or "". Raises OSError."""
        now = time.monotonic()
        if now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            self._reopen_if_moved()
        if self._fd is None or not self._size or self._size + length <= self._bytes_max:
            return ""
        try:
            self._rotate()
        except OSError as error:  # the file grows
            return f"can't be rotated: {error.strerror}"
        return ""

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self, flags: int = 0) -> None:
        """Open the file and lock it. Raises OSError (BlockingIOError if another process has locked it) and SettingsError."""
        fd = os.open(
            self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, MODE
        )
        try:
            _require_own_file(os.fstat(fd), self.path)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if status.st_size and os.pread(fd, 1, status.st_size - 1) != b"\n":  # a writer was killed within a line
                status = _end_line(fd)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd, self._size = fd, status.st_size

    def _reopen_if_moved(self) -> None:
        """Open the file if it is not open, or if another one, or none, is at its path."""
        if self._fd is not None:
            try:
                if os.path.samestat(os.fstat(self._fd), self.path.lstat()):
                    return
            except FileNotFoundError:
                pass
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def _rotate(self) -> None:
        """Rename the file to NAME.1, NAME.1 to NAME.2 and so on, delete the oldest one, and open a new file."""
        if self._kept:
            for number in range(self._kept - 1, 0, -1):
                _rename_if_there(self._numbered(number), self._numbered(number + 1))
            _rename_if_there(self.path, self._numbered(1))
        else:
            self.path.unlink(missing_ok=True)
        self._open(os.O_EXCL)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _append(self, fd: int, lines: bytes) -> None:
        """Append lines; if the disk is full in the middle of them, remove what was written. Raises OSError."""
        try:
            written = 0
            while written < len(lines):
                written += os.write(fd, lines[written:])
        except OSError:
            os.ftruncate(fd, self._size)
            raise
        self._size += len(lines)


def open_log_file(settings: Log) -> LogFile | None:
    """Return the opened log file of the settings, None if they name none. Raises SettingsError."""
    if not settings.file:
        return None
    file = LogFile(Path(settings.file), settings.file_bytes_max, settings.files_kept)
    file.open()
    return file


def _require_own_file(status: os.stat_result, path: Path) -> None:
    """Raise SettingsError for what others may have put there, in a folder that they can write to, or for a device."""
    problem = ""
    if not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file"
    elif status.st_uid not in (0, os.geteuid()):
        problem = "belongs to another user"
    elif status.st_nlink > 1:
        problem = "has a second link, so that it may be somebody else's file"
    if problem:
        raise SettingsError([Finding(f"log.file = {path}", problem, REMEDY)])


def _end_line(fd: int) -> os.stat_result:
    os.write(fd, b"\n")
    return os.fstat(fd)


def _rename_if_there(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError:
        return
