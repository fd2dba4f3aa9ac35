"""Names: free ones like a wanted name, and the names of files that are inboxd's own."""

import re
from collections.abc import Iterator

NAME_BYTES_MAX = 255


TEMP_PREFIX = b".inboxd-"


TEMP_NAME = re.compile(rb"\.inboxd-[0-9a-f]{16}\.(?:part|note)")
"""Our own unfinished files begin so; they lie only in done/ and failed/, and retention removes old ones."""


_EXTENSION_BYTES_MAX = 16


def candidate_names(wanted: bytes) -> Iterator[bytes]:
    """Yield wanted, then "wanted (2)", "wanted (3)" …, the counter before the extension, each cut to fit a name."""
    yield _truncate(wanted, NAME_BYTES_MAX)
    stem, dot, extension = wanted.rpartition(b".")
    if not stem or len(extension) > _EXTENSION_BYTES_MAX:
        stem, dot, extension = wanted, b"", b""
    count = 2
    while True:
        tail = b" (%d)" % count + dot + extension
        yield _truncate(stem, NAME_BYTES_MAX - len(tail)) + tail
        count += 1


def _truncate(name: bytes, size: int) -> bytes:
    """Cut a name to so many bytes, between two UTF-8 characters."""
    if len(name) <= size:
        return name
    while size and name[size] & 0b1100_0000 == 0b1000_0000:  # noqa: PLR2004 - a continuation byte: its character would be torn
        size -= 1
    return name[:size]
