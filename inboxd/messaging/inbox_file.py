"""The file object that a handler gets, with the interface of a web framework's uploaded file."""

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from inboxd.messaging.payload import FilePart, Parcel

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK_BYTES = 1024 * 1024


class InboxFile(io.BufferedIOBase):
    """One dropped file, open for reading in binary mode.

    Attributes: ``stream`` (the open binary file, for code that needs a real one), ``name`` (the inbox, as an upload's form
    field), ``filename``, ``raw_filename`` (bytes), ``content_type``, ``content_length`` (in bytes), ``headers``, ``id`` (the
    same at every attempt), ``inbox``, ``parcel``, ``attempt`` (1, 2 …). A binary file object, which ``io.TextIOWrapper``,
    ``zipfile`` and ``email`` accept, too. inboxd closes the file when the handler returns.
    """

    def __init__(self, part: FilePart, parcel: Parcel, stream: io.BufferedIOBase, folder: Path | None, attempt: int) -> None:
        """``folder`` is the parcel's folder in claimed/, None on another host."""
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
        self._folder = folder
        self.attempt = attempt
        self._sha256 = str(part.headers["sha256"]) if "sha256" in part.headers else None

    @property
    def path(self) -> Path | None:
        """The file's path, None on another host. For reading only: inboxd moves the file to done/ or failed/."""
        return None if self._folder is None else self._folder / self.filename

    @property
    def mimetype(self) -> str:
        """The content type without parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.content_length

    @property
    def sha256(self) -> str:
        """The content's SHA-256 in hex, computed on first use; the position of ``stream`` does not change."""
        if self._sha256 is None:
            position = self.tell()
            digest = hashlib.sha256()
            for chunk in self.chunks():
                digest.update(chunk)
            self.seek(position)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def save(self, dst: str | Path | IO[bytes], buffer_size: int = 16_384) -> None:
        """Copy the file to a path or into an open binary file."""
        if hasattr(dst, "write"):
            shutil.copyfileobj(self.stream, dst, buffer_size)
            return
        with open(dst, "wb") as target:  # noqa: PTH123 - the handler chooses the path
            shutil.copyfileobj(self.stream, target, buffer_size)

    def chunks(self, size: int = _CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the whole content in chunks of ``size`` bytes, from the beginning."""
        self.seek(0)
        while chunk := self.read(size):
            yield chunk

    # the methods of io.BufferedIOBase that its other methods build on

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most ``size`` bytes, or the rest of the file."""
        return self.stream.read(size)

    def read1(self, size: int = -1, /) -> bytes:
        """Read at most ``size`` bytes with at most one system call."""
        return self.stream.read1(size)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read bytes into a buffer; return their number."""
        return self.stream.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read one line with its line end; b"" at the end of the file."""
        return self.stream.readline(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position and return it, in bytes from the beginning."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in bytes."""
        return self.stream.tell()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor. Raises io.UnsupportedOperation if the content is in memory."""
        return self.stream.fileno()

    def close(self) -> None:
        """Close the stream; the file is neither moved nor deleted."""
        self.stream.close()

    @property
    def closed(self) -> bool:
        """Whether the stream is closed."""
        return self.stream.closed

    def __del__(self) -> None:
        """Do not close: ``stream`` may be used for longer than this object, and closes itself."""

    def __repr__(self) -> str:
        return f"<InboxFile {self.filename!r} ({self.content_type})>"
