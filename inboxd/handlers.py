"""The default handler: describes a file by its digest, size and content type."""

from typing import Any

from inboxd.messaging.inbox_file import InboxFile


def describe(file: InboxFile) -> dict[str, Any]:
    """Return a file's sha256 (hex), size (bytes) and content type, which is detected from its content."""
    return {"sha256": file.sha256, "size": file.size, "content_type": file.content_type}
