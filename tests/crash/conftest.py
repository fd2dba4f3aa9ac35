"""Fixtures of the crash tests: folders in memory and no log, for speed."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

MEMORY_FOLDER = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Make a folder in memory, if the system has a tmpfs for it; no crash test depends on the storage device."""
    with tempfile.TemporaryDirectory(prefix="inboxd-", dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def without_log() -> Iterator[None]:
    """Disable log lines below the level critical."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()
