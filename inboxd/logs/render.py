"""Renderers of a log event: as a line for a terminal, as JSON, or as journal fields."""

import json
from collections.abc import Callable, Mapping

from structlog.processors import format_exc_info
from structlog.typing import EventDict, WrappedLogger

from inboxd.logs import journald
from inboxd.logs.events import EVENTS
from inboxd.logs.journald import JournalSocket
from inboxd.logs.text import escape, mask_passwords, shorten

Renderer = Callable[[WrappedLogger, str, EventDict], str]
"""The last processor: returns an event's line without its line feed, "" if the event was written elsewhere."""

VALUE_CHARS_MAX = 120
"""Maximum length of one value on a terminal's line; longer ones are truncated."""

_MARKS: dict[str, str] = {"warning": "!", "error": "!!", "critical": "!!"}
_PLAIN_CHARS_MAX = 500
"""Maximum length of a printable text that is logged as it is."""

_PLAIN_TYPES = frozenset({int, float, bool, type(None)})
_RENDERED_FIRST = frozenset({"timestamp", "level", "program", "event", "module", "inbox", "file", "exception"})
_KEY_ORDER = dict.fromkeys(("timestamp", "level", "program", "event"))
_ENCODER = json.JSONEncoder(ensure_ascii=True, default=repr)


def escape_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape and shorten all values but the traceback: file names are bytes and may be hostile."""
    return {
        key: value if type(value) in _PLAIN_TYPES or _is_plain(value) or key == "exception" else _to_printable(value)
        for key, value in event.items()
    }


def _is_plain(value: object) -> bool:
    """Return whether a value is a text that is logged as it is: short, printable, and no URL, which may have a password."""
    return type(value) is str and value.isprintable() and len(value) <= _PLAIN_CHARS_MAX and "://" not in value


def render_exception(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by the traceback's text, shortened, and without the passwords of URLs."""
    event = format_exc_info(logger, method, event)
    if text := event.get("exception"):
        event["exception"] = mask_passwords(shorten(str(text)))
    return event


def _to_printable(value: object) -> object:
    """Return a value with all text in it escaped, and bytes and keys converted to str, as JSON requires."""
    match value:
        case bytes() | str():
            return mask_passwords(escape(shorten(value) if isinstance(value, str) else value))
        case dict():
            return {str(_to_printable(key)): _to_printable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_to_printable(inner) for inner in value]
        case _:
            return value


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Return an event as a JSON object; the keys that all events have come first."""
    return _ENCODER.encode({**_KEY_ORDER, **event})


def render_for_terminal(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Return an event as a line for a terminal: time, program, event, file, other values."""
    time, program = str(event.get("timestamp", ""))[11:23], event.get("program") or ""
    return f"{time} {program:<8}{_MARKS.get(event.get('level', 'info'), ''):>2} {_describe(event)}"


def journal_renderer(journal: JournalSocket) -> Renderer:
    """Return a renderer that sends each event to the journal, and returns a line only if no journal listens."""

    def send(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        message = _describe(event)
        if exception := event.get("exception"):
            event = {**event, "exception": _escape_traceback(exception)}
        entry = journald.to_fields(event, message, is_known_event=event.get("event") in EVENTS)
        return "" if journal.send(entry) else f"<{entry['PRIORITY']}>{entry['MESSAGE']}"

    return send


def _describe(event: EventDict) -> str:
    """Return an event, its file and its other values as a line, and below it the traceback, if there is one."""
    name, inbox, file, exception = (event.get(key) for key in ("event", "inbox", "file", "exception"))
    subject = f" {inbox}:{file}" if file is not None else (f" {inbox}" if inbox else "")
    values = "".join(
        f"  {key}={_shorten(value)}" for key, value in event.items() if value is not None and key not in _RENDERED_FIRST
    )
    line = f"{name or ''}{subject}{values}"
    return f"{line}\n{_escape_traceback(exception)}" if exception else line


def _escape_traceback(exception: object) -> str:
    """Escape a traceback line by line."""
    return "\n".join(map(escape, str(exception).split("\n")))


def render_read_back(fields: Mapping[str, object]) -> str:
    """Return an event that was read back from a log as ``render_for_terminal`` does, on one line without its traceback.

    ``fields`` has the keys of a JSON line, in any state: the log may be hostile or damaged.
    """
    event = {
        key if key.isprintable() else escape(key): value if type(value) in _PLAIN_TYPES else _to_printable(value)
        for key, value in fields.items()
        if key != "exception"
    }
    return render_for_terminal(None, "", event)


def _shorten(value: object) -> str:
    text = str(value)
    text = text if text.isprintable() else escape(text)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."
