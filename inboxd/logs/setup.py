"""Setting up the log: structlog, and every library's ``logging``, in one shape."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TextIO, cast

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from inboxd.config.settings import Log
from inboxd.fs.syscalls import Disk
from inboxd.logs import journald
from inboxd.logs.journald import JournalHandler, JournalSocket
from inboxd.logs.render import Renderer, escape_values, journal_renderer, render_for_terminal, render_json
from inboxd.logs.text import escape

_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger; its lines carry ``name`` as ``module``."""
    return cast("FilteringBoundLogger", structlog.get_logger(module=name))


def configure_logging(
    settings: Log, *, program: str, environment: Mapping[str, str] = _NO_ENVIRONMENT, journal_socket: str = journald.SOCKET
) -> None:
    """Send our lines, and those of every library's ``logging``, to stderr in one shape, or to the journal.

    ``auto`` is for people on a terminal, the journal's fields where ``environment`` says that stderr is its stream, and
    one JSON object on each line otherwise.
    """
    shape = _choose_format(environment) if settings.format == "auto" else settings.format
    pretty = shape == "console"
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not pretty),
        _add_program(program),
        escape_values,
    ]
    to = JournalSocket(journal_socket)
    lasts: dict[str, Renderer] = {"console": render_for_terminal, "json": render_json, "journal": journal_renderer(to)}
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _guarded(lasts[shape])],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LineWriter.factory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared, structlog.processors.format_exc_info],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, lasts[shape]],
    )
    handler = JournalHandler(to) if shape == "journal" else logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    beat = logging.getLogger("celery.beat")
    if not any(isinstance(kept, _RateLimit) for kept in beat.filters):
        beat.addFilter(_RateLimit())
    for chatty in ("watchdog", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


class _LineWriter:
    """Writes our own lines to stderr. Python's ``logging`` would cost more than all else of a line."""

    def __init__(self, stderr: TextIO | None) -> None:
        """Write to ``stderr``, None where there is none."""
        self._stderr = stderr

    @classmethod
    def factory(cls, stderr: TextIO | None) -> "Callable[..., _LineWriter]":
        """Return what structlog makes its loggers with."""
        return lambda *_names: cls(stderr)

    def write(self, line: str) -> None:
        """Write a whole line in one call, so that no other program's comes between; "" is none."""
        if line and self._stderr:
            with contextlib.suppress(OSError, ValueError):  # as in logging: what can't be told is no reason to fail
                self._stderr.write(line + "\n")
                self._stderr.flush()

    debug = info = warning = error = critical = write


def _guarded(render: Renderer) -> Renderer:
    """Let a line that can't be rendered say so, and which it is; whoever logs has other work."""

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> str:
        name = event.get("event")
        try:
            return render(logger, method, event)
        except SoftTimeLimitExceeded:  # it is about the handler
            raise
        except Exception as error:  # noqa: BLE001 - a value's own __repr__ may raise anything
            kept = {key: event.get(key) for key in ("timestamp", "program")}
            lost = {**kept, "level": "error", "event": escape(str(name)), "error": type(error).__name__}
            return render(logger, method, lost)

    return rendered


def _choose_format(environment: Mapping[str, str]) -> str:
    try:
        if sys.stderr.isatty():
            return "console"
        stderr = Disk().fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return "json"  # closed, no file at all, or none
    # programs that we start inherit the variable, and may write elsewhere
    return "journal" if environment.get("JOURNAL_STREAM") == f"{stderr.dev}:{stderr.ino}" else "json"


class _RateLimit(logging.Filter):
    """Lets beat's complaints about an absent broker through once in a while, and its tale of every sweep never."""

    EVERY_SECONDS = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._last_told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Scheduler: Sending due task"):
            return False
        now = time.monotonic()
        if (
            record.levelno < logging.ERROR
            or now - self._last_told.get(str(record.msg), -self.EVERY_SECONDS) >= self.EVERY_SECONDS
        ):
            self._last_told[str(record.msg)] = now
            return True
        return False


def _add_program(program: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("program", program)
        return event

    return add
