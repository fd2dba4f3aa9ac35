"""Check through one descriptor whether a claimed file is acceptable and still complete; read it if it is small."""

import errno
from dataclasses import dataclass

from inboxd.config.rules import Inbox
from inboxd.fs.syscalls import Disk, Fd, Stat, WriterCheck, closing
from inboxd.intake.readiness import find_refusal, looks_sparse
from inboxd.spool.failure import Failure, FailureKind

_NOT_A_FILE = (errno.ELOOP, errno.ENXIO)
"""Error numbers of opening a symbolic link or a socket."""

_UNREADABLE = Failure(FailureKind.UNREADABLE, "no permission to read the file: its owner must make it readable for the service")

FileVersion = tuple[int, int]
"""Size and mtime_ns: they differ once a file has been changed. Not the inode: a copy across file systems has another."""


def file_version(stat: Stat) -> FileVersion:
    """Return the version of the file with this ``stat``."""
    return stat.size, stat.mtime_ns


@dataclass(frozen=True, slots=True)
class Accepted:
    """A complete file; ``content`` is None if the file is larger than ``inline_bytes_max``.

    ``is_unsure``: the system can't show whether a program has it open for writing.
    """

    stat: Stat
    content: bytes | None
    is_unsure: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that can't be accepted, and why, for its error note."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Busy:
    """A file that a program has open for writing, or that was changed since a scan found it complete."""


Inspection = Accepted | Refused | Busy


def inspect(disk: Disk, folder: Fd, name: bytes, inbox: Inbox, expected: FileVersion | None = None) -> Inspection | None:
    """Inspect a file in an open folder; return None if there is no such file. Raises OSError.

    An ``expected`` version means that a scan has found a regular file. Without one, the entry is checked with stat() before it
    is opened, because opening a device can have side effects.
    """
    try:
        if expected is None and (refusal := find_refusal(disk.stat(folder, name), inbox.size_bytes_max)):
            return Refused(refusal)
        with closing(disk, disk.open_file(folder, name)) as file:
            result = _inspect_open(disk, file, inbox)
    except FileNotFoundError:
        return None
    except BlockingIOError:  # another program holds a kernel lease on the file
        return Busy()
    except PermissionError:
        return Refused(_UNREADABLE)
    except OSError as error:
        if expected is not None and error.errno in _NOT_A_FILE:  # replaced since the scan
            return inspect(disk, folder, name, inbox)
        raise
    if isinstance(result, Accepted) and expected is not None and _has_changed(result.stat, expected):
        return Busy()
    return result


def _has_changed(stat: Stat, expected: FileVersion) -> bool:
    """Return whether a file was written to, or got a second name, since the scan, which has linked files claimed by a copy."""
    return file_version(stat) != expected or stat.links > 1


def _inspect_open(disk: Disk, file: Fd, inbox: Inbox) -> Inspection:
    stat = disk.fstat(file)
    if refusal := find_refusal(stat, inbox.size_bytes_max):
        return Refused(refusal)
    if looks_sparse(stat) and disk.has_holes(file, stat.size):
        reason = f"a sparse file: its size is {stat.size} bytes, but only {stat.allocated} bytes are stored on disk"
        return Refused(Failure(FailureKind.INCOMPLETE, reason))
    writers = disk.check_writers(file)
    if writers is WriterCheck.BUSY:
        return Busy()
    is_unsure = writers is WriterCheck.UNKNOWN
    if stat.size > inbox.inline_bytes_max:
        return Accepted(stat, None, is_unsure)
    content = _read_exactly(disk, file, stat.size)
    if content is None or file_version(disk.fstat(file)) != file_version(stat):
        return Busy()
    return Accepted(stat, content, is_unsure)


def _read_exactly(disk: Disk, file: Fd, size: int) -> bytes | None:
    """Read a whole file; return None if it has more or fewer bytes than ``size``."""
    chunks, missing = [], size
    while missing > 0 and (chunk := disk.read(file, missing + 1)):
        chunks.append(chunk)
        missing -= len(chunk)
    return None if missing else b"".join(chunks)
