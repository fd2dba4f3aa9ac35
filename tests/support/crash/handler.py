"""The crash tests' handler: it raises, rejects or succeeds as the file's content says, and counts its calls."""

from collections import Counter

from inboxd.errors import RejectFile
from inboxd.messaging.inbox_file import InboxFile

calls: Counter[bytes] = Counter()
"""Number of handler calls for each content."""


def handle(file: InboxFile) -> int:
    """Raise, reject or return the content's length, as the first word of the content says."""
    content = file.stream.read()
    calls[content] += 1
    if content.startswith(b"raise"):
        raise ValueError("on purpose")
    if content.startswith(b"reject"):
        raise RejectFile("on purpose")
    return len(content)


def fails(content: bytes) -> bool:
    """Return whether a file with this content ends in failed/."""
    return content.startswith((b"raise", b"reject", b"-> "))
