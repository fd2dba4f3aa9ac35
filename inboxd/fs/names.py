"""File names: alternatives for a name that is taken, and the pattern of inboxd's temporary files."""

import re
from collections.abc import Callable, Iterator
from itertools import count, islice

NAME_BYTES_MAX = 255
TEMP_PREFIX = b".inboxd-"
TEMP_NAME = re.compile(rb"\.inboxd-[0-9a-f]{16}\.(?:part|note)")
"""The names of inboxd's own unfinished files. Retention removes old ones from done/ and failed/."""

DELETED_NAME = re.compile(rb"\.nfs[0-9a-f]{24}|\.fuse_hidden[0-9a-f]{16}|\.smbdelete[0-9A-Za-z]+")
"""The names that clients of NFS, FUSE and SMB give to a deleted file for as long as a program has it open."""

NAMES_IN_ORDER = 8
"""How many names are tried one after the other before larger steps."""

_EXTENSION_BYTES_MAX = 16


def candidate_names(name: bytes) -> Iterator[bytes]:
    """Yield the name, then "name (2)", "name (3)" … without end: the counter before the extension, each cut to 255 bytes."""
    return (_numbered(name, number) for number in count(1))


def free_names(name: bytes, is_taken: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yield the names to try for a new entry: as ``candidate_names``, but in few steps past thousands that are taken.

    After the first few, a number is searched that is free and follows one that is taken: smaller ones may be free, too.
    """
    yield from islice(candidate_names(name), NAMES_IN_ORDER)
    taken, free = NAMES_IN_ORDER, 2 * NAMES_IN_ORDER
    while is_taken(_numbered(name, free)):
        taken, free = free, 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        taken, free = (middle, free) if is_taken(_numbered(name, middle)) else (taken, middle)
    yield from (_numbered(name, number) for number in count(free))


def _numbered(name: bytes, number: int) -> bytes:
    stem, dot, extension = name.rpartition(b".")
    if not stem or len(extension) > _EXTENSION_BYTES_MAX:
        stem, dot, extension = name, b"", b""
    tail = (b" (%d)" % number if number > 1 else b"") + dot + extension
    return _truncate(stem, NAME_BYTES_MAX - len(tail)) + tail


def _truncate(name: bytes, size: int) -> bytes:
    """Cut a name to at most ``size`` bytes, between two UTF-8 characters."""
    if len(name) <= size:
        return name
    while size and name[size] & 0b1100_0000 == 0b1000_0000:  # noqa: PLR2004 - a continuation byte: a cut here splits a character
        size -= 1
    return name[:size]
