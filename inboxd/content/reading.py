"""Bounded reads of a stream that is being examined."""

import io

HEAD_BYTES = 8192
"""Bytes that are read from a file's beginning; most formats need no more."""


class Reader:
    """Reads parts of an open stream, and moves its position."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def at(self, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from an offset; b"" behind the end."""
        self._stream.seek(offset)
        return self._stream.read(size)

    def size(self) -> int:
        """Return the stream's length in bytes."""
        return self._stream.seek(0, io.SEEK_END)
