"""A temporary copy of a dropped file, for code that wants a path of its own."""

import contextlib
import shutil
import tempfile
from pathlib import Path, PurePath
from typing import IO


def make_temporary_copy(stream: IO[bytes], filename: str) -> Path:
    """Copy a stream, from its position on, into a new temporary file with the same suffix; return its path.

    Raises OSError, with no file left, if there is no room.
    """
    suffix = PurePath(filename).suffix[:32]
    with tempfile.NamedTemporaryFile(prefix="inboxd-", suffix=suffix, delete=False) as copy:
        try:
            shutil.copyfileobj(stream, copy)
        except BaseException:
            remove_temporary_copy(Path(copy.name))
            raise
    return Path(copy.name)


def remove_temporary_copy(path: Path) -> None:
    """Remove a copy, unless its user has moved or removed it. What can't be removed stays."""
    with contextlib.suppress(OSError):
        path.unlink()
