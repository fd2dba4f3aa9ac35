"""The work of the Python peers: compute a file's SHA-256 and move the file to done/."""

import hashlib
import os
from pathlib import Path

ROOT = Path(os.environ.get("BENCH_ROOT", "."))
"""The folder that contains inbox/, claimed/ and done/."""
URL = os.environ.get("BENCH_URL", "")
"""The server's URL, unix:///PATH."""


def digest(path: str) -> str:
    """Return a file's SHA-256, hex."""
    with open(path, "rb") as file:  # noqa: PTH123 - the usual way
        return hashlib.sha256(file.read()).hexdigest()


def move_to_done(path: str) -> None:
    """Move a file to done/."""
    os.rename(path, ROOT / "done" / os.path.basename(path))  # noqa: PTH104, PTH119 - the usual way
