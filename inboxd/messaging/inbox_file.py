"""What a handler gets: one file, with the attributes of a web framework's uploaded file."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from inboxd.messaging.payload import FilePart, Parcel

_CHUNK_BYTES = 1024 * 1024


class InboxFile:
    """One dropped file, open for reading.

    Has what code written for an uploaded file (Werkzeug's FileStorage) uses: ``stream``, ``name``, ``filename``,
    ``content_type``, ``mimetype``, ``content_length``, ``headers``, ``save()``, ``close()``, ``read()``, iteration by lines.
    Besides: ``id`` (the same however often this file is handed out), ``sha256``, ``size``, ``inbox``, ``parcel``,
    ``attempt`` (1, 2 …), ``raw_filename`` (bytes) and ``path`` (where it lies, or None on another host).
    """

    def __init__(self, part: FilePart, parcel: Parcel, stream: BinaryIO, home: Path | None, attempt: int) -> None:
        """``home`` is the parcel's own folder in claimed/, None on another host."""
        self.stream = stream
        self.name = parcel.inbox
        self.raw_filename = part.filename
        self.filename = part.filename.decode("utf-8", "surrogateescape")
        self.content_type = part.content_type
        self.content_length = part.content_length
        self.headers: dict[str, Any] = {
            "Content-Type": part.content_type,
            "Content-Length": str(part.content_length),
            **part.headers,
        }
        self.id = str(part.headers["id"])
        self.inbox = parcel.inbox
        self.parcel = parcel.id
        self._home = home
        self.attempt = attempt
        self._sha256 = str(part.headers["sha256"]) if "sha256" in part.headers else None

    @property
    def path(self) -> Path | None:
        """Where the file lies, None on another host. It is there to be read: done/ and failed/ are inboxd's business."""
        return None if self._home is None else self._home / self.filename

    @property
    def mimetype(self) -> str:
        """The content type without parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def size(self) -> int:
        """How many bytes the file has."""
        return self.content_length

    @property
    def sha256(self) -> str:
        """The content's SHA-256, hex; read through ``stream``, whose position stays where it is."""
        if self._sha256 is None:
            here = self.stream.tell()
            self.stream.seek(0)
            digest = hashlib.sha256()
            while chunk := self.stream.read(_CHUNK_BYTES):
                digest.update(chunk)
            self.stream.seek(here)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def save(self, dst: str | Path | IO[bytes], buffer_size: int = 16_384) -> None:
        """Copy the file to a path or into an open binary file."""
        if hasattr(dst, "write"):
            shutil.copyfileobj(self.stream, dst, buffer_size)
            return
        with open(dst, "wb") as target:  # noqa: PTH123 - a handler's own place, named by it
            shutil.copyfileobj(self.stream, target, buffer_size)

    def close(self) -> None:
        """Close the stream; the file itself stays where it is."""
        self.stream.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        if name == "stream":  # not made yet: don't look it up through itself
            raise AttributeError(name)
        return getattr(self.stream, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.stream)

    def __repr__(self) -> str:
        return f"<InboxFile {self.filename!r} ({self.content_type})>"
