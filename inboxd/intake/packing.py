"""From a claimed parcel to its payload: each file looked at, and small ones read, through one descriptor."""

import errno
import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inboxd.config.settings import Inbox
from inboxd.fs.folders import opened_path
from inboxd.fs.syscalls import Disk, Fd, Stat, WriterCheck, closing
from inboxd.intake.readiness import refusal_reason
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.content_type import guess_content_type
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.claims import MOVED_AWAY, release_file, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.layout import Folders, created_at, split_path

_log = get_logger(__name__)

_NOT_A_FILE = (errno.ELOOP, errno.ENXIO)
"""What the system says when a link, or a socket, is to be opened."""


@dataclass(slots=True)
class Packed:
    """What a parcel turned out to hold. ``refused`` has a reason for each path; ``busy`` files are not complete after all."""

    parts: list[FilePart] = field(default_factory=list)
    refused: list[tuple[bytes, str]] = field(default_factory=list)
    busy: list[bytes] = field(default_factory=list)
    versions: dict[bytes, "FileVersion"] = field(default_factory=dict)


FileVersion = tuple[int, int]
"""What tells a file from a changed one: size and modification time. Not its inode: a copy across file systems has another."""


def file_version(look: Stat) -> FileVersion:
    """Return a file's version."""
    return look.size, look.mtime_ns


def pack(
    disk: Disk,
    folders: Folders,
    inbox: Inbox,
    parcel: str,
    paths: Iterable[bytes],
    expected: Mapping[bytes, FileVersion] | None = None,
    *,
    carry: bool = True,
) -> Packed:
    """Look at each claimed file and read the small ones, which the message will ``carry``. Who is gone by now is left out.

    One that is not the version ``expected`` was written to since it was found complete: it counts as busy.
    """
    packed = Packed()
    room = inbox.parcel_bytes_max if carry else 0
    try:
        home = disk.open_folder(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno not in MOVED_AWAY:
            raise
        return packed
    with closing(disk, home):
        for path in paths:
            parts, name = split_path(path)
            try:
                folder = opened_path(disk, home, parts)
            except OSError as error:
                if error.errno not in MOVED_AWAY:
                    raise
                continue
            with folder as at:
                seen = expected is not None and path in expected
                room -= _pack_one(disk, at, name, path, inbox, parcel, room, packed, seen=seen)
    for part in list(packed.parts):
        if expected and expected.get(part.filename, packed.versions[part.filename]) != packed.versions[part.filename]:
            packed.parts.remove(part)
            packed.busy.append(part.filename)
    return packed


def _pack_one(
    disk: Disk, at: Fd, name: bytes, path: bytes, inbox: Inbox, parcel: str, room: int, packed: Packed, *, seen: bool
) -> int:
    """Add one file to ``packed``; returns how many bytes it put inside the message.

    What was not ``seen`` to be a file is looked at before it is opened: opening a device may do something.
    """
    try:
        if not seen and (reason := refusal_reason(disk.stat(at, name), inbox.size_bytes_max)):
            packed.refused.append((path, reason))
            return 0
        with closing(disk, disk.open_file(at, name)) as file:
            return _pack_open(disk, file, path, inbox, parcel, room, packed)
    except FileNotFoundError:
        return 0
    except BlockingIOError:  # another program holds a lease of its own on it
        packed.busy.append(path)
        return 0
    except OSError as error:
        if seen and error.errno in _NOT_A_FILE:  # it has been replaced since
            return _pack_one(disk, at, name, path, inbox, parcel, room, packed, seen=False)
        if not isinstance(error, PermissionError):
            raise
        packed.refused.append((path, "inboxd is not permitted to read it: its owner must make it readable for the service"))
        return 0


def _pack_open(disk: Disk, file: Fd, path: bytes, inbox: Inbox, parcel: str, room: int, packed: Packed) -> int:
    look = disk.fstat(file)
    if reason := refusal_reason(look, inbox.size_bytes_max):
        packed.refused.append((path, reason))
        return 0
    if disk.check_writers(file) is WriterCheck.BUSY:
        packed.busy.append(path)
        return 0
    data = None
    if look.size <= inbox.inline_bytes_max:
        data = _read(disk, file, look.size)
        after = disk.fstat(file)
        if data is None or (after.size, after.mtime_ns) != (look.size, look.mtime_ns):
            packed.busy.append(path)
            return 0
    packed.versions[path] = file_version(look)
    carried = data if data is not None and len(data) <= room else None
    packed.parts.append(_build_part(path, look, inbox.name, parcel, data, carried))
    return len(carried or b"")


def _read(disk: Disk, file: Fd, size: int) -> bytes | None:
    """Read a whole small file; None if it has more or fewer bytes than announced."""
    chunks, missing = [], size
    while missing > 0 and (chunk := disk.read(file, missing + 1)):
        chunks.append(chunk)
        missing -= len(chunk)
    return None if missing else b"".join(chunks)


def _build_part(path: bytes, look: Stat, inbox: str, parcel: str, data: bytes | None, carried: bytes | None) -> FilePart:
    headers: dict[str, str | float] = {
        "id": file_id(inbox, path, look),
        "mtime": look.mtime_ns / 1e9,
        "claimed-at": created_at(parcel),
    }
    if data is not None:
        headers["sha256"] = hashlib.sha256(data).hexdigest()
    return FilePart(path, guess_content_type(path), look.size, headers, carried)


def file_id(inbox: str, path: bytes, look: Stat) -> str:
    """Return what a handler can be idempotent by: the same for one dropped file however often it is handed out.

    Made of what a claim, a retry and a restart leave as it is: inbox, path, inode, modification time, size.
    """
    key = b"\0".join([inbox.encode(), path, b"%d %d %d" % (look.ino, look.mtime_ns, look.size)])
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def build_parcel(packed: Packed, parcel: str, inbox: Inbox, host: str) -> Parcel:
    """Return the payload of what was accepted."""
    return Parcel(parcel, inbox.name, host, bytes(inbox.root), tuple(packed.parts))


def file_system_time(disk: Disk, folder: Fd) -> float:
    """Return the time by a file system's own clock, unix seconds: a server's may differ from ours."""
    disk.touch(folder)
    return disk.fstat(folder).mtime_ns / 1e9


def scan_time(disk: Disk, folders: Folders, *, network: bool) -> float:
    """Return the time that an inbox's files are to be judged by."""
    return file_system_time(disk, folders.claimed) if network else time.time()


def file_or_release_rest(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, packed: Packed) -> int:
    """Deal with what a parcel turned out to hold besides good files: refuse it, or give it back; returns how many were refused.

    Raises OSError.
    """
    refused = 0
    for path, reason in packed.refused:
        refused += fail_file(disk, folders, inbox, parcel, path, reason, attempts=0) is not None
    for path in packed.busy:
        if release_file(disk, folders, parcel, path):
            why = "it was opened for writing again"
            _log.info(events.FILE_RELEASED, inbox=inbox.name, file=path, parcel=parcel, why=why)
    if not packed.parts:
        remove_if_empty(disk, folders, parcel)
    return refused
