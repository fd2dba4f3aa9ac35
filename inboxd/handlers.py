"""The handler that comes with inboxd."""

import codecs
from typing import Any

import puremagic

from inboxd.messaging.content_type import OCTET_STREAM, guess_content_type
from inboxd.messaging.inbox_file import InboxFile

SNIFF_BYTES = 8192
TEXT = "text/plain"
WRITTEN = frozenset({
    "application/json", "application/pdf", "application/postscript", "application/rtf", "application/xml", "image/svg+xml",
})  # fmt: skip
"""Formats that are text all through, or may begin so."""


def describe(file: InboxFile) -> dict[str, Any]:
    """Answer what a file is: its sha256 (hex), size (bytes) and content type, judged by its first bytes."""
    head = file.stream.read(SNIFF_BYTES)
    return {"sha256": file.sha256, "size": file.size, "content_type": sniff(head, file.filename)}


def sniff(head: bytes, filename: str) -> str:
    """Return the content type of a file by its first bytes; the name only tells apart what begins alike."""
    if not head:
        return "application/x-empty"
    try:
        found = puremagic.from_string(head, mime=True) or OCTET_STREAM
        if head[:2] == b"PK":  # a Word document, an e-book and a plain archive are all ZIP files
            found = puremagic.from_string(head, mime=True, filename=filename) or found
    except (puremagic.PureError, ValueError):
        found = OCTET_STREAM
    if _is_text(head) and found not in WRITTEN and not found.startswith("text/"):
        return _text_type(filename)  # words may begin like a picture: "BM", "RIFF"
    return found


def _text_type(filename: str) -> str:
    guessed = guess_content_type(filename.encode("utf-8", "replace"))
    return guessed if guessed.startswith("text/") else TEXT


def _is_text(head: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head, final=len(head) < SNIFF_BYTES)  # a cut may tear the last character
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
