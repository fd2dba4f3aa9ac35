"""One log event as a line: for a terminal, as JSON, or as the journal's fields."""

import json
from collections.abc import Callable, Mapping

from structlog.typing import EventDict, WrappedLogger

from inboxd.logs import journald
from inboxd.logs.events import EVENTS
from inboxd.logs.journald import JournalSocket
from inboxd.logs.text import escape

Renderer = Callable[[WrappedLogger, str, EventDict], str]
"""The last step: an event's keys and values to a line, without its line feed; "" for what is told already."""


def escape_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape file names, which are bytes and may be hostile, to one printable line."""
    return {
        key: value
        if type(value) in _PLAIN_TYPES or (type(value) is str and value.isprintable()) or key == "exception"
        else _to_printable(value)
        for key, value in event.items()
    }


def _to_printable(value: object) -> object:
    """Make a value, and what is in it, something that JSON carries and a terminal bears."""
    match value:
        case bytes() | str():
            return escape(value)
        case dict():
            return {str(_to_printable(key)): _to_printable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_to_printable(inner) for inner in value]
        case _:
            return value


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Render a line for machines; first comes what every line has, so that a column of lines can be read."""
    return _ENCODER.encode({**_KEY_ORDER, **event})


_KEY_ORDER = dict.fromkeys(("timestamp", "level", "program", "event"))


_ENCODER = json.JSONEncoder(ensure_ascii=True, default=repr)


VALUE_CHARS_MAX = 120
"""So much of one value fits a terminal's line."""


_MARKS: dict[str, str] = {"warning": "!", "error": "!!", "critical": "!!"}


def render_for_terminal(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Render a line for a terminal: time, program, event, file, then the rest."""
    stamp, program = str(event.get("timestamp", ""))[11:23], event.get("program") or ""
    return f"{stamp} {program:<8}{_MARKS.get(event.get('level', 'info'), ''):>2} {_describe(event)}"


def journal_renderer(to: JournalSocket) -> Renderer:
    """Return a renderer that sends each line to the journal, and renders it only where none listens."""

    def send(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        sentence = _describe(event)
        if exception := event.get("exception"):
            event = {**event, "exception": _escape_traceback(exception)}
        entry = journald.to_fields(event, sentence, is_known_event=event.get("event") in EVENTS)
        return "" if to.send(entry) else f"<{entry['PRIORITY']}>{entry['MESSAGE']}"

    return send


_SHOWN_FIRST = frozenset({"timestamp", "level", "program", "event", "module", "inbox", "file", "exception"})


def _describe(event: EventDict) -> str:
    """Say what a line is about: the event, the file, the rest; and below it a traceback, if there is one."""
    name, inbox, file, exception = (event.get(key) for key in ("event", "inbox", "file", "exception"))
    subject = f" {inbox}:{file}" if file is not None else (f" {inbox}" if inbox else "")
    rest = "".join(
        f"  {key}={_shorten(value)}" for key, value in event.items() if value is not None and key not in _SHOWN_FIRST
    )
    line = f"{name or ''}{subject}{rest}"
    return f"{line}\n{_escape_traceback(exception)}" if exception else line


def _escape_traceback(exception: object) -> str:
    """Escape a traceback's lines, and leave them lines."""
    return "\n".join(map(escape, str(exception).split("\n")))


_PLAIN_TYPES = frozenset({int, float, bool, type(None)})


def render_read_back(line: Mapping[str, object]) -> str:
    """Render a line that was read back as a terminal would have shown it: one line, whatever it holds, without its traceback.

    ``line`` has the keys of a JSON line; its timestamp is shown as it is.
    """
    event = {
        key if key.isprintable() else escape(key): value if type(value) in _PLAIN_TYPES else _to_printable(value)
        for key, value in line.items()
        if key != "exception"
    }
    return render_for_terminal(None, "", event)


def _shorten(value: object) -> str:
    text = str(value)
    text = text if text.isprintable() else escape(text)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."
