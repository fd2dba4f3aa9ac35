"""The handler of the crash tests: it does what a content says, and counts."""

from collections import Counter

from inboxd.errors import RejectFile
from inboxd.messaging.inbox_file import InboxFile

calls: Counter[bytes] = Counter()
"""How often the handler was called with each content."""


def handle(file: InboxFile) -> int:
    """Do what the content says."""
    content = file.stream.read()
    calls[content] += 1
    if content.startswith(b"raise"):
        raise ValueError("on purpose")
    if content.startswith(b"reject"):
        raise RejectFile("on purpose")
    return len(content)


def fails(content: bytes) -> bool:
    """Tell whether a content ends in failed/."""
    return content.startswith((b"raise", b"reject", b"-> "))
