"""The parcel as it travels: one versioned msgpack map, with the vocabulary of a web framework's upload for each file."""

from dataclasses import dataclass
from typing import Any, TypeVar

from inboxd.errors import InvalidMessage
from inboxd.spool.layout import is_parcel_id, split_path

_T = TypeVar("_T")

VERSION = 1
FILES_MAX = 10_000
INLINE_BYTES_MAX = 32 * 1024 * 1024
"""More than any settings allow: a message above it was not made by us."""

Wire = dict[str, Any]
"""What msgpack carries: str keys; bytes, str, int, float, list, dict and None as values."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file of a parcel.

    ``stream`` is its bytes, or None when it goes by reference: then it is read from claimed/ on its host. ``filename`` is the
    path below inbox/, as bytes. ``headers`` has id (str), mtime (float, unix seconds), claimed-at (float) and, for inline
    files, sha256 (hex).
    """

    filename: bytes
    content_type: str
    content_length: int
    headers: dict[str, str | float]
    stream: bytes | None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One directory under claimed/, one Celery message, one task id."""

    id: str
    inbox: str
    host: str
    root: bytes
    files: tuple[FilePart, ...]

    @property
    def inline_bytes(self) -> int:
        """How many bytes of content travel inside the message."""
        return sum(len(part.stream) for part in self.files if part.stream is not None)

    @property
    def by_reference(self) -> bool:
        """Whether a worker needs to see the inbox's folders."""
        return any(part.stream is None for part in self.files)


def parcel_to_wire(parcel: Parcel) -> Wire:
    """Return the map that travels."""
    return {
        "version": VERSION,
        "parcel": parcel.id,
        "inbox": parcel.inbox,
        "host": parcel.host,
        "root": parcel.root,
        "files": [
            {
                "filename": part.filename,
                "content_type": part.content_type,
                "content_length": part.content_length,
                "headers": part.headers,
                "stream": part.stream,
            }
            for part in parcel.files
        ],
    }


def parcel_from_wire(wire: object) -> Parcel:
    """Read a parcel from a message; everything in it is checked. Raises BadPayload."""
    if not isinstance(wire, dict) or wire.get("version") != VERSION:
        version = wire.get("version") if isinstance(wire, dict) else type(wire).__name__
        raise InvalidMessage(f"this is inboxd's payload version {VERSION}, the message has {version!r}: upgrade the older side")
    try:
        parcel = Parcel(
            id=_expect(str, wire["parcel"]),
            inbox=_expect(str, wire["inbox"]),
            host=_expect(str, wire["host"]),
            root=_expect(bytes, wire["root"]),
            files=tuple(_to_part(part) for part in _expect(list, wire["files"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidMessage(f"a parcel of the wrong shape: {error}") from error
    if not is_parcel_id(parcel.id) or not parcel.files or len(parcel.files) > FILES_MAX:
        raise InvalidMessage(f"no parcel: id {parcel.id[:60]!r} with {len(parcel.files)} files")
    if parcel.inline_bytes > INLINE_BYTES_MAX:
        raise InvalidMessage(f"parcel {parcel.id} carries {parcel.inline_bytes} bytes, more than any settings allow")
    return parcel


def _to_part(wire: object) -> FilePart:
    table = _expect(dict, wire)
    stream = table["stream"]
    part = FilePart(
        filename=_expect(bytes, table["filename"]),
        content_type=_expect(str, table["content_type"]),
        content_length=_expect(int, table["content_length"]),
        headers=_expect(dict, table["headers"]),
        stream=None if stream is None else _expect(bytes, stream),
    )
    split_path(part.filename)
    _expect(str, part.headers["id"])
    if part.stream is not None and len(part.stream) != part.content_length:
        raise ValueError(f"{len(part.stream)} bytes where {part.content_length} were announced")
    return part


def _expect(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value
