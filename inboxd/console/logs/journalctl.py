"""The systemd journal as the same kind of records, by way of journalctl: what it has indexed it is asked for."""

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

from inboxd.console.logs.records import LogFilter, Record, from_fields, parse
from inboxd.logs.text import escape

PROGRAMS = ("watcher", "worker", "beat", "up", "retry")
MATCHES_PER_CALL = 200
"""So many values are asked for in one call: an argument list has an end."""

STORE_DELAY_SECONDS = 10.0
"""journalctl goes by when an entry was stored; that may be so much later than when it was sent, which is its time for us."""

_LEVELS = {"2": "critical", "3": "error", "4": "warning", "5": "info", "6": "info", "7": "debug"}
_JOURNAL_FIELDS = frozenset(
    {"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "SYSLOG_PID", "SYSLOG_TIMESTAMP"}
)
_TEXT_FIELDS = frozenset(
    {"INBOX", "FILE", "FILED", "PARCEL", "OUT_OF", "SHA256", "FILE_ID", "EVENT", "PROGRAM", "MODULE", "LEVEL"}
)
_VALUE = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|null|[\[{].*", re.DOTALL)
"""What the sender has spelt as JSON: every value that was no text."""

Entry = Mapping[str, Any]


class JournalSource:
    """This machine's journal, or the one whose files are in a folder: copied from another machine, say."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        """Say in words where it looks."""
        return "the systemd journal" + (f" in {escape(str(self._folder))}" if self._folder else "")

    def has_entries(self) -> bool:
        """Tell whether there is a journal that this user may read, with a line of inboxd's in it."""
        return shutil.which("journalctl") is not None and next(self._entries(["-n", "1"], [[]]), None) is not None

    def records(self, wanted: LogFilter) -> Iterator[Record]:
        """Yield, in order of time, the records that fit the wishes which the journal has an index for."""
        return self._read(_time_options(wanted), _matches(wanted))

    def last(self, wanted: LogFilter, count: int) -> list[Record]:
        """Return the last so many wanted records, in order of time. The journal is read from its end."""
        newest = filter(wanted.matches, self._read(["--reverse", *_time_options(wanted)], _matches(wanted)))
        return list(islice(newest, count))[::-1]

    def search(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; on request only those that name no file."""
        found: dict[str, Record] = {}
        ordered = sorted(values)
        for begin in range(0, len(ordered), MATCHES_PER_CALL):
            some = ordered[begin : begin + MATCHES_PER_CALL]
            for entry in self._entries([], [[f"{key.upper()}={value}" for value in some] for key in keys]):
                record = to_record(entry)
                if record is not None and (with_files or record.text("file") is None):
                    found[str(entry.get("__CURSOR"))] = record
        return sorted(found.values(), key=lambda record: record.at)

    def follow(self, wanted: LogFilter, last: int, show: Callable[[Record], None]) -> None:
        """Show the last few wanted records, or all since the wished moment, then each one as it comes. Returns if it ends."""
        begin = ["--no-tail", *_time_options(wanted)] if wanted.since is not None else ["-n", str(last)]
        for record in self._read(["--follow", *begin], _matches(wanted)):
            if wanted.matches(record):
                show(record)

    def _read(self, options: list[str], matches: list[list[str]]) -> Iterator[Record]:
        return (record for entry in self._entries(options, matches) if (record := to_record(entry)) is not None)

    def _entries(self, options: list[str], either: list[list[str]]) -> Iterator[Entry]:
        """Yield the journal's entries of our programs that have all the fields of one of these lists (or of the only one).

        Of one field several values may be given: one of them is enough, as journalctl has it.
        """
        folder = [f"--directory={self._folder}"] if self._folder else []
        ours = [f"SYSLOG_IDENTIFIER=inboxd-{program}" for program in PROGRAMS]
        terms = [term for matches in either for term in ("+", *ours, *matches)][1:]
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


def _time_options(wanted: LogFilter) -> list[str]:
    moments = {"since": wanted.since, "until": None if wanted.until is None else wanted.until + STORE_DELAY_SECONDS}
    return [f"--{option}=@{at:.6f}" for option, at in moments.items() if at is not None]


def _matches(wanted: LogFilter) -> list[list[str]]:
    """Return what the journal is asked for: either of these lists. File patterns are not among it."""
    common = [f"EVENT={event}" for event in sorted(wanted.events)]
    common += [f"INBOX={wanted.inbox}"] if wanted.inbox is not None else []
    if wanted.parcel is None:
        return [common]
    return [[*common, f"{key}={wanted.parcel}"] for key in ("PARCEL", "OUT_OF")]


def is_trusted(entry: Entry) -> bool:
    """Tell whether an entry is from root, ourselves, or a unit of the system: any user may write under any program's name."""
    unit = str(entry.get("_SYSTEMD_UNIT", ""))
    return str(entry.get("_UID")) in ("0", str(os.getuid())) or (unit.endswith(".service") and not unit.startswith("user@"))


def to_record(entry: Entry) -> Record | None:
    """Return an entry as a line of the log would have told it: keys in lower case, times in ISO 8601, numbers as numbers."""
    message = _to_text(entry.get("MESSAGE"))
    if "EVENT" not in entry and message.startswith("{"):  # a line of JSON that systemd has picked up from stdout or stderr
        return parse(message.encode("utf-8", "surrogatepass"))
    micros = _to_text(entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry.get("__REALTIME_TIMESTAMP"))
    if not micros.isdecimal():
        return None
    told = {
        key.lower(): _parse_value(key, value) for key, value in entry.items() if key[:1] != "_" and key not in _JOURNAL_FIELDS
    }
    first = {
        "timestamp": datetime.fromtimestamp(int(micros) / 1e6, tz=UTC).isoformat(),
        "level": _LEVELS.get(_to_text(entry.get("PRIORITY")), "info"),
        "program": _to_text(entry.get("SYSLOG_IDENTIFIER")).removeprefix("inboxd-"),
        "event": message,
    }
    return from_fields({**first, **told})


def _parse_value(key: str, value: object) -> Any:  # noqa: ANN401 - JSON's types
    text = _to_text(value)
    if key in _TEXT_FIELDS or _VALUE.fullmatch(text) is None:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _to_text(value: object) -> str:
    """Return a field's text: journalctl gives what is no text as the numbers of its bytes, and a repeated field as a list."""
    match value:
        case str():
            return escape(value)
        case [int(), *_]:
            return escape(bytes(byte for byte in value if isinstance(byte, int) and 0 <= byte < 256))  # noqa: PLR2004
        case [first, *_]:
            return _to_text(first)
        case _:
            return ""
