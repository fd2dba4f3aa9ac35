"""Log records: parse and filter the lines that inboxd/logs wrote, from a file or from the journal."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol

from inboxd.logs import events

LINE_START = b'{"timestamp": "'
"""The first bytes of each line that inboxd writes. Within a value the quotes are escaped, so these bytes only begin lines."""

FILE_TIME_SLACK_SECONDS = 2.0
"""Tolerance between a line's time and its file's modification time."""

OUTCOMES: dict[str, tuple[str, ...]] = {
    "done": (events.FILE_DONE,),
    "failed": (events.FILE_FAILED,),
    "refused": (events.FILE_REFUSED,),
    "retried": (events.FILE_RETRIED, events.PARCEL_SPLIT),
}

_TEXT_KEYS = frozenset(
    ("timestamp", "level", "program", "event", "module", "inbox", "file", "filed", "parcel", "out_of", "sha256", "file_id")
)
_JSON = json.JSONDecoder()
_WILDCARDS = re.compile(r"[*?]")
_PACKAGE = "inboxd."


@dataclass(frozen=True, slots=True)
class Record:
    """A log line: its time in unix seconds and its keys and values. Values of text-only keys are text or None."""

    at: float
    fields: Mapping[str, Any] = field(hash=False)

    def text(self, key: str) -> str | None:
        """Return the value of a text-only key, such as file or parcel; None if the line has no text there."""
        value = self.fields.get(key)
        return value if isinstance(value, str) else None

    @property
    def event(self) -> str:
        """The event's name: for inboxd's own lines, a constant of logs/events.py."""
        return self.text("event") or ""

    @property
    def is_from_inboxd(self) -> bool:
        """Whether inboxd wrote the line, not a library or a handler, whose message could equal an event's name."""
        return (self.text("module") or "").startswith(_PACKAGE)

    @property
    def parcels(self) -> set[str]:
        """The parcels that the line names."""
        return {parcel for key in ("parcel", "out_of") if (parcel := self.text(key))}


def parse(line: bytes) -> Record | None:
    """Return a line's record; None if it is not a line of inboxd's log, such as a traceback or a shell's output.

    When a program exits while writing, the next program's first line follows the torn one; that line is parsed.
    """
    if not line.startswith(b"{"):
        line = line.lstrip(b"\0")  # a program that doesn't append leaves a hole when its log is truncated
        if not line.startswith(b"{"):
            return None
    if (record := _parse_json(line)) is None and line.startswith(LINE_START) and (next_line := line.rfind(LINE_START)) > 0:
        return _parse_json(line[next_line:])
    return record


def _parse_json(line: bytes) -> Record | None:
    try:
        fields, end = _JSON.raw_decode(text := line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return from_fields(fields) if end == len(text) or not text[end:].strip(" \t\r\n") else None


def from_fields(fields: dict[str, Any]) -> Record | None:
    """Return the record with these fields; None if its time or event is missing, or a text-only key has another type."""
    if not isinstance(fields.get("timestamp"), str) or not isinstance(fields.get("event"), str):
        return None
    for key, value in fields.items():
        if type(value) is not str and value is not None and key in _TEXT_KEYS:
            return None
    try:
        moment = datetime.fromisoformat(fields["timestamp"])
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return Record(at, fields)


def oldest_line_start(since: float | None) -> bytes:
    """Return a lower bound for the lines since a time in unix seconds: a line that sorts before it is older; b"" for None.

    Timestamps are in UTC and of one format, so that bytes can be compared, a hundred times faster than parsing.
    """
    if since is None:
        return b""
    moment = datetime.fromtimestamp(max(since - FILE_TIME_SLACK_SECONDS, 0.0), tz=UTC)
    return LINE_START + moment.isoformat(timespec="seconds").removesuffix("+00:00").encode()


def latest_line_start(until: float | None) -> bytes:
    """Return an upper bound for the lines until a time in unix seconds: a line that sorts after it is later; b"" for None."""
    if until is None:
        return b""
    moment = datetime.fromtimestamp(max(until, 0.0), tz=UTC)
    return LINE_START + moment.isoformat(timespec="seconds").removesuffix("+00:00").encode() + b"~"


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Criteria that a record must meet; None or empty is no criterion. Times are unix seconds, ``file`` is a glob pattern.

    ``condition`` is any further criterion.
    """

    since: float | None = None
    until: float | None = None
    inbox: str | None = None
    file: str | None = None
    parcel: str | None = None
    outcomes: tuple[str, ...] = ()
    condition: Callable[[Record], bool] | None = None

    @property
    def events(self) -> set[str]:
        """The events that log the outcomes; empty for all events."""
        return {event for outcome in self.outcomes for event in OUTCOMES[outcome]}

    @property
    def literal_part(self) -> str:
        """The longest literal text before a bracket in the file pattern, which each matching path contains; may be ""."""
        return max(_WILDCARDS.split((self.file or "").partition("[")[0]), key=len)

    def matches(self, record: Record) -> bool:
        """Return whether a record meets all criteria."""
        return (
            (self.since is None or record.at >= self.since)
            and (self.until is None or record.at <= self.until)
            and (self.inbox is None or record.text("inbox") == self.inbox)
            and (self.parcel is None or self.parcel in record.parcels)
            and (self.file is None or self._matches_file(record.text("file")))
            and (not self.outcomes or self._has_outcome(record))
            and (self.condition is None or self.condition(record))
        )

    def _matches_file(self, file: str | None) -> bool:
        """Return whether a path as logged, or its last component if the pattern has no slash, matches the pattern."""
        if file is None or self.file is None:
            return False
        name = file if "/" in self.file else file.rpartition("/")[2]
        return file == self.file or fnmatchcase(name, self.file)

    def _has_outcome(self, record: Record) -> bool:
        """Return whether a record logs one of the outcomes: a file that was split off counts as retried only if it failed."""
        if not record.is_from_inboxd or record.event not in self.events:
            return False
        return record.event != events.PARCEL_SPLIT or record.fields.get("why") is not None


class LogSource(Protocol):
    """A source of records: log files or the journal."""

    @property
    def where(self) -> str:
        """The source's name, for messages."""

    def records(self, log_filter: LogFilter) -> Iterator[Record]:
        """Yield, in order of time, the records that match, and possibly others."""

    def last(self, log_filter: LogFilter, count: int) -> list[Record]:
        """Return the last ``count`` matching records, in order of time."""

    def search(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; optionally only those that name no file."""

    def follow(self, log_filter: LogFilter, last: int, show: Callable[[Record], None]) -> None:
        """Show the last matching records, or all after the filter's start, then each new one. Need not return."""
