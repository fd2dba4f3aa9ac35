"""The default handler: describes a file by its digest, size and content type."""

import codecs
from typing import Any

import puremagic

from inboxd.messaging.content_type import OCTET_STREAM, guess_content_type
from inboxd.messaging.inbox_file import InboxFile

SNIFF_BYTES = 8192
TEXT = "text/plain"
TEXT_FORMATS = frozenset({
    "application/json", "application/pdf", "application/postscript", "application/rtf", "application/xml", "image/svg+xml",
})  # fmt: skip
"""Content types outside text/ whose files are text, or may begin with text."""


def describe(file: InboxFile) -> dict[str, Any]:
    """Return a file's sha256 (hex), size (bytes) and content type, which is guessed from its first bytes."""
    head = file.stream.read(SNIFF_BYTES)
    return {"sha256": file.sha256, "size": file.size, "content_type": sniff(head, file.filename)}


def sniff(head: bytes, filename: str) -> str:
    """Return a file's content type by its first bytes; the name only distinguishes formats with the same first bytes."""
    if not head:
        return "application/x-empty"
    try:
        content_type = puremagic.from_string(head, mime=True) or OCTET_STREAM
        if head[:2] == b"PK":  # Word documents, e-books and archives are all ZIP files
            content_type = puremagic.from_string(head, mime=True, filename=filename) or content_type
    except (puremagic.PureError, ValueError):
        content_type = OCTET_STREAM
    if _is_text(head) and content_type not in TEXT_FORMATS and not content_type.startswith("text/"):
        return _text_type(filename)  # text may begin with the signature of an image: "BM", "RIFF"
    return content_type


def _text_type(filename: str) -> str:
    guessed = guess_content_type(filename.encode("utf-8", "replace"))
    return guessed if guessed.startswith("text/") else TEXT


def _is_text(head: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head, final=len(head) < SNIFF_BYTES)  # the cut may split the last character
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
