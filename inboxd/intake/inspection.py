"""Inspecting one claimed file through one descriptor: whether it is acceptable, and still complete; small ones are read."""

import errno
from dataclasses import dataclass

from inboxd.config.settings import Inbox
from inboxd.fs.syscalls import Disk, Fd, Stat, WriterCheck, closing
from inboxd.intake.readiness import refusal_reason

_NOT_A_FILE = (errno.ELOOP, errno.ENXIO)
"""Error numbers of opening a link, or a socket."""

_UNREADABLE = "inboxd is not permitted to read it: its owner must make it readable for the service"

FileVersion = tuple[int, int]
"""What tells a file from a changed one: size and modification time. Not its inode: a copy across file systems has another."""


def file_version(stat: Stat) -> FileVersion:
    """Return a file's version."""
    return stat.size, stat.mtime_ns


@dataclass(frozen=True, slots=True)
class Accepted:
    """A complete file; ``content`` is None for one that is larger than ``inline_bytes_max``."""

    stat: Stat
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that no handler gets, and the reason for the person who dropped it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Busy:
    """A file that a program has open for writing, or has changed since it was found complete."""


Inspection = Accepted | Refused | Busy


def inspect(disk: Disk, folder: Fd, name: bytes, inbox: Inbox, expected: FileVersion | None = None) -> Inspection | None:
    """Inspect a file in an open folder; None if it is gone.

    With an ``expected`` version a scan has seen that it is a file. Else it is looked at before it is opened: to open a device
    may do something. Raises OSError.
    """
    try:
        if expected is None and (reason := refusal_reason(disk.stat(folder, name), inbox.size_bytes_max)):
            return Refused(reason)
        with closing(disk, disk.open_file(folder, name)) as file:
            found = _inspect_open(disk, file, inbox)
    except FileNotFoundError:
        return None
    except BlockingIOError:  # another program holds a lease of its own on it
        return Busy()
    except PermissionError:
        return Refused(_UNREADABLE)
    except OSError as error:
        if expected is not None and error.errno in _NOT_A_FILE:  # it has been replaced since the scan
            return inspect(disk, folder, name, inbox)
        raise
    if isinstance(found, Accepted) and expected not in (None, file_version(found.stat)):
        return Busy()
    return found


def _inspect_open(disk: Disk, file: Fd, inbox: Inbox) -> Inspection:
    stat = disk.fstat(file)
    if reason := refusal_reason(stat, inbox.size_bytes_max):
        return Refused(reason)
    if disk.check_writers(file) is WriterCheck.BUSY:
        return Busy()
    if stat.size > inbox.inline_bytes_max:
        return Accepted(stat, None)
    content = _read_exactly(disk, file, stat.size)
    if content is None or file_version(disk.fstat(file)) != file_version(stat):
        return Busy()
    return Accepted(stat, content)


def _read_exactly(disk: Disk, file: Fd, size: int) -> bytes | None:
    """Read a whole small file; None if it has more or fewer bytes than ``size``."""
    chunks, missing = [], size
    while missing > 0 and (chunk := disk.read(file, missing + 1)):
        chunks.append(chunk)
        missing -= len(chunk)
    return None if missing else b"".join(chunks)
