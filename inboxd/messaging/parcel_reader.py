"""Opening a parcel's files, one after the other, for handlers."""

import io
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

from inboxd.errors import TransientError
from inboxd.fs.folders import open_path, opened_path
from inboxd.fs.syscalls import Disk, Fd, Stat, closing
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import CLAIMED, split_path

BUFFERED_BYTES_MAX = 64 * 1024
"""A file up to this size is read when it is opened: a stream of its own takes twice as many system calls."""


class ParcelReader:
    """A parcel's files, opened one after the other; its folder in claimed/ stays open from the first one by reference on."""

    def __init__(self, disk: Disk, parcel: Parcel, *, on_this_host: bool, attempt: int) -> None:
        """Take a parcel of this host (``here``) or of another, for this attempt at it (1, 2 …)."""
        self._disk = disk
        self._parcel = parcel
        self._attempt = attempt
        self._root = Path(parcel.root.decode("utf-8", "surrogateescape"))
        self._home = self._root / CLAIMED.decode() / parcel.id if on_this_host else None
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
        with opened_path(self._disk, self._claimed, parts) as at:
            file = self._disk.open_file(at, name)
        look, stream = self._open_stream(file)
        if (look.size, look.mtime_ns / 1e9) != (part.content_length, part.headers.get("mtime")):
            # it was written to since: what was known of its content is of the past
            part = replace(part, headers={key: value for key, value in part.headers.items() if key != "sha256"})
        return InboxFile(part, self._parcel, stream, self._home, self._attempt)

    def _open_stream(self, file: Fd) -> tuple[Stat, BinaryIO]:
        """Return what the system says of an open file, and a stream that takes it over; who can't be read is closed."""
        try:
            look = self._disk.fstat(file)
            chunks, missing = [], look.size if look.size <= BUFFERED_BYTES_MAX else 0
            while missing > 0 and (chunk := self._disk.read(file, missing)):
                chunks.append(chunk)
                missing -= len(chunk)
        except BaseException:
            self._disk.close(file)
            raise
        if look.size > BUFFERED_BYTES_MAX:
            return look, self._disk.reader(file)
        self._disk.close(file)
        return look, io.BytesIO(b"".join(chunks))

    def _open_claimed(self) -> Fd:
        try:
            top = self._disk.open_root(self._root)
        except OSError as error:
            raise TransientError(f"{self._root} can't be reached from this host: {error.strerror}") from error
        with closing(self._disk, top):
            return open_path(self._disk, top, (CLAIMED, self._parcel.id.encode()))
