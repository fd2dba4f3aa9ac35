"""A line of the log that was read back: from a file or from the journal, in the shape that spool/log.py wrote it in."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol

from inboxd.logs import events

LINE_START = b'{"timestamp": "'
"""How every line of ours begins. Within a value its quotes would be escaped: where this stands, a line begins."""

FILE_TIME_SLACK_SECONDS = 2.0
"""A line may be so much older than the file that it is in was when it was last written to."""

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
    """One line: when, in unix seconds, and its keys and values. What is text by rights is text, or missing."""

    at: float
    fields: Mapping[str, Any] = field(hash=False)

    def text(self, key: str) -> str | None:
        """Return a value of a key that only has texts, such as file or parcel; None if the line has none."""
        value = self.fields.get(key)
        return value if isinstance(value, str) else None

    @property
    def event(self) -> str:
        """What happened: for our own lines, one of the names in spool/log.py."""
        return self.text("event") or ""

    @property
    def is_ours(self) -> bool:
        """Whether inboxd wrote it, and not a library or a handler, whose words could look like an event's name."""
        return (self.text("module") or "").startswith(_PACKAGE)

    @property
    def parcels(self) -> set[str]:
        """The parcels that it speaks of."""
        return {parcel for key in ("parcel", "out_of") if (parcel := self.text(key))}


def parse(line: bytes) -> Record | None:
    """Return what a line says; None for what is no line of inboxd's log, such as a traceback or the words of a shell.

    A line that was torn by the end of its program may have the next program's first line behind it, which is read.
    """
    if not line.startswith(b"{"):
        line = line.lstrip(
            b"\0"
        )  # from where a log was truncated to where a program that doesn't append goes on, there is a hole
        if not line.startswith(b"{"):
            return None
    if (record := _parsed(line)) is None and line.startswith(LINE_START) and (again := line.rfind(LINE_START)) > 0:
        return _parsed(line[again:])
    return record


def _parsed(line: bytes) -> Record | None:
    try:
        found, end = _JSON.raw_decode(text := line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return from_fields(found) if end == len(text) or not text[end:].strip(" \t\r\n") else None


def from_fields(found: dict[str, Any]) -> Record | None:
    """Return the record of these keys and values; None if it has no time or no event, or a text that is none."""
    if not isinstance(found.get("timestamp"), str) or not isinstance(found.get("event"), str):
        return None
    for key, value in found.items():
        if type(value) is not str and value is not None and key in _TEXT_KEYS:
            return None
    try:
        moment = datetime.fromisoformat(found["timestamp"])
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return Record(at, found)


def oldest_line_start(since: float | None) -> bytes:
    """Return what a line of ours that begins with less is surely older than, given unix seconds; b"" if none is too old.

    Our times are in UTC and spelt alike, so that their bytes can be compared, a hundred times faster than they can be read.
    """
    if since is None:
        return b""
    moment = datetime.fromtimestamp(max(since - FILE_TIME_SLACK_SECONDS, 0.0), tz=UTC)
    return LINE_START + moment.isoformat(timespec="seconds").removesuffix("+00:00").encode()


def latest_line_start(until: float | None) -> bytes:
    """Return what a line of ours that begins with more is surely later than, given unix seconds; b"" if none is too late."""
    if until is None:
        return b""
    moment = datetime.fromtimestamp(max(until, 0.0), tz=UTC)
    return LINE_START + moment.isoformat(timespec="seconds").removesuffix("+00:00").encode() + b"~"


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which records a person asked for; None or empty is no wish. Moments are in unix seconds, ``file`` is a pattern."""

    since: float | None = None
    until: float | None = None
    inbox: str | None = None
    file: str | None = None
    parcel: str | None = None
    outcomes: tuple[str, ...] = ()

    @property
    def events(self) -> set[str]:
        """The events by which the outcomes are known; empty for all events."""
        return {event for outcome in self.outcomes for event in OUTCOMES[outcome]}

    @property
    def literal_part(self) -> str:
        """The longest text that is in the path of every wanted file, whatever its pattern's stars stand for; "" if none is."""
        return max(_WILDCARDS.split((self.file or "").partition("[")[0]), key=len)

    def matches(self, record: Record) -> bool:
        """Tell whether a record is one of those."""
        return (
            (self.since is None or record.at >= self.since)
            and (self.until is None or record.at <= self.until)
            and (self.inbox is None or record.text("inbox") == self.inbox)
            and (self.parcel is None or self.parcel in record.parcels)
            and (self.file is None or self._matches_file(record.text("file")))
            and (not self.outcomes or self._has_outcome(record))
        )

    def _matches_file(self, file: str | None) -> bool:
        """Tell whether a path, as the log spells it, or its last part where the pattern has no slash, fits the pattern."""
        if file is None or self.file is None:
            return False
        name = file if "/" in self.file else file.rpartition("/")[2]
        return file == self.file or fnmatchcase(name, self.file)

    def _has_outcome(self, record: Record) -> bool:
        """Tell whether it has one of the outcomes: a file that was split off is only retried if there was something wrong."""
        if not record.is_ours or record.event not in self.events:
            return False
        return record.event != events.PARCEL_SPLIT or record.fields.get("why") is not None


class LogSource(Protocol):
    """Where records come from."""

    @property
    def where(self) -> str:
        """Say in words where it looks."""

    def records(self, wanted: LogFilter) -> Iterator[Record]:
        """Yield, in order of time, at least those records that are wanted."""

    def last(self, wanted: LogFilter, count: int) -> list[Record]:
        """Return the last so many wanted records, in order of time."""

    def search(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; on request only those that name no file."""

    def follow(self, wanted: LogFilter, last: int, show: Callable[[Record], None]) -> None:
        """Show the last few wanted records, or all since the wished moment, then each one as it comes. Does not return."""
