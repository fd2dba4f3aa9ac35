"""Loggers before and after the configuration of the log."""

import io
import json

import pytest
import structlog

from inboxd.config.tables import Log
from inboxd.logs.logger import get_logger
from inboxd.logs.setup import configure_logging


def test_an_event_goes_to_stderr_before_the_log_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()

    get_logger("fs").warning("disk_full", inbox="drop")

    captured = capsys.readouterr()
    assert "disk_full" in captured.err
    assert captured.out == ""
    assert not structlog.is_configured()


def test_a_logger_made_before_the_configuration_obeys_it() -> None:
    structlog.reset_defaults()
    early, stream = get_logger("fs"), io.StringIO()
    early.debug("before")

    configure_logging(Log(format="json"), program="watcher", stream=stream)
    early.info("file_done", inbox="drop")
    early.debug("below the level")
    structlog.reset_defaults()

    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "file_done"
    assert json.loads(line)["module"] == "fs"
