"""Make and remove folder trees too deep for os.walk and shutil.rmtree, one level at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

LEVELS = 3000


@contextlib.contextmanager
def deep_tree(top: Path, levels: int = LEVELS, name: str = "d") -> Iterator[bytes]:
    """Make nested folders of this name with a file "f" in the innermost; yield the file's path below ``top``."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        fd = _descend(fd, name)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    try:
        yield f"{name}/".encode() * levels + b"f"
    finally:
        _remove_levels(top, name)


def _descend(fd: int, name: str) -> int:
    child_fd = os.open(name, os.O_RDONLY, dir_fd=fd)
    os.close(fd)
    return child_fd


def _remove_levels(top: Path, name: str) -> None:
    """Remove the outermost folder, move its child to its place, and repeat."""
    folder, spare = top / name, top / "spare"
    while folder.is_dir():
        if (folder / name).is_dir():
            (folder / name).rename(spare)
        else:
            (folder / "f").unlink(missing_ok=True)
        folder.rmdir()
        if spare.is_dir():
            spare.rename(folder)
