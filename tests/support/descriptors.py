"""Count the open files of this process."""

import gc
from pathlib import Path


def open_descriptors() -> int:
    """Return the number of this process's open file descriptors, after closing those of unreachable objects."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))
