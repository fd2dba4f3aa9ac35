"""Guesses content types by the file name's suffix."""

import mimetypes
from functools import lru_cache

OCTET_STREAM = "application/octet-stream"


def guess_content_type(path: bytes) -> str:
    """Return the content type for a path's suffix only: mimetypes would parse a whole name such as ``data:…`` as a URL."""
    _, dot, suffix = path.rpartition(b"/")[2].rpartition(b".")
    return _guess_by_suffix(suffix) if dot else OCTET_STREAM


@lru_cache(maxsize=1024)
def _guess_by_suffix(suffix: bytes) -> str:
    return mimetypes.guess_type(f"x.{suffix.decode('utf-8', 'replace')}")[0] or OCTET_STREAM
