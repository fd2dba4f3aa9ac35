"""The log: structlog, one line for each move, and the names of all events in this one place."""

import contextlib
import json
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
from inboxd.logs.journald import Journal, JournalHandler
from inboxd.logs.text import plain

# One file's way
FILE_CLAIMED = "file_claimed"
FILE_RELEASED = "file_released"
FILE_REFUSED = "file_refused"
FILE_HANDLED = "file_handled"
FILE_RETRIED = "file_retried"
FILE_DONE = "file_done"
FILE_FAILED = "file_failed"
FILE_GONE = "file_gone"
FILE_DENIED = "file_denied"
FILE_EXPIRED = "file_expired"
FILE_PUT_BACK = "file_put_back"
# One parcel's way
PARCEL_SENT = "parcel_sent"
PARCEL_DROPPED = "parcel_dropped"
PARCEL_CRASHED = "parcel_crashed"
PARCEL_HELPED = "parcel_helped"
PARCEL_SPLIT = "parcel_split"
PARCEL_STUCK = "parcel_stuck"
MESSAGE_REFUSED = "message_refused"
MESSAGE_SET_ASIDE = "message_set_aside"
# The programs
STARTED = "started"
STOPPING = "stopping"
STOPPED = "stopped"
CHILD_STARTED = "child_started"
CHILD_DIED = "child_died"
CHILD_REFUSED = "child_refused"
CHILD_STOPPED = "child_stopped"
BROKER_FOUND = "broker_found"
BROKER_AWAY = "broker_away"
BROKER_BACK = "broker_back"
FOLDER_AWAY = "folder_away"
FOLDER_BACK = "folder_back"
FOLDER_PRUNED = "folder_pruned"
WATCHING = "watching"
EVENTS_LOST = "events_lost"
EVENTS_MISSED = "events_missed"
OBSERVER_REBUILT = "observer_rebuilt"
SWEPT = "swept"
SWEEP_STUCK = "sweep_stuck"
WORKER_SILENT = "worker_silent"
METRICS_SERVED = "metrics_served"
METRICS_AWAY = "metrics_away"
NOTIFY_FAILED = "notify_failed"
SETTINGS_TAKEN = "settings_taken"
SETTINGS_KEPT = "settings_kept"
SETTINGS_REFUSED = "settings_refused"
INBOX_LEAVING = "inbox_leaving"
INBOX_FORGOTTEN = "inbox_forgotten"

EVENTS = frozenset(value for name, value in dict(globals()).items() if name.isupper() and isinstance(value, str))

Renderer = Callable[[WrappedLogger, str, EventDict], str]
"""The last step: an event's keys and values to a line, without its line feed; "" for what is told already."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


def get(name: str) -> FilteringBoundLogger:
    """Return a logger; its lines carry ``name`` as ``module``."""
    return cast("FilteringBoundLogger", structlog.get_logger(module=name))


def configure(
    settings: Log, *, program: str, environment: Mapping[str, str] = _NOTHING, journal_socket: str = journald.SOCKET
) -> None:
    """Send our lines, and those of every library's ``logging``, to stderr in one shape, or to the journal.

    ``auto`` is for people on a terminal, the journal's fields where ``environment`` says that stderr is its stream, and
    one JSON object on each line otherwise.
    """
    shape = _shape(environment) if settings.format == "auto" else settings.format
    pretty = shape == "console"
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not pretty),
        _named(program),
        _bytes_to_text,
    ]
    to = Journal(journal_socket)
    lasts: dict[str, Renderer] = {"console": _people, "json": _json, "journal": _to_journal(to)}
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _never_raising(lasts[shape])],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Lines.on(sys.stderr),
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
    if not any(isinstance(kept, _Seldom) for kept in beat.filters):
        beat.addFilter(_Seldom())
    for chatty in ("watchdog", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


class _Lines:
    """Writes our own lines to stderr. Python's ``logging`` would cost more than all else of a line."""

    def __init__(self, stderr: TextIO | None) -> None:
        """Write to ``stderr``, None where there is none."""
        self._stderr = stderr

    @classmethod
    def on(cls, stderr: TextIO | None) -> "Callable[..., _Lines]":
        """Return what structlog makes its loggers with."""
        return lambda *_names: cls(stderr)

    def write(self, line: str) -> None:
        """Write a whole line in one call, so that no other program's comes between; "" is none."""
        if line and self._stderr:
            with contextlib.suppress(OSError, ValueError):  # as in logging: what can't be told is no reason to fail
                self._stderr.write(line + "\n")
                self._stderr.flush()

    debug = info = warning = error = critical = write


def _never_raising(render: Renderer) -> Renderer:
    """Let a line that can't be rendered say so, and which it is; whoever logs has other work."""

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> str:
        name = event.get("event")
        try:
            return render(logger, method, event)
        except SoftTimeLimitExceeded:  # it is about the handler
            raise
        except Exception as error:  # noqa: BLE001 - a value's own __repr__ may raise anything
            kept = {key: event.get(key) for key in ("timestamp", "program")}
            lost = {**kept, "level": "error", "event": plain(str(name)), "error": type(error).__name__}
            return render(logger, method, lost)

    return rendered


def _shape(environment: Mapping[str, str]) -> str:
    try:
        if sys.stderr.isatty():
            return "console"
        stderr = Disk().fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return "json"  # closed, no file at all, or none
    # programs that we start inherit the variable, and may write elsewhere
    return "journal" if environment.get("JOURNAL_STREAM") == f"{stderr.dev}:{stderr.ino}" else "json"


class _Seldom(logging.Filter):
    """Lets beat's complaints about an absent broker through once in a while, and its tale of every sweep never."""

    EVERY_SECONDS = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Scheduler: Sending due task"):
            return False
        now = time.monotonic()
        if record.levelno < logging.ERROR or now - self._told.get(str(record.msg), -self.EVERY_SECONDS) >= self.EVERY_SECONDS:
            self._told[str(record.msg)] = now
            return True
        return False


def _named(program: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("program", program)
        return event

    return add


def _bytes_to_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape file names, which are bytes and may be hostile, to one printable line."""
    return {
        key: value
        if type(value) in _BEARABLE or (type(value) is str and value.isprintable()) or key == "exception"
        else _printable(value)
        for key, value in event.items()
    }


def _printable(value: object) -> object:
    """Make a value, and what is in it, something that JSON carries and a terminal bears."""
    match value:
        case bytes() | str():
            return plain(value)
        case dict():
            return {str(_printable(key)): _printable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_printable(inner) for inner in value]
        case _:
            return value


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Render a line for machines; first comes what every line has, so that a column of lines can be read."""
    return _ENCODER.encode({**_FIRST, **event})


_FIRST = dict.fromkeys(("timestamp", "level", "program", "event"))
_ENCODER = json.JSONEncoder(ensure_ascii=True, default=repr)

VALUE_CHARS_MAX = 120
"""So much of one value fits a terminal's line."""

_MARKS: dict[str, str] = {"warning": "!", "error": "!!", "critical": "!!"}


def _people(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Render a line for a terminal: time, program, event, file, then the rest."""
    stamp, program = str(event.get("timestamp", ""))[11:23], event.get("program") or ""
    return f"{stamp} {program:<8}{_MARKS.get(event.get('level', 'info'), ''):>2} {_sentence(event)}"


def _to_journal(to: Journal) -> Renderer:
    def send(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        sentence = _sentence(event)
        if exception := event.get("exception"):
            event = {**event, "exception": _escaped(exception)}
        entry = journald.fields(event, sentence, is_kind=event.get("event") in EVENTS)
        return "" if to.send(entry) else f"<{entry['PRIORITY']}>{entry['MESSAGE']}"

    return send


_ELSEWHERE = frozenset({"timestamp", "level", "program", "event", "module", "inbox", "file", "exception"})


def _sentence(event: EventDict) -> str:
    """Say what a line is about: the event, the file, the rest; and below it a traceback, if there is one."""
    name, inbox, file, exception = (event.get(key) for key in ("event", "inbox", "file", "exception"))
    subject = f" {inbox}:{file}" if file is not None else (f" {inbox}" if inbox else "")
    rest = "".join(f"  {key}={_short(value)}" for key, value in event.items() if value is not None and key not in _ELSEWHERE)
    line = f"{name or ''}{subject}{rest}"
    return f"{line}\n{_escaped(exception)}" if exception else line


def _escaped(exception: object) -> str:
    """Escape a traceback's lines, and leave them lines."""
    return "\n".join(map(plain, str(exception).split("\n")))


_BEARABLE = frozenset({int, float, bool, type(None)})


def for_people(line: Mapping[str, object]) -> str:
    """Render a line that was read back as a terminal would have shown it: one line, whatever it holds, without its traceback.

    ``line`` has the keys of a JSON line; its timestamp is shown as it is.
    """
    event = {
        key if key.isprintable() else plain(key): value if type(value) in _BEARABLE else _printable(value)
        for key, value in line.items()
        if key != "exception"
    }
    return _people(None, "", event)


def _short(value: object) -> str:
    text = str(value)
    text = text if text.isprintable() else plain(text)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."
