"""The handler for the comparison: the same work as the peers', SHA-256 over the bytes that it is given."""

import hashlib

from inboxd import InboxFile


def digest(file: InboxFile) -> str:
    """Return the file's SHA-256, hex."""
    return hashlib.sha256(file.stream.read()).hexdigest()
