"""Content types, guessed by a name's suffix."""

import mimetypes
from functools import lru_cache

OCTET_STREAM = "application/octet-stream"


def guess_content_type(path: bytes) -> str:
    """Guess a file's content type by its suffix, as a browser does. The name has no other say: it could look like a URL."""
    _, dot, suffix = path.rpartition(b"/")[2].rpartition(b".")
    return _guess_by_suffix(suffix) if dot else OCTET_STREAM


@lru_cache(maxsize=1024)
def _guess_by_suffix(suffix: bytes) -> str:
    return mimetypes.guess_type(f"x.{suffix.decode('utf-8', 'replace')}")[0] or OCTET_STREAM
