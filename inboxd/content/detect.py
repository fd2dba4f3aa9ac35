"""Detects a file's content type by its first bytes; the name decides only between formats that look the same."""

import io

from inboxd.content import archive, ole2
from inboxd.content.loose import loose_type
from inboxd.content.media import media_type
from inboxd.content.names import OCTET_STREAM, narrow_by_name, text_type_by_name
from inboxd.content.programs import program_type
from inboxd.content.reading import HEAD_BYTES, Reader
from inboxd.content.signatures import find_late_signature, find_signature
from inboxd.content.sized import sized_type
from inboxd.content.text import TEXT, as_text, text_type

EMPTY = "application/x-empty"

_DISC_OFFSET = 32769
_DISC_MAGICS = (b"CD001", b"BEA01", b"NSR02", b"NSR03")
_UNCERTAIN = frozenset({TEXT, "text/csv", "text/tab-separated-values", "text/x-shellscript", "application/json", "text/xml"})
"""Types of text whose name may tell more."""


def detect(stream: io.BufferedIOBase, name: str = "") -> str:
    """Return the content type of an open file, with at most a few dozen small reads; the stream's position does not change.

    No content raises an error; errors of reading it do (OSError).
    """
    position = stream.tell()
    try:
        stream.seek(0)
        return detect_by_head(stream.read(HEAD_BYTES), name, Reader(stream))
    finally:
        stream.seek(position)


def detect_by_head(head: bytes, name: str, reader: Reader) -> str:
    """Return the content type of a file that begins with ``head``: its first HEAD_BYTES, or all of a smaller file."""
    if not head:
        return EMPTY
    is_whole = len(head) < HEAD_BYTES
    text = as_text(head, is_whole=is_whole)
    if text is None:
        return narrow_by_name(_binary_type(head, reader), name)
    found = text_type(text, is_whole=is_whole)
    by_name = text_type_by_name(name) if found in _UNCERTAIN else None
    return found if by_name in (None, TEXT) else by_name


def _binary_type(head: bytes, reader: Reader) -> str:
    if head.startswith(archive.MAGICS):
        return archive.zip_type(head, reader)
    if head.startswith(ole2.MAGIC):
        return ole2.ole2_type(head, reader)
    found = program_type(head, reader) or media_type(head) or find_signature(head) or find_late_signature(head)
    return found or _type_without_signature(head, reader)


def _type_without_signature(head: bytes, reader: Reader) -> str:
    """Return the type of a format that is known by several values of its header, or by bytes far behind it."""
    if found := loose_type(head) or sized_type(head):
        return found
    return "application/x-iso9660-image" if reader.at(_DISC_OFFSET, 5) in _DISC_MAGICS else OCTET_STREAM
