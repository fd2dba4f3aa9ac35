"""Fixtures of all unit tests: a real Valkey, a watcher without one, and loggers that no earlier test has configured."""

import pytest
import structlog
from support.parts.watchers import logged, watcher
from support.valkey import valkey, valkey_url

__all__ = ["logged", "valkey", "valkey_url", "watcher"]


@pytest.fixture(autouse=True)
def _unconfigured_loggers() -> None:
    """Let each test begin as a program does: capturing a log leaves structlog configured to write to stdout."""
    structlog.reset_defaults()
