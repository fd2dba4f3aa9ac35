"""Trees so deep that Python's own os.walk and rmtree break off: made, and removed again, one level at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

LEVELS = 3000


@contextlib.contextmanager
def deep_tree(top: Path, levels: int = LEVELS, name: str = "d") -> Iterator[bytes]:
    """Make a chain of folders of this name with a file "f" at its end; yields the file's path below ``top``."""
    at = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=at)
        at = _descend(at, name)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    try:
        yield f"{name}/".encode() * levels + b"f"
    finally:
        _fill_in(top, name)


def _descend(at: int, name: str) -> int:
    below = os.open(name, os.O_RDONLY, dir_fd=at)
    os.close(at)
    return below


def _fill_in(top: Path, name: str) -> None:
    """Pull each level up in place of the one above it."""
    folder, spare = top / name, top / "spare"
    while folder.is_dir():
        if (folder / name).is_dir():
            (folder / name).rename(spare)
        else:
            (folder / "f").unlink(missing_ok=True)
        folder.rmdir()
        if spare.is_dir():
            spare.rename(folder)
