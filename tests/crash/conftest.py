"""Crash tests walk thousands of ways: in memory and without a log, which would be most of the work; the end tells how many."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from support.crash import crash_points as points

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the crash points that this run has walked."""
    if lines := points.table():
        terminalreporter.section("crash points")
        terminalreporter.write("\n".join([*lines, ""]))
