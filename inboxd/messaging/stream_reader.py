"""A binary file object that reads from another one."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class StreamReader(io.BufferedIOBase):
    """The methods of io.BufferedIOBase that its other methods build on; ``stream`` is the open binary file."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream = stream

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
        """Close the stream."""
        self.stream.close()

    @property
    def closed(self) -> bool:
        """Whether the stream is closed."""
        return self.stream.closed

    def __del__(self) -> None:
        """Do not close: ``stream`` may be used for longer than this object, and closes itself."""
