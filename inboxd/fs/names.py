"""File names: alternatives for a name that is taken, and the pattern of inboxd's temporary files."""

import re
from collections.abc import Iterator

NAME_BYTES_MAX = 255
TEMP_PREFIX = b".inboxd-"
TEMP_NAME = re.compile(rb"\.inboxd-[0-9a-f]{16}\.(?:part|note)")
"""The names of inboxd's own unfinished files. Retention removes old ones from done/ and failed/."""

_EXTENSION_BYTES_MAX = 16


def candidate_names(name: bytes) -> Iterator[bytes]:
    """Yield the name, then "name (2)", "name (3)" … without end: the counter before the extension, each cut to 255 bytes."""
    yield _truncate(name, NAME_BYTES_MAX)
    stem, dot, extension = name.rpartition(b".")
    if not stem or len(extension) > _EXTENSION_BYTES_MAX:
        stem, dot, extension = name, b"", b""
    count = 2
    while True:
        tail = b" (%d)" % count + dot + extension
        yield _truncate(stem, NAME_BYTES_MAX - len(tail)) + tail
        count += 1


def _truncate(name: bytes, size: int) -> bytes:
    """Cut a name to at most ``size`` bytes, between two UTF-8 characters."""
    if len(name) <= size:
        return name
    while size and name[size] & 0b1100_0000 == 0b1000_0000:  # noqa: PLR2004 - a continuation byte: a cut here splits a character
        size -= 1
    return name[:size]
