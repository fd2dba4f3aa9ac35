"""The log: one line for each event, whatever a file's name tries."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from inboxd.config.settings import Log
from inboxd.logs import events
from inboxd.logs.setup import configure_logging, get_logger

CHATTY = ("", "watchdog", "celery.worker.strategy", "celery.app.trace")
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
def _as_before() -> Iterator[None]:
    """Put the process's logging back as it was."""
    known, root = structlog.get_config(), logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in CHATTY}
    yield
    structlog.configure(**known)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Told:
    """What the log has written; called, it returns the lines."""

    def __init__(self) -> None:
        self._stderr = io.StringIO()

    def configure(self, *, program: str = "watcher", **keys: str) -> None:
        """Configure the log with these settings, and with this as stderr."""
        with contextlib.redirect_stderr(self._stderr):
            configure_logging(Log(**keys), program=program)

    def __call__(self) -> list[str]:
        *lines, rest = self._stderr.getvalue().split("\n")
        assert rest == ""
        return lines


@pytest.fixture
def told() -> Told:
    """Log as a service does."""
    made = Told()
    made.configure(format="json")
    return made


@pytest.fixture
def shown() -> Told:
    """Log as a person on a terminal sees it."""
    made = Told()
    made.configure(format="console")
    return made


def only(lines: list[str]) -> Line:
    assert len(lines) == 1
    line: Line = json.loads(lines[0])
    return line


def test_an_event_is_one_json_object_on_one_line(told: Told) -> None:
    get_logger("inboxd.intake.intake").info(events.FILE_CLAIMED, inbox="drop", file=b"x/a.pdf", took_ms=1.5)

    line = only(told())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info", "program": "watcher", "event": "file_claimed", "module": "inboxd.intake.intake", "inbox": "drop",
        "file": "x/a.pdf", "took_ms": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("foreign", [False, True])
def test_every_line_begins_with_the_same_keys(told: Told, foreign: bool) -> None:
    if foreign:
        logging.getLogger("celery").warning("lost", extra={"aaa": 1})
    else:
        get_logger("m").warning("lost", aaa=1)

    assert list(only(told()))[:4] == ["timestamp", "level", "program", "event"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_hostile_name_stays_on_its_line_and_is_plain_ascii(told: Told, text: str, as_bytes: bool) -> None:
    get_logger("m").info("e", file=text.encode("utf-8", "surrogateescape") if as_bytes else text)

    lines = told()
    assert lines[0].isascii()
    assert lines[0].isprintable()
    assert only(lines)["file"].isprintable()


def test_bytes_that_are_no_utf8_are_escaped(told: Told) -> None:
    get_logger("m").info("e", file=b"a\xff\xfe.pdf")

    assert only(told())["file"] == "a\\xff\\xfe.pdf"


@pytest.mark.parametrize(
    "value",
    [{"k": b"\xff\n"}, [b"a\n", {"b": "\x1b"}], {b"k": 1}, {1: 2}, object(), {"s": {3}}],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_told_on_one_line(told: Told, value: object) -> None:
    get_logger("m").info("file_handled", result=value)

    assert only(told())["event"] == "file_handled"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("not even that")

    __str__ = __repr__


@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_value_that_can_not_be_shown_costs_a_line_its_values_and_raises_nothing(told: Told, shape: str) -> None:
    told.configure(format=shape)

    get_logger("m").info("file_handled", result=Broken())

    (line,) = told()
    assert "file_handled" in line
    assert "RuntimeError" in line


def test_a_closed_stderr_raises_nothing() -> None:
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        configure_logging(Log(format="json"), program="watcher")
    stderr.close()

    get_logger("m").info("e")


def test_an_exceptions_text_is_kept(told: Told) -> None:
    try:
        int("bad\x1b\nwords")
    except ValueError as error:
        get_logger("m").warning("file_handled", exc_info=error)

    exception = only(told())["exception"]
    assert exception.startswith("Traceback")
    assert Path(__file__).name in exception
    assert exception.endswith(repr("bad\x1b\nwords"))


def test_other_libraries_lines_go_the_same_way(told: Told) -> None:
    logging.getLogger("kombu.connection").error("can't reach %s\n%r", "redis\x1b", b"\n", extra={"tries": 3})

    line = only(told())
    assert (line["level"], line["program"], line["tries"]) == ("error", "watcher", 3)
    assert line["event"] == "can't reach redis\\x1b\\nb'\\n'"


def test_other_libraries_exceptions_are_kept(told: Told) -> None:
    try:
        {}["gone"]
    except KeyError:
        logging.getLogger("celery").exception("a task failed")

    line = only(told())
    assert (line["level"], line["event"]) == ("error", "a task failed")
    assert "KeyError: 'gone'" in line["exception"]


def test_what_is_below_the_level_is_not_told(told: Told) -> None:
    told.configure(format="json", level="warning")
    for tell in (get_logger("m"), logging.getLogger("celery")):
        tell.debug("debug")
        tell.info("info")
        tell.warning("warning")
        tell.error("error")

    assert [json.loads(line)["event"] for line in told()] == ["warning", "error"] * 2


def test_debug_tells_everything(told: Told) -> None:
    told.configure(format="json", level="debug")
    get_logger("m").debug("ours")
    logging.getLogger("kombu").debug("theirs")

    assert [json.loads(line)["event"] for line in told()] == ["ours", "theirs"]


@pytest.mark.parametrize("chatty", ["watchdog", "celery.worker.strategy", "celery.app.trace"])
def test_chatty_libraries_are_only_heard_when_something_is_wrong(told: Told, chatty: str) -> None:
    logging.getLogger(chatty).info("Task received")
    logging.getLogger(chatty).warning("trouble")

    assert only(told())["event"] == "trouble"


def test_configuring_twice_does_not_tell_twice(told: Told) -> None:
    told.configure(format="json", program="worker")
    get_logger("m").info("e")

    assert only(told())["program"] == "worker"


def test_what_is_bound_to_the_context_is_told(told: Told) -> None:
    with structlog.contextvars.bound_contextvars(parcel="p"):
        get_logger("m").info("e")

    assert only(told())["parcel"] == "p"


def test_without_a_terminal_auto_is_json(told: Told) -> None:
    told.configure()
    get_logger("m").info("e")

    assert only(told())["event"] == "e"


def test_a_person_sees_who_what_and_which_file(shown: Told) -> None:
    get_logger("m").warning("file_failed", inbox="drop", file=b"x/a.pdf", reason="no invoice", filed=None)

    (line,) = shown()
    assert line.split(maxsplit=1)[1] == "watcher  ! file_failed drop:x/a.pdf  reason=no invoice"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("key", ["file", "inbox", "reason"])
def test_a_hostile_name_can_not_move_a_persons_cursor(shown: Told, key: str, text: str) -> None:
    get_logger("m").info("e", **{key: text.encode("utf-8", "surrogateescape")})
    get_logger("m").info("e", **{key: text})

    lines = shown()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("key", ["file", "inbox", "reason"])
def test_other_libraries_extras_can_not_either(shown: Told, key: str) -> None:
    logging.getLogger("celery").warning("a\nb", extra={key: "a\n\x1b[2J"})

    (line,) = shown()
    assert line.isprintable()


def test_a_long_value_is_cut_for_a_person(shown: Told) -> None:
    get_logger("m").info("e", reason="a" * 10_000)

    (line,) = shown()
    assert len(line) < 200
    assert line.endswith("...")


def test_a_person_sees_the_traceback_below_the_line(shown: Told) -> None:
    get_logger("m").error("e", exc_info=ValueError("bad"))

    first, *below = shown()
    assert first.endswith("!! e")
    assert below[-1] == "ValueError: bad"


def test_a_traceback_can_not_move_a_persons_cursor(shown: Told) -> None:
    get_logger("m").error("e", exc_info=ValueError("\x1b[2J\rall is well"))

    assert all(line.isprintable() for line in shown())


def test_no_two_events_have_one_name() -> None:
    names = [value for key, value in vars(events).items() if key.isupper() and isinstance(value, str)]

    assert len(names) > 20
    assert len(set(names)) == len(names)
