"""Log lines: one line for each event, even if a file name is hostile."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from inboxd.config.tables import Log
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.setup import configure_logging

CONFIGURED_LOGGERS = ("", "watchdog", "celery.worker.strategy", "celery.app.trace")
HOSTILE = {
    "line feed": "a\nb",
    "carriage return": "a\rb",
    "escape": "\x1b[2J\x1b[31m",
    "line separator": "a\u2028b\x85c",
    "right to left": "a\u202efdp.exe",
    "lone surrogate": "a\udcff",
}
Line = dict[str, Any]


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Restore the process's logging configuration after each test."""
    config, root = structlog.get_config(), logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in CONFIGURED_LOGGERS}
    yield
    structlog.configure(**config)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class CapturedLog:
    """A log configuration that writes to a buffer; calling it returns the lines."""

    def __init__(self) -> None:
        self._stderr = io.StringIO()

    def configure(self, *, program: str = "watcher", **keys: str) -> None:
        """Configure logging with these settings, and the buffer as stderr."""
        with contextlib.redirect_stderr(self._stderr):
            configure_logging(Log(**keys), program=program)

    def __call__(self) -> list[str]:
        *lines, unfinished = self._stderr.getvalue().split("\n")
        assert unfinished == ""
        return lines


@pytest.fixture
def json_log() -> CapturedLog:
    """Return a log in the format of a service."""
    log = CapturedLog()
    log.configure(format="json")
    return log


@pytest.fixture
def console_log() -> CapturedLog:
    """Return a log in the format of a terminal."""
    log = CapturedLog()
    log.configure(format="console")
    return log


def parse_only_line(lines: list[str]) -> Line:
    assert len(lines) == 1
    line: Line = json.loads(lines[0])
    return line


def test_an_event_is_one_json_object_on_one_line(json_log: CapturedLog) -> None:
    get_logger("inboxd.intake.intake").info(events.FILE_CLAIMED, inbox="drop", file=b"x/a.pdf", took_ms=1.5)

    line = parse_only_line(json_log())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info", "program": "watcher", "event": "file_claimed", "module": "inboxd.intake.intake", "inbox": "drop",
        "file": "x/a.pdf", "took_ms": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("from_library", [False, True])
def test_every_line_begins_with_the_same_keys(json_log: CapturedLog, from_library: bool) -> None:
    if from_library:
        logging.getLogger("celery").warning("lost", extra={"aaa": 1})
    else:
        get_logger("m").warning("lost", aaa=1)

    assert list(parse_only_line(json_log()))[:4] == ["timestamp", "level", "program", "event"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_hostile_name_is_escaped_to_one_ascii_line(json_log: CapturedLog, text: str, as_bytes: bool) -> None:
    get_logger("m").info("e", file=text.encode("utf-8", "surrogateescape") if as_bytes else text)

    lines = json_log()
    assert lines[0].isascii()
    assert lines[0].isprintable()
    assert parse_only_line(lines)["file"].isprintable()


def test_bytes_that_are_not_utf8_are_escaped(json_log: CapturedLog) -> None:
    get_logger("m").info("e", file=b"a\xff\xfe.pdf")

    assert parse_only_line(json_log())["file"] == "a\\xff\\xfe.pdf"


@pytest.mark.parametrize(
    "value",
    [{"k": b"\xff\n"}, [b"a\n", {"b": "\x1b"}], {b"k": 1}, {1: 2}, object(), {"s": {3}}],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_written_on_one_line(json_log: CapturedLog, value: object) -> None:
    get_logger("m").info("file_handled", result=value)

    assert parse_only_line(json_log())["event"] == "file_handled"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("repr failed")

    __str__ = __repr__


@pytest.mark.parametrize("line_format", ["json", "console"])
def test_a_value_whose_repr_raises_becomes_an_error_line_with_the_event(json_log: CapturedLog, line_format: str) -> None:
    json_log.configure(format=line_format)

    get_logger("m").info("file_handled", result=Broken())

    (line,) = json_log()
    assert "file_handled" in line
    assert "RuntimeError" in line


def test_a_closed_stderr_raises_nothing() -> None:
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        configure_logging(Log(format="json"), program="watcher")
    stderr.close()

    get_logger("m").info("e")


def test_a_traceback_is_kept(json_log: CapturedLog) -> None:
    try:
        int("bad\x1b\nwords")
    except ValueError as error:
        get_logger("m").warning("file_handled", exc_info=error)

    exception = parse_only_line(json_log())["exception"]
    assert exception.startswith("Traceback")
    assert Path(__file__).name in exception
    assert exception.endswith(repr("bad\x1b\nwords"))


def test_a_librarys_record_has_the_same_format(json_log: CapturedLog) -> None:
    logging.getLogger("kombu.connection").error("can't reach %s\n%r", "redis\x1b", b"\n", extra={"tries": 3})

    line = parse_only_line(json_log())
    assert (line["level"], line["program"], line["tries"]) == ("error", "watcher", 3)
    assert line["event"] == "can't reach redis\\x1b\\nb'\\n'"


def test_a_librarys_traceback_is_kept(json_log: CapturedLog) -> None:
    try:
        {}["gone"]
    except KeyError:
        logging.getLogger("celery").exception("a task failed")

    line = parse_only_line(json_log())
    assert (line["level"], line["event"]) == ("error", "a task failed")
    assert "KeyError: 'gone'" in line["exception"]


def test_events_below_the_level_are_dropped(json_log: CapturedLog) -> None:
    json_log.configure(format="json", level="warning")
    for logger in (get_logger("m"), logging.getLogger("celery")):
        logger.debug("debug")
        logger.info("info")
        logger.warning("warning")
        logger.error("error")

    assert [json.loads(line)["event"] for line in json_log()] == ["warning", "error"] * 2


def test_debug_writes_all_events(json_log: CapturedLog) -> None:
    json_log.configure(format="json", level="debug")
    get_logger("m").debug("ours")
    logging.getLogger("kombu").debug("theirs")

    assert [json.loads(line)["event"] for line in json_log()] == ["ours", "theirs"]


@pytest.mark.parametrize("name", ["watchdog", "celery.worker.strategy", "celery.app.trace"])
def test_libraries_that_log_each_operation_are_limited_to_warnings(json_log: CapturedLog, name: str) -> None:
    logging.getLogger(name).info("Task received")
    logging.getLogger(name).warning("failed")

    assert parse_only_line(json_log())["event"] == "failed"


def test_configuring_twice_writes_each_event_once(json_log: CapturedLog) -> None:
    json_log.configure(format="json", program="worker")
    get_logger("m").info("e")

    assert parse_only_line(json_log())["program"] == "worker"


def test_values_bound_to_the_context_are_written(json_log: CapturedLog) -> None:
    with structlog.contextvars.bound_contextvars(parcel="p"):
        get_logger("m").info("e")

    assert parse_only_line(json_log())["parcel"] == "p"


def test_auto_chooses_json_without_a_terminal(json_log: CapturedLog) -> None:
    json_log.configure()
    get_logger("m").info("e")

    assert parse_only_line(json_log())["event"] == "e"


def test_a_terminal_line_has_program_event_file_and_values(console_log: CapturedLog) -> None:
    get_logger("m").warning("file_failed", inbox="drop", file=b"x/a.pdf", reason="no invoice", filed=None)

    (line,) = console_log()
    assert line.split(maxsplit=1)[1] == "watcher  ! file_failed drop:x/a.pdf  reason=no invoice"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("key", ["file", "inbox", "reason"])
def test_a_hostile_name_is_escaped_on_a_terminal(console_log: CapturedLog, key: str, text: str) -> None:
    get_logger("m").info("e", **{key: text.encode("utf-8", "surrogateescape")})
    get_logger("m").info("e", **{key: text})

    lines = console_log()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("key", ["file", "inbox", "reason"])
def test_a_librarys_extra_values_are_escaped_on_a_terminal(console_log: CapturedLog, key: str) -> None:
    logging.getLogger("celery").warning("a\nb", extra={key: "a\n\x1b[2J"})

    (line,) = console_log()
    assert line.isprintable()


def test_a_long_value_is_truncated_on_a_terminal(console_log: CapturedLog) -> None:
    get_logger("m").info("e", reason="a" * 10_000)

    (line,) = console_log()
    assert len(line) < 200
    assert line.endswith("...")


def test_a_terminal_shows_the_traceback_below_the_line(console_log: CapturedLog) -> None:
    get_logger("m").error("e", exc_info=ValueError("bad"))

    first, *traceback = console_log()
    assert first.endswith("!! e")
    assert traceback[-1] == "ValueError: bad"


def test_a_traceback_is_escaped_on_a_terminal(console_log: CapturedLog) -> None:
    get_logger("m").error("e", exc_info=ValueError("\x1b[2J\rall is well"))

    assert all(line.isprintable() for line in console_log())


def test_event_names_are_unique() -> None:
    names = [value for key, value in vars(events).items() if key.isupper() and isinstance(value, str)]

    assert len(names) > 20
    assert len(set(names)) == len(names)
