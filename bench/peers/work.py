"""The work of every peer that is written in Python: one file's SHA-256, and the move that files it away."""

import hashlib
import os
from pathlib import Path

ROOT = Path(os.environ.get("BENCH_ROOT", "."))
"""The folder of inbox/, claimed/ and done/."""
URL = os.environ.get("BENCH_URL", "")
"""Where the server is: unix:///path."""


def digest(path: str) -> str:
    """Return a file's SHA-256, hex."""
    with open(path, "rb") as file:  # noqa: PTH123 - as everybody writes it
        return hashlib.sha256(file.read()).hexdigest()


def file_away(path: str) -> None:
    """Move a file to done/."""
    os.rename(path, ROOT / "done" / os.path.basename(path))  # noqa: PTH104, PTH119 - as everybody writes it
