"""Configures structlog and the standard library's logging to write in one format."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TextIO, cast

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from structlog.typing import EventDict, Processor, WrappedLogger

from inboxd.config.tables import Log
from inboxd.fs.syscalls import Disk
from inboxd.logs import journald
from inboxd.logs.journald import JournalHandler, JournalSocket
from inboxd.logs.pipe import PipeStream, is_log_pipe, unbuffered
from inboxd.logs.render import Renderer, escape_values, journal_renderer, render_exception, render_for_terminal, render_json
from inboxd.logs.text import escape


def configure_logging(
    settings: Log,
    *,
    program: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    journal_socket: str = journald.SOCKET,
    stream: TextIO | None = None,
) -> None:
    """Write inboxd's events and the libraries' log records in one format, to ``stream`` (stderr) or to the journal.

    The format ``auto`` is "console" on a terminal, "journal" if JOURNAL_STREAM in ``environment`` names stderr, else "json". In
    the pipe to `inboxd up` the format is always "json".
    """
    target = stream or sys.stderr
    raw = unbuffered(target) if is_log_pipe(target, environment) else None
    line_format = "json" if raw else choose_format(settings, environment)
    target = cast("TextIO", PipeStream(raw)) if raw else target
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=line_format != "console"),
        _add_program(program),
        escape_values,
    ]
    journal = JournalSocket(journal_socket)
    renderers: dict[str, Renderer] = {"console": render_for_terminal, "json": render_json, "journal": journal_renderer(journal)}
    render = renderers[line_format]
    structlog.configure(
        processors=[*shared, render_exception, _with_fallback(render)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LineWriter.factory(target),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared, render_exception],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handler = JournalHandler(journal) if line_format == "journal" else logging.StreamHandler(target)
    handler.setFormatter(formatter)
    _configure_libraries(handler, level)


def _configure_libraries(handler: logging.Handler, level: int) -> None:
    """Make a handler the root logger's only one, and reduce the records of libraries that log each operation."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    beat = logging.getLogger("celery.beat")
    if not any(isinstance(existing, _RateLimit) for existing in beat.filters):
        beat.addFilter(_RateLimit())
    for name in ("watchdog", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _LineWriter:
    """Structlog's logger: writes inboxd's lines to stderr, without ``logging``, which costs more than the rest of a line."""

    def __init__(self, stderr: TextIO | None) -> None:
        """Write to ``stderr``, or nothing if it is None."""
        self._stderr = stderr

    @classmethod
    def factory(cls, stderr: TextIO | None) -> "Callable[..., _LineWriter]":
        """Return structlog's logger factory."""
        return lambda *_names: cls(stderr)

    def write(self, line: str) -> None:
        """Write a whole line in one call, so that no other program's line interleaves; "" is a no-op."""
        if line and self._stderr:
            with contextlib.suppress(OSError, ValueError):  # as in logging: a logging error must not reach the caller
                self._stderr.write(line + "\n")
                self._stderr.flush()

    debug = info = warning = error = critical = write


def _with_fallback(render: Renderer) -> Renderer:
    """Return a renderer that does not raise: an event that can't be rendered becomes an error line with the event's name."""

    def render_or_fall_back(logger: WrappedLogger, method: str, event: EventDict) -> str:
        name = event.get("event")
        try:
            return render(logger, method, event)
        except SoftTimeLimitExceeded:  # the handler's time limit
            raise
        except Exception as error:  # noqa: BLE001 - a value's own __repr__ may raise anything
            common = {key: event.get(key) for key in ("timestamp", "program")}
            fallback = {**common, "level": "error", "event": escape(str(name)), "error": type(error).__name__}
            return render(logger, method, fallback)

    return render_or_fall_back


def choose_format(settings: Log, environment: Mapping[str, str]) -> str:
    """Return the format of what this process writes to stderr: "console", "journal" or "json"."""
    if settings.format != "auto":
        return settings.format
    try:
        if sys.stderr.isatty():
            return "console"
        stderr = Disk().fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return "json"  # stderr is closed, not a file, or None
    # child processes inherit the variable, even if their stderr is redirected
    return "journal" if environment.get("JOURNAL_STREAM") == f"{stderr.dev}:{stderr.ino}" else "json"


class _RateLimit(logging.Filter):
    """Limits the rate at which beat repeats an error, such as that the broker is unavailable; drops its line for each sweep."""

    EVERY_SECONDS = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._last_passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message, now = str(record.msg), time.monotonic()
        if message.startswith("Scheduler: Sending due task"):
            return False
        elapsed = now - self._last_passed.get(message, -self.EVERY_SECONDS)
        if record.levelno >= logging.ERROR and elapsed < self.EVERY_SECONDS:
            return False
        self._last_passed[message] = now
        return True


def _add_program(program: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("program", program)
        return event

    return add
