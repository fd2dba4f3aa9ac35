"""Trees so deep that Python's own os.walk and rmtree break off: made, and removed again, one level at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

LEVELS = 3000


@contextlib.contextmanager
def deep_tree(top: Path, levels: int = LEVELS) -> Iterator[bytes]:
    """Make a chain of folders "d" with a file "f" at its end; yields the file's path below ``top``."""
    at = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        at = _descend(at)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    try:
        yield b"d/" * levels + b"f"
    finally:
        _fill_in(top)


def _descend(at: int) -> int:
    below = os.open("d", os.O_RDONLY, dir_fd=at)
    os.close(at)
    return below


def _fill_in(top: Path) -> None:
    """Pull each level up in place of the one above it."""
    while (top / "d").is_dir():
        if (top / "d" / "d").is_dir():
            (top / "d" / "d").rename(top / "e")
        else:
            (top / "d" / "f").unlink(missing_ok=True)
        (top / "d").rmdir()
        if (top / "e").is_dir():
            (top / "e").rename(top / "d")
