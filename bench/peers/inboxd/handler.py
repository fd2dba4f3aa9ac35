"""inboxd's handler for the comparison, which does the peers' work: the SHA-256 of the content."""

import hashlib

from inboxd import InboxFile


def digest(file: InboxFile) -> str:
    """Return the file's SHA-256, hex."""
    return hashlib.sha256(file.stream.read()).hexdigest()
