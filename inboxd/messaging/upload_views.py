"""InboxFile with the interfaces that it can't have itself: Starlette's coroutines, and Django's ``name``."""

import asyncio
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol, Self, cast

from inboxd.messaging.upload_headers import UploadHeaders


class _Upload(Protocol):
    """What is used of an InboxFile, which imports this module."""

    stream: io.BufferedIOBase
    filename: str

    @property
    def size(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def headers(self) -> UploadHeaders: ...
    def open(self, mode: str | None = None) -> object: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...


class AsyncInboxFile:
    """What ``InboxFile.as_starlette()`` returns, for ``async def`` handlers: ``await file.read()``.

    Attributes: ``file`` (the open binary file), ``filename``, ``size`` (bytes), ``headers``, ``content_type``; all others are
    those of the InboxFile. A content that is not in memory is read in a thread, so that other coroutines go on.
    """

    def __init__(self, inbox_file: _Upload) -> None:
        self._inbox_file = inbox_file
        self.file = cast("BinaryIO", inbox_file.stream)
        self.filename: str = inbox_file.filename
        self.size: int = inbox_file.size
        self._is_in_memory = isinstance(inbox_file.stream, io.BytesIO)

    @property
    def headers(self) -> UploadHeaders:
        """The headers, without regard to case."""
        return self._inbox_file.headers

    async def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes, or the rest of the file."""
        if self._is_in_memory:
            return self.file.read(size)
        return await asyncio.to_thread(self.file.read, size)

    async def seek(self, offset: int) -> None:
        """Set the position, in bytes from the beginning."""
        if self._is_in_memory:
            self.file.seek(offset)
        else:
            await asyncio.to_thread(self.file.seek, offset)

    async def write(self, data: bytes) -> None:
        """Raise io.UnsupportedOperation: a dropped file is only read."""
        raise io.UnsupportedOperation(f"{self.filename}: write: a dropped file is only read ({len(data)} bytes)")

    async def close(self) -> None:
        """Close the stream."""
        self.file.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever an InboxFile has
        return getattr(self._inbox_file, name)

    def __repr__(self) -> str:
        return f"<Async{repr(self._inbox_file)[1:]}"


class NamedInboxFile:
    """What ``InboxFile.as_django()`` returns: its ``name`` is the file's, and all else that of the InboxFile.

    To Werkzeug, and so to InboxFile, ``name`` is a form's field; to Django, and to many libraries, it is the file's name.
    """

    def __init__(self, inbox_file: _Upload) -> None:
        self._inbox_file = inbox_file
        self.name: str = inbox_file.filename

    def open(self, mode: str | None = None) -> Self:
        """Set the position to the beginning, and return this file. Raises ValueError as ``InboxFile.open`` does."""
        self._inbox_file.open(mode)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._inbox_file.close()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._inbox_file)

    def __len__(self) -> int:
        return self._inbox_file.size

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever an InboxFile has
        return getattr(self._inbox_file, name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<InboxFile: {self.name} ({self._inbox_file.content_type})>"
