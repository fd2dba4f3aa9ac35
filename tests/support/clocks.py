"""A library that, preloaded into a program, shifts the system's clock by CLOCK_OFFSET seconds."""

import subprocess
from pathlib import Path

from support.repository import REPOSITORY

SOURCE = REPOSITORY / "tests" / "support" / "clock_offset.c"


def build_clock_library(folder: Path) -> Path:
    """Compile the library into a folder; return its path."""
    library = folder / "clock_offset.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library
