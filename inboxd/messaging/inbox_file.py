"""What a handler gets: one file, with the attributes of a web framework's uploaded file."""

import hashlib
import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from inboxd.errors import Weather
from inboxd.fs.rename import beneath, open_path
from inboxd.fs.syscalls import Disk, Fd, Stat, held
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import CLAIMED, split_path

AT_ONCE_BYTES = 64 * 1024
"""A file up to this size is read when it is opened: a stream of its own takes twice as many system calls."""

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


class ParcelReader:
    """A parcel's files, opened one after the other; its folder in claimed/ stays open from the first one by reference on."""

    def __init__(self, disk: Disk, parcel: Parcel, *, here: bool, attempt: int) -> None:
        """Take a parcel of this host (``here``) or of another, for this attempt at it (1, 2 …)."""
        self._disk = disk
        self._parcel = parcel
        self._attempt = attempt
        self._root = Path(parcel.root.decode("utf-8", "surrogateescape"))
        self._home = self._root / CLAIMED.decode() / parcel.id if here else None
        self._claimed: Fd | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._claimed is not None:
            self._disk.close(self._claimed)
            self._claimed = None

    def open(self, part: FilePart) -> InboxFile:
        """Open one file: from the message, or, by reference, from claimed/ through safe descriptors.

        Raises FileNotFoundError if it is gone, Weather if it goes by reference and can't be reached from this host.
        """
        if part.stream is not None:
            return InboxFile(part, self._parcel, io.BytesIO(part.stream), self._home, self._attempt)
        if self._claimed is None:
            self._claimed = self._open_claimed()
        parts, name = split_path(part.filename)
        with beneath(self._disk, self._claimed, parts) as at:
            file = self._disk.open_file(at, name)
        look, stream = self._stream(file)
        if (look.size, look.mtime_ns / 1e9) != (part.content_length, part.headers.get("mtime")):
            # it was written to since: what was known of its content is of the past
            part = replace(part, headers={key: value for key, value in part.headers.items() if key != "sha256"})
        return InboxFile(part, self._parcel, stream, self._home, self._attempt)

    def _stream(self, file: Fd) -> tuple[Stat, BinaryIO]:
        """Return what the system says of an open file, and a stream that takes it over; who can't be read is closed."""
        try:
            look = self._disk.fstat(file)
            chunks, missing = [], look.size if look.size <= AT_ONCE_BYTES else 0
            while missing > 0 and (chunk := self._disk.read(file, missing)):
                chunks.append(chunk)
                missing -= len(chunk)
        except BaseException:
            self._disk.close(file)
            raise
        if look.size > AT_ONCE_BYTES:
            return look, self._disk.reader(file)
        self._disk.close(file)
        return look, io.BytesIO(b"".join(chunks))

    def _open_claimed(self) -> Fd:
        try:
            top = self._disk.open_root(self._root)
        except OSError as error:
            raise Weather(f"{self._root} can't be reached from this host: {error.strerror}") from error
        with held(self._disk, top):
            return open_path(self._disk, top, (CLAIMED, self._parcel.id.encode()))
