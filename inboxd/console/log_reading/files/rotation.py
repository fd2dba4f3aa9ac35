"""Group log files: one that is written to, and those rotated from it."""

import re
from collections.abc import Iterable
from pathlib import Path

_ROTATED = re.compile(r"(?:[.-]\d[\dT:-]*)?(?:\.(?:gz|xz|bz2|zst))?")


def rotated_files(path: Path) -> list[Path]:
    """Return a log file and those rotated from it (NAME.1, NAME.2.gz, NAME-20261122.xz …).

    While a file is being compressed both copies exist; only the uncompressed one, which is complete, is returned.
    """
    try:
        names = {entry.name for entry in path.parent.iterdir() if _is_rotated(path.name, entry.name)}
    except OSError:
        return [path]
    whole = {name for name in names if not (name.endswith((".gz", ".xz", ".bz2", ".zst")) and name.rpartition(".")[0] in names)}
    return [path.parent / name for name in sorted(whole)]


def _is_rotated(base: str, name: str) -> bool:
    return name.startswith(base) and _ROTATED.fullmatch(name, len(base)) is not None


def current_files(paths: Iterable[Path]) -> list[Path]:
    """Return the given files and the log files in the given folders, without those rotated from another one of them."""
    found: dict[Path, None] = {}
    for path in paths:
        entries = sorted(entry for entry in path.iterdir() if ".log" in entry.name) if path.is_dir() else [path]
        found |= dict.fromkeys(entry.absolute() for entry in entries)
    return [path for path in found if not any(_was_rotated_from(path, other) for other in found)]


def _was_rotated_from(path: Path, other: Path) -> bool:
    return path != other and path.parent == other.parent and _is_rotated(other.name, path.name)
