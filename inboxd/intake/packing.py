"""From a claimed parcel to its payload: each file is inspected, and small ones travel inside the message."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from inboxd.config.settings import Inbox
from inboxd.fs.folders import opened_path
from inboxd.fs.syscalls import Disk, Stat, closing
from inboxd.intake.inspection import Accepted, Busy, FileVersion, Inspection, Refused, inspect
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.content_type import guess_content_type
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.claims import MOVED_AWAY, release_file, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.layout import Folders, created_at, split_path

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Packed:
    """A parcel's files: those that travel, those that are refused, each with its reason, and those that are not complete."""

    parts: list[FilePart] = field(default_factory=list)
    refused: list[tuple[bytes, str]] = field(default_factory=list)
    busy: list[bytes] = field(default_factory=list)


def pack(
    disk: Disk,
    folders: Folders,
    inbox: Inbox,
    parcel: str,
    paths: Iterable[bytes],
    expected: Mapping[bytes, FileVersion] | None = None,
    *,
    inline: bool = True,
) -> Packed:
    """Inspect each claimed file, and build its part of the message. Files that are gone are left out.

    A file whose version is not the ``expected`` one has been written to since it was found complete: it counts as busy. With
    ``inline`` small files travel inside the message, as many as ``parcel_bytes_max`` permits. Raises OSError.
    """
    room = inbox.parcel_bytes_max if inline else 0
    packed = Packed()
    for path, found in _inspect_all(disk, folders, inbox, parcel, paths, expected or {}):
        match found:
            case Accepted(stat, content):
                part = _build_part(path, stat, inbox.name, parcel, content, room)
                room -= len(part.stream or b"")
                packed.parts.append(part)
            case Refused(reason):
                packed.refused.append((path, reason))
            case Busy():
                packed.busy.append(path)
    return packed


def _inspect_all(
    disk: Disk, folders: Folders, inbox: Inbox, parcel: str, paths: Iterable[bytes], expected: Mapping[bytes, FileVersion]
) -> Iterator[tuple[bytes, Inspection]]:
    """Yield each file that is there, with what was found."""
    try:
        home = disk.open_folder(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno not in MOVED_AWAY:
            raise
        return
    with closing(disk, home):
        for path in paths:
            parts, name = split_path(path)
            try:
                opened = opened_path(disk, home, parts)
            except OSError as error:
                if error.errno not in MOVED_AWAY:
                    raise
                continue
            with opened as folder:
                found = inspect(disk, folder, name, inbox, expected.get(path))
            if found is not None:
                yield path, found


def _build_part(path: bytes, stat: Stat, inbox: str, parcel: str, content: bytes | None, room: int) -> FilePart:
    headers: dict[str, str | float] = {
        "id": file_id(inbox, path, stat),
        "mtime": stat.mtime_ns / 1e9,
        "claimed-at": created_at(parcel),
    }
    if content is not None:
        headers["sha256"] = hashlib.sha256(content).hexdigest()
    stream = content if content is not None and len(content) <= room else None
    return FilePart(path, guess_content_type(path), stat.size, headers, stream)


def file_id(inbox: str, path: bytes, stat: Stat) -> str:
    """Return the id by which a handler can be idempotent: the same for one dropped file however often it is handed out.

    It is made of what a claim, a retry and a restart leave unchanged: inbox, path, inode, modification time, size.
    """
    key = b"\0".join([inbox.encode(), path, b"%d %d %d" % (stat.ino, stat.mtime_ns, stat.size)])
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def build_parcel(packed: Packed, parcel: str, inbox: Inbox, host: str) -> Parcel:
    """Return the payload of the files that travel."""
    return Parcel(parcel, inbox.name, host, bytes(inbox.root), tuple(packed.parts))


def dispose_of_unpacked(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, packed: Packed) -> int:
    """Move refused files to failed/ and busy ones back to inbox/; returns how many were refused. Raises OSError."""
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
