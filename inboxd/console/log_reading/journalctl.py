"""Read records from the systemd journal through journalctl, which filters by its indexed fields."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from inboxd.console.log_reading.records import LogFilter, Record, from_fields, parse
from inboxd.logs.text import escape

PROGRAMS = ("watcher", "worker", "beat", "up", "retry")
MATCHES_PER_CALL = 200
"""Maximum number of values per journalctl call: the kernel limits the size of an argument list."""

STORE_DELAY_SECONDS = 10.0
"""Maximum delay between sending an entry, which is its record's time, and storing it, by which journalctl selects."""

_LEVELS = {"2": "critical", "3": "error", "4": "warning", "5": "info", "6": "info", "7": "debug"}
_JOURNAL_FIELDS = frozenset(
    {"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "SYSLOG_PID", "SYSLOG_TIMESTAMP"}
)
_TEXT_FIELDS = frozenset(
    {"INBOX", "FILE", "FILED", "PARCEL", "OUT_OF", "SHA256", "FILE_ID", "EVENT", "PROGRAM", "MODULE", "LEVEL"}
)
_VALUE = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|null|[\[{].*", re.DOTALL)
"""Matches values that the sender encoded as JSON: all that were not text."""

Entry = Mapping[str, Any]


class JournalSource:
    """The journal of this machine, or one in a folder, such as a copy from another machine."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        """The journal's name, for messages."""
        return "the systemd journal" + (f" in {escape(str(self._folder))}" if self._folder else "")

    def has_entries(self) -> bool:
        """Return whether there is a journal that this user may read and that has an entry of inboxd's."""
        return shutil.which("journalctl") is not None and next(self._entries(["-n", "1"], [[]]), None) is not None

    def records(self, log_filter: LogFilter) -> Iterator[Record]:
        """Yield, in order of time, the records that match the filter in the journal's indexed fields."""
        return self._read(_time_options(log_filter), _match_lists(log_filter))

    def last(self, log_filter: LogFilter, count: int) -> list[Record]:
        """Return the last ``count`` matching records, in order of time. The journal is read from its end."""
        newest = filter(log_filter.matches, self._read(["--reverse", *_time_options(log_filter)], _match_lists(log_filter)))
        return list(islice(newest, count))[::-1]

    def search(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; optionally only those that name no file."""
        found: dict[str, Record] = {}
        ordered = sorted(values)
        for begin in range(0, len(ordered), MATCHES_PER_CALL):
            batch = ordered[begin : begin + MATCHES_PER_CALL]
            for entry in self._entries([], [[f"{key.upper()}={value}" for value in batch] for key in keys]):
                record = to_record(entry)
                if record is not None and (with_files or record.text("file") is None):
                    found[str(entry.get("__CURSOR"))] = record
        return sorted(found.values(), key=lambda record: record.at)

    def follow(self, log_filter: LogFilter, last: int, show: Callable[[Record], None]) -> None:
        """Show the last records, or all after the filter's start, then each new one. Returns when journalctl exits."""
        begin = ["--no-tail", *_time_options(log_filter)] if log_filter.since is not None else ["-n", str(last)]
        for record in self._read(["--follow", *begin], _match_lists(log_filter)):
            if log_filter.matches(record):
                show(record)

    def _read(self, options: list[str], match_lists: list[list[str]]) -> Iterator[Record]:
        return (record for entry in self._entries(options, match_lists) if (record := to_record(entry)) is not None)

    def _entries(self, options: list[str], match_lists: list[list[str]]) -> Iterator[Entry]:
        """Yield the entries of inboxd's programs that match at least one of the lists.

        An entry matches a list if it matches every field in it; several values of one field are alternatives.
        """
        folder = [f"--directory={self._folder}"] if self._folder else []
        identifiers = [f"SYSLOG_IDENTIFIER=inboxd-{program}" for program in PROGRAMS]
        terms = [term for matches in match_lists for term in ("+", *identifiers, *matches)][1:]
        argv = ["journalctl", "--output=json", "--all", "--no-pager", "--quiet", *folder, *options, *terms]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:  # noqa: S603 - no shell
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    with contextlib.suppress(ValueError, RecursionError):
                        entry = json.loads(line)
                        if isinstance(entry, dict) and is_trusted(entry):
                            yield entry
            finally:
                process.kill()


def _time_options(log_filter: LogFilter) -> list[str]:
    until = None if log_filter.until is None else log_filter.until + STORE_DELAY_SECONDS
    return [f"--{option}=@{at:.6f}" for option, at in (("since", log_filter.since), ("until", until)) if at is not None]


def _match_lists(log_filter: LogFilter) -> list[list[str]]:
    """Return the filter as alternative lists of journalctl matches, without the file pattern, which no index covers."""
    common = [f"EVENT={event}" for event in sorted(log_filter.events)]
    common += [f"INBOX={log_filter.inbox}"] if log_filter.inbox is not None else []
    if log_filter.parcel is None:
        return [common]
    return [[*common, f"{key}={log_filter.parcel}"] for key in ("PARCEL", "OUT_OF")]


def is_trusted(entry: Entry) -> bool:
    """Return whether root, this user or a system unit wrote an entry: any user may write under any SYSLOG_IDENTIFIER."""
    unit = str(entry.get("_SYSTEMD_UNIT", ""))
    return str(entry.get("_UID")) in ("0", str(os.getuid())) or (unit.endswith(".service") and not unit.startswith("user@"))


def to_record(entry: Entry) -> Record | None:
    """Return an entry as its log line would be parsed: lower-case keys, ISO 8601 times, numbers as numbers."""
    message = _to_text(entry.get("MESSAGE"))
    if "EVENT" not in entry and message.startswith("{"):  # a JSON line that systemd captured from stdout or stderr
        return parse(message.encode("utf-8", "surrogatepass"))
    micros = _to_text(entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry.get("__REALTIME_TIMESTAMP"))
    if not micros.isdecimal():
        return None
    sent = {
        key.lower(): _parse_value(key, value) for key, value in entry.items() if key[:1] != "_" and key not in _JOURNAL_FIELDS
    }
    first = {
        "timestamp": datetime.fromtimestamp(int(micros) / 1e6, tz=UTC).isoformat(),
        "level": _LEVELS.get(_to_text(entry.get("PRIORITY")), "info"),
        "program": _to_text(entry.get("SYSLOG_IDENTIFIER")).removeprefix("inboxd-"),
        "event": message,
    }
    return from_fields({**first, **sent})


def _parse_value(key: str, value: object) -> Any:  # noqa: ANN401 - JSON's types
    text = _to_text(value)
    if key in _TEXT_FIELDS or _VALUE.fullmatch(text) is None:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _to_text(value: object) -> str:
    """Return a field's text: journalctl outputs non-UTF-8 values as lists of bytes, and repeated fields as lists of values."""
    match value:
        case str():
            return escape(value)
        case [int(), *_]:
            return escape(bytes(byte for byte in value if isinstance(byte, int) and 0 <= byte < 256))  # noqa: PLR2004
        case [first, *_]:
            return _to_text(first)
        case _:
            return ""
