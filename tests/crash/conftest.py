"""Run the crash tests in memory and without a log, which would take most of the time; print the crash points at the end."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from support.crash import crash_points as points

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the crash points of this run."""
    if lines := points.table():
        terminalreporter.section("crash points")
        terminalreporter.write("\n".join([*lines, ""]))
