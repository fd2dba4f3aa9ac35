"""Show a log record as one line of a terminal: a file when it ends, a retry, a warning. Other records are not shown."""

import math
from collections.abc import Iterable

from rich.text import Text

from inboxd.console.log_reading.records import Record
from inboxd.console.one_line.fit import cut_end, cut_middle, format_size, pad
from inboxd.console.times import format_duration, to_local
from inboxd.logs import events, render
from inboxd.logs.text import escape

INBOX_CELLS_MAX = 14
NAME_CELLS_MIN = 12
NAME_SHARE = 0.4
"""Share of a failed file's line that its name takes, if the reason needs the rest."""
ENDS = frozenset({events.FILE_DONE, events.FILE_FAILED, events.FILE_REFUSED})
_SIZE_CELLS, _DURATION_CELLS, _OUTCOME_CELLS = 7, 10, 7
_TYPE_CELLS = ((150, 40), (110, 24), (79, 15), (0, 0))
"""Cells of the column of content types, by the line's width."""
_ALERTS = frozenset({"warning", "error", "critical"})
_LIFE = frozenset({events.STOPPING, events.STOPPED})
_STYLES = {"warning": "yellow", "error": "bold red", "critical": "bold red"}


def is_shown(record: Record) -> bool:
    """Return whether a record has a line: the end or the retry of a file, what its handler prints, a warning or an error."""
    if not record.is_from_inboxd:
        return record.text("level") in _ALERTS
    event = record.event
    if event == events.FILE_HANDLED:  # the file's end or retry follows, with the reason
        return False
    is_retry = event == events.FILE_RETRIED or (event == events.PARCEL_SPLIT and record.fields.get("why") is not None)
    is_life = event in _LIFE and record.text("program") == "up"
    return event in ENDS or is_retry or is_life or event == events.HANDLER_OUTPUT or record.text("level") in _ALERTS


class FileLines:
    """Makes lines of at most ``width`` cells; the column of inboxes is as wide as the names that are known or were seen."""

    def __init__(self, inboxes: Iterable[str] = (), *, with_date: bool = False) -> None:
        """``with_date``: each line begins with month and day."""
        self._inbox_cells = min(max(map(len, inboxes), default=0), INBOX_CELLS_MAX)
        self._with_date = with_date

    def render(self, record: Record, width: int) -> Text:
        """Return a record's line. What a handler prints is not cut."""
        inbox = _to_text(record.fields.get("inbox"))
        self._inbox_cells = max(self._inbox_cells, min(len(inbox), INBOX_CELLS_MAX))
        time = self._format_time(record.at)
        begin = f"{time} {pad(cut_end(inbox, self._inbox_cells), self._inbox_cells)}"
        name = _to_text(record.fields.get("file"))
        room = width - len(time) - 2 - self._inbox_cells
        event = record.event if record.is_from_inboxd else ""
        match event:
            case events.FILE_DONE:
                return Text(cut_end(f"{begin} {_describe_done(record, name, room, width)}", width))
            case events.FILE_FAILED | events.FILE_REFUSED:
                outcome = event.removeprefix("file_")
                rest = _with_reason(name, f"{outcome}: {_to_text(record.fields.get('reason'))}", room)
                return Text(cut_end(f"{begin} {rest}", width), style="red")
            case events.FILE_RETRIED | events.PARCEL_SPLIT:
                return Text(cut_end(f"{begin} {_with_reason(name, _describe_retry(record), room)}", width), style="yellow")
            case events.HANDLER_OUTPUT:
                return Text(
                    f"{begin} {cut_middle(name, max(room // 3, NAME_CELLS_MIN))} | {_to_text(record.fields.get('line'))}"
                )
            case _:
                return self._render_other(record, time, width)

    def _render_other(self, record: Record, time: str, width: int) -> Text:
        fields = {key: value for key, value in record.fields.items() if key != "module"}
        rest = render.render_read_back({**fields, "timestamp": ""}).lstrip()
        style = _STYLES.get(record.text("level") or "", "")
        return Text(cut_end(f"{time} {rest}", width), style=style)

    def _format_time(self, at: float) -> str:
        moment = to_local(math.floor(at)).isoformat()
        return f"{moment[5:10]} {moment[11:19]}" if self._with_date else moment[11:19]


def _describe_done(record: Record, name: str, room: int, width: int) -> str:
    """Return name, size, type, duration and outcome, in columns."""
    type_cells = next(cells for minimum, cells in _TYPE_CELLS if width >= minimum)
    content_type = _to_text(record.fields.get("content_type"))
    columns = [
        pad(format_size(record.fields.get("size")), _SIZE_CELLS, right=True),
        *([pad(cut_end(content_type, type_cells), type_cells)] if type_cells else []),
        pad(_duration(record), _DURATION_CELLS, right=True),
        "done",
    ]
    rest = " ".join(columns)
    name_cells = max(room - len(rest) - 1, NAME_CELLS_MIN)
    return f"{pad(cut_middle(name, name_cells), name_cells)} {rest}"


def _with_reason(name: str, reason: str, room: int) -> str:
    short = cut_middle(name, max(int(room * NAME_SHARE), room - len(reason) - 1, NAME_CELLS_MIN))
    return f"{short} {reason}"


def _describe_retry(record: Record) -> str:
    fields = record.fields
    why = _to_text(fields.get("why"))
    if record.event == events.PARCEL_SPLIT:
        return f"is retried: {why}"
    seconds = fields.get("in_seconds")
    when = f" in {format_duration(seconds)}" if isinstance(seconds, int | float) else ""
    return f"retry {_to_text(fields.get('retry'))} of {_to_text(fields.get('of'))}{when}{f': {why}' if why else ''}"


def _duration(record: Record) -> str:
    took_ms = record.fields.get("took_ms")
    return format_duration(took_ms / 1000) if isinstance(took_ms, int | float) and math.isfinite(took_ms) else ""


def _to_text(value: object) -> str:
    return "" if value is None else escape(value if isinstance(value, str) else str(value))
