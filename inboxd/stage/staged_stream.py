"""Reads the copy of a file in the store: by blocks, each checked by its SHA-256 before a handler sees a byte of it."""

import io
import time
from collections import OrderedDict
from collections.abc import Callable

from celery.exceptions import SoftTimeLimitExceeded

from inboxd.errors import StageUnavailable
from inboxd.stage.staged_copy import StagedCopy

CACHED_BLOCKS = 2
BUFFER_BYTES = 64 * 1024
SLOW_SECONDS = 5.0
"""A time limit that strikes when a block is awaited for longer than this is the store's fault, and not the file's."""

ReadRange = Callable[[int, int], bytes]
"""Returns the bytes from a position on, up to a number of bytes. Raises StageUnavailable."""


class StagedStream(io.RawIOBase):
    """A read-only stream that can seek. ``fault`` is why a read has failed; None as long as none has.

    A buffer above it may have lost bytes after a fault, and the handler may not have noticed: its result does not count.
    """

    def __init__(self, copy: StagedCopy, size: int, read_range: ReadRange) -> None:
        super().__init__()
        self.fault: StageUnavailable | None = None
        self._copy = copy
        self._size = size
        self._read_range = read_range
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position, and return it. Raises ValueError for a negative one."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        """Read into a buffer, up to the end of a block, and return how many bytes. Raises OSError if the store has a fault."""
        if self._position >= self._size:
            return 0
        number, offset = divmod(self._position, self._copy.block_bytes)
        part = self._block(number)[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            while len(self._blocks) >= CACHED_BLOCKS:
                self._blocks.popitem(last=False)
            self._blocks[number] = self._read_block(number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _read_block(self, number: int) -> bytes:
        start, began = number * self._copy.block_bytes, time.monotonic()
        try:
            content = self._read_range(start, min(self._copy.block_bytes, self._size - start))
        except StageUnavailable as error:
            self.fault = error
        except SoftTimeLimitExceeded as error:
            if time.monotonic() - began > SLOW_SECONDS:
                self.fault = StageUnavailable("the store does not answer, and the time limit is exceeded")
                self.fault.__cause__ = error
            raise
        else:
            if self._copy.matches(number, content):
                return content
            self.fault = StageUnavailable(f"the copy in the store differs from the file in block {number + 1}")
        raise OSError(str(self.fault)) from self.fault
