"""Content types, guessed by a name's suffix."""

import mimetypes
from functools import lru_cache

OCTETS = "application/octet-stream"


def content_type(path: bytes) -> str:
    """Guess a file's content type by its suffix, as a browser does. The name has no other say: it could look like a URL."""
    _, dot, suffix = path.rpartition(b"/")[2].rpartition(b".")
    return _type_of(suffix) if dot else OCTETS


@lru_cache(maxsize=1024)
def _type_of(suffix: bytes) -> str:
    return mimetypes.guess_type(f"x.{suffix.decode('utf-8', 'replace')}")[0] or OCTETS
