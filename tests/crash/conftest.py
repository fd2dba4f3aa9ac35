"""Crash tests walk thousands of paths: in memory and without a log, since disk and log would be most of the work."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Make a folder in memory, where there is such a place; nothing here asks what a power cut would leave."""
    with tempfile.TemporaryDirectory(prefix="inboxd-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()
