"""Build the payload of a claimed parcel: inspect each file, and put the content of small files into the message."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from inboxd.config.rules import Inbox
from inboxd.fs.folders import opened_path
from inboxd.fs.owners import find_owner_name
from inboxd.fs.syscalls import Disk, closing
from inboxd.intake.inspection import Accepted, Busy, FileVersion, Inspection, Refused, inspect
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.content_type import guess_content_type
from inboxd.messaging.file_stream import file_id
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.claims import MOVED_AWAY, release_file, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.failure import Failure
from inboxd.spool.layout import Folders, created_at, split_path
from inboxd.spool.packed_version import packed_version

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Packed:
    """A parcel's files: the parts of its message, the refused files with their failures, and those that are not complete.

    ``unreadable`` has the files that stay in the parcel.
    """

    parts: list[FilePart] = field(default_factory=list)
    refused: list[tuple[bytes, Failure]] = field(default_factory=list)
    busy: list[bytes] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)


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
    """Inspect each claimed file and build its part of the message; skip files that no longer exist.

    A file that can't be read stays in the parcel; once the others are filed, the sweep moves it into a parcel of its own.
    Raises OSError if no file can be read, or the parcel's folder can't.

    A file with another version than ``expected`` was changed since the scan found it complete, and counts as busy. With
    ``inline`` the message carries the content of small files, up to ``parcel_bytes_max`` in total.
    """
    bytes_left = inbox.parcel_bytes_max if inline else 0
    packed = Packed()
    errors: list[OSError] = []
    for path, inspection in _inspect_all(disk, folders, inbox, parcel, paths, expected or {}):
        match inspection:
            case OSError():
                errors.append(inspection)
                packed.unreadable.append(path)
            case Accepted() as accepted:
                part = _build_part(path, accepted, inbox, parcel, bytes_left)
                bytes_left -= len(part.stream or b"")
                packed.parts.append(part)
            case Refused(failure):
                packed.refused.append((path, failure))
            case Busy():
                packed.busy.append(path)
    if errors and not (packed.parts or packed.refused or packed.busy):
        raise errors[0]
    return packed


def _inspect_all(
    disk: Disk, folders: Folders, inbox: Inbox, parcel: str, paths: Iterable[bytes], expected: Mapping[bytes, FileVersion]
) -> Iterator[tuple[bytes, Inspection | OSError]]:
    """Yield the path and the inspection of each file that exists, or the error that prevents it."""
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
            inspection: Inspection | OSError | None
            with opened as folder:
                try:
                    inspection = inspect(disk, folder, name, inbox, expected.get(path))
                except OSError as error:
                    inspection = error
            if inspection is not None:
                yield path, inspection


def _build_part(path: bytes, accepted: Accepted, inbox: Inbox, parcel: str, bytes_left: int) -> FilePart:
    stat, content = accepted.stat, accepted.content
    headers: dict[str, str | float] = {
        "id": file_id(inbox.name, path, stat),
        "mtime": stat.mtime_ns / 1e9,
        "claimed-at": created_at(parcel),
    }
    if inbox.claim != "copy":  # a copy belongs to the service's user, and not to who dropped the file
        headers["uid"] = stat.uid
        if name := find_owner_name(stat.uid):
            headers["owner"] = name
    if content is not None:
        headers["sha256"] = hashlib.sha256(content).hexdigest()
    stream = content if content is not None and len(content) <= bytes_left else None
    return FilePart(
        path, guess_content_type(path), stat.size, headers, stream, packed_version(stat, is_unsure=accepted.is_unsure)
    )


def build_parcel(packed: Packed, parcel: str, inbox: Inbox, host: str) -> Parcel:
    """Return the payload of the packed files."""
    return Parcel(parcel, inbox.name, host, bytes(inbox.root), tuple(packed.parts), tuple(packed.unreadable))


def dispose_of_unpacked(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, packed: Packed) -> int:
    """Move refused files to failed/ and busy files back to inbox/; return how many were refused.

    A file that can't be moved counts as unreadable, so that its parcel's message says that it is there: the sweep tries again.
    Raises OSError if the parcel has no file to send.
    """
    refused, errors = 0, []
    for path, failure in (*packed.refused, *((path, None) for path in packed.busy)):
        try:
            if failure is None:
                _release_busy(disk, folders, inbox, parcel, path)
            else:
                refused += fail_file(disk, folders, inbox, parcel, path, failure, attempts=0) is not None
        except OSError as error:
            if not isinstance(error, BlockingIOError):  # a move to another mount must wait for the writer
                errors.append(error)
            packed.unreadable.append(path)
    if packed.parts:
        return refused
    if errors:
        raise errors[0]
    remove_if_empty(disk, folders, parcel)
    return refused


def _release_busy(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, path: bytes) -> None:
    if release_file(disk, folders, parcel, path):
        why = "the file was changed, or opened for writing, after the scan"
        _log.info(events.FILE_RELEASED, inbox=inbox.name, file=path, parcel=parcel, why=why)
