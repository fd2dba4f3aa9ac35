"""Fixtures of all unit tests: a real Valkey, a watcher without one, and loggers that no earlier test has configured."""

import sys

import pytest
import structlog
from support.parts.watchers import logged, watcher
from support.valkey import valkey, valkey_url

__all__ = ["logged", "valkey", "valkey_url", "watcher"]


@pytest.fixture(autouse=True)
def _log_to_stderr() -> None:
    """Let each test's log go to the standard error of the moment: capturing a log leaves structlog writing to stdout."""
    structlog.reset_defaults()
    structlog.configure(logger_factory=lambda *_names: structlog.PrintLogger(sys.stderr))
