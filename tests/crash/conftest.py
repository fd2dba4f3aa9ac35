"""Run the crash tests in memory and without a log: the disk and the log would take most of the time."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Yield a folder in memory where the machine has /dev/shm: these tests need no file that survives a power cut."""
    with tempfile.TemporaryDirectory(prefix="inboxd-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Discard all log lines below level critical."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()
