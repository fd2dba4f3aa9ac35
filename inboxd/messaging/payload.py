"""The wire format of a parcel: a versioned msgpack map, with the field names of a web framework's upload for each file."""

from dataclasses import dataclass
from typing import Any, TypeVar

from inboxd.errors import InvalidMessage
from inboxd.spool.layout import is_parcel_id, split_path
from inboxd.spool.packed_version import PackedVersion
from inboxd.stage.staged_copy import StagedCopy, copy_from_wire, copy_to_wire

_T = TypeVar("_T")

VERSION = 1
FILES_MAX = 10_000
INLINE_BYTES_MAX = 32 * 1024 * 1024
"""Maximum of all files' inline bytes, above what the settings allow: inboxd sends no larger message."""

Wire = dict[str, Any]
"""A msgpack map: str keys; bytes, str, int, float, list, dict and None as values."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file of a parcel.

    ``stream`` is its content, or None if it goes by reference: then workers read it in claimed/ on its host, or on other hosts
    its ``staged`` copy in the store. ``filename`` is the path below inbox/. ``headers`` has id (str), mtime and claimed-at
    (float, unix seconds), sha256 (hex, small and staged files); and, if it is known, to whom the file belongs: uid (int),
    owner (str, the user's name). ``version`` is that of the claimed file; None if unknown.
    """

    filename: bytes
    content_type: str
    content_length: int
    headers: dict[str, str | float]
    stream: bytes | None
    version: PackedVersion | None = None
    staged: StagedCopy | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One folder in claimed/, one Celery message, one task id.

    ``unreadable`` has the paths of further files in the folder, which can't be read now and go into another parcel later.
    """

    id: str
    inbox: str
    host: str
    root: bytes
    files: tuple[FilePart, ...]
    unreadable: tuple[bytes, ...] = ()

    @property
    def inline_bytes(self) -> int:
        """The number of content bytes in the message."""
        return sum(len(part.stream) for part in self.files if part.stream is not None)

    @property
    def by_reference(self) -> bool:
        """Whether a file goes by reference alone, so that only workers with access to the inbox's folders can read it."""
        return any(part.stream is None and part.staged is None for part in self.files)


def parcel_to_wire(parcel: Parcel) -> Wire:
    """Return a parcel as a map for msgpack."""
    return {
        "version": VERSION,
        "parcel": parcel.id,
        "inbox": parcel.inbox,
        "host": parcel.host,
        "root": parcel.root,
        "files": [
            {
                "filename": part.filename, "content_type": part.content_type, "content_length": part.content_length,
                "headers": part.headers, "stream": part.stream, "version": part.version and list(part.version),
                "staged": copy_to_wire(part.staged),
            }
            for part in parcel.files
        ],
        "unreadable": list(parcel.unreadable),
    }  # fmt: skip


def parcel_from_wire(wire: object) -> Parcel:
    """Return the parcel of a message, with every value checked. Raises InvalidMessage."""
    if not isinstance(wire, dict) or wire.get("version") != VERSION:
        version = wire.get("version") if isinstance(wire, dict) else type(wire).__name__
        raise InvalidMessage(f"expected payload version {VERSION}, got {version!r}: run one release of inboxd on all hosts")
    try:
        parcel = Parcel(
            id=expect_type(str, wire["parcel"]),
            inbox=expect_type(str, wire["inbox"]),
            host=expect_type(str, wire["host"]),
            root=expect_type(bytes, wire["root"]),
            files=tuple(_to_part(part) for part in expect_type(list, wire["files"])),
            unreadable=paths_from_wire(wire["unreadable"]),
        )
    except KeyError as error:
        raise InvalidMessage(f"malformed parcel: key {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise InvalidMessage(f"malformed parcel: {error}") from error
    if not is_parcel_id(parcel.id) or not parcel.files or len(parcel.files) > FILES_MAX:
        raise InvalidMessage(f"invalid parcel: id {parcel.id[:60]!r}, {len(parcel.files)} files of at most {FILES_MAX}")
    if parcel.inline_bytes > INLINE_BYTES_MAX:
        raise InvalidMessage(f"parcel {parcel.id} has {parcel.inline_bytes} inline bytes, the maximum is {INLINE_BYTES_MAX}")
    return parcel


def _to_part(wire: object) -> FilePart:
    table = expect_type(dict, wire)
    stream = table["stream"]
    part = FilePart(
        filename=expect_type(bytes, table["filename"]),
        content_type=expect_type(str, table["content_type"]),
        content_length=expect_type(int, table["content_length"]),
        headers=expect_type(dict, table["headers"]),
        stream=None if stream is None else expect_type(bytes, stream),
        version=version_from_wire(table["version"]),
        staged=copy_from_wire(table.get("staged"), table["content_length"]),  # absent in a message of an earlier release
    )
    split_path(part.filename)
    expect_type(str, part.headers["id"])
    if part.stream is not None and len(part.stream) != part.content_length:
        raise ValueError(f"stream has {len(part.stream)} bytes, but content_length is {part.content_length}")
    return part


def version_from_wire(wire: object) -> PackedVersion | None:
    """Return a file's version from a message. Raises TypeError or ValueError if it is malformed."""
    if wire is None:
        return None
    size, mtime_ns, ctime_ns, is_unsure = (expect_type(int, value) for value in expect_type(list, wire))
    return PackedVersion(size, mtime_ns, ctime_ns, bool(is_unsure))


def paths_from_wire(wire: object) -> tuple[bytes, ...]:
    """Return a list of paths from a message. Raises TypeError or ValueError if one could lead out of the inbox."""
    paths = tuple(expect_type(bytes, path) for path in expect_type(list, wire))
    for path in paths:
        split_path(path)
    return paths


def expect_type(expected: type[_T], value: object) -> _T:
    """Return a value of a message unchanged. Raises TypeError if it has another type."""
    if not isinstance(value, expected):
        raise TypeError(f"expected {expected.__name__}, got {type(value).__name__}")
    return value
