"""A ledger of log lines: each claimed file and its final event. Lines may come in any order, and more than once.

File names are spelt as in the log: escaped, on one line.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from inboxd.console.log_reading.records import Record
from inboxd.console.times import format_local
from inboxd.logs import events

FINAL_EVENTS = (events.FILE_DONE, events.FILE_FAILED, events.FILE_REFUSED, events.FILE_RELEASED)
"""Events after which a file is not in claimed/. FILE_MISSING is none: it only says that the file was not found there."""


class FileInParcel(NamedTuple):
    """One file in one parcel."""

    inbox: str
    parcel: str
    file: str


class _FinalStep(NamedTuple):
    event: str
    at: float
    filed: str


class Step(NamedTuple):
    """One logged step of a file or parcel: its unix time and its event."""

    at: float
    event: str


class ClaimRecord(NamedTuple):
    """What the log says of a file at its claim; every field is None if that line is missing."""

    at: float | None
    size: object = None
    sha256: str | None = None


@dataclass(slots=True)
class OpenEntry:
    """A claimed file without a final event in the log: its last position, its claim and its last step."""

    position: FileInParcel
    claim: ClaimRecord
    last_step: Step


@dataclass(slots=True)
class Balance:
    """What the log accounts for: the number of files by final event, and the entries that have none.

    ``filed`` has inbox, event and path of every logged move to done/ or failed/; ``positions`` has every file that the log
    mentions in a parcel; ``lines`` is the number of lines about parcels, and ``span`` the unix times of the first and the last.
    """

    final_counts: dict[str, int]
    filed: set[tuple[str, str, str]]
    positions: set[FileInParcel]
    lines: int
    span: tuple[float, float] | None
    open_entries: list[OpenEntry] = field(default_factory=list)


class Ledger:
    """Collects the log's records, and then returns their balance."""

    def __init__(self) -> None:
        self._lines = 0
        self._span: tuple[float, float] | None = None
        self._interned: dict[FileInParcel, FileInParcel] = {}
        self._claims: dict[FileInParcel, ClaimRecord] = {}
        self._final_steps: dict[FileInParcel, _FinalStep] = {}
        self._splits: dict[FileInParcel, FileInParcel] = {}
        self._steps: dict[FileInParcel, Step] = {}

    @property
    def done(self) -> dict[FileInParcel, str]:
        """The files that went to done/, by their place there."""
        return {position: step.filed for position, step in self._final_steps.items() if step.event == events.FILE_DONE}

    def add(self, records: Iterable[Record]) -> None:
        """Add records; skip those that name no parcel, and those that a handler or a library wrote."""
        for record in records:
            parcel = record.text("parcel")
            if parcel is None or not record.is_from_inboxd:
                continue
            position = FileInParcel(record.text("inbox") or "", parcel, record.text("file") or "")
            position = self._interned.setdefault(position, position)  # of a million lines, each name is kept once
            event, at = sys.intern(record.event), record.at
            self._add_step(position, event, at)
            if not position.file:
                continue
            if event == events.FILE_CLAIMED:
                self._claims[position] = ClaimRecord(at, record.fields.get("size"), record.text("sha256"))
            elif event == events.PARCEL_SPLIT:
                self._splits[position._replace(parcel=record.text("out_of") or "")] = position
            elif event in FINAL_EVENTS:
                self._final_steps[position] = _FinalStep(event, at, record.text("filed") or "")

    def _add_step(self, position: FileInParcel, event: str, at: float) -> None:
        """Keep the latest step of a file, or of a whole parcel if the position's file is ""."""
        self._lines += 1
        self._span = (at, at) if self._span is None else (min(self._span[0], at), max(self._span[1], at))
        last = self._steps.get(position)
        if last is None or last.at <= at:
            self._steps[position] = Step(at, event)

    def balance(self) -> Balance:
        """Match claims with final steps: by parcel and file, or by file alone where a line about a split is missing."""
        counts: dict[str, int] = defaultdict(int)
        filed = {(position.inbox, step.event, step.filed) for position, step in self._final_steps.items()}
        positions = {*self._claims, *self._splits, *self._splits.values(), *self._final_steps}
        balance = Balance(counts, filed, positions, self._lines, self._span)
        matched: set[FileInParcel] = set()
        unmatched: list[OpenEntry] = []
        origins = {**dict.fromkeys(self._splits.keys() - set(self._splits.values()), ClaimRecord(None)), **self._claims}
        for position, claim in origins.items():
            last = self._follow_splits(position)
            if last in self._final_steps:
                matched.add(last)
                counts[self._final_steps[last].event] += 1
            else:
                unmatched.append(self._open_entry(last, claim))
        self._match_by_file(unmatched, matched, balance)
        return balance

    def _match_by_file(self, entries: list[OpenEntry], matched: set[FileInParcel], balance: Balance) -> None:
        """Match entries with final steps in other parcels: a process was killed between splitting a file off and logging that.

        Only done and failed files are matched: files refused or released at the claim have no other line in that parcel.
        """
        by_file: dict[tuple[str, str], list[FileInParcel]] = defaultdict(list)
        for position in sorted(self._final_steps.keys() - matched, key=lambda position: self._final_steps[position].at):
            event = self._final_steps[position].event
            balance.final_counts[event] += 1
            if event in (events.FILE_DONE, events.FILE_FAILED):
                by_file[position.inbox, position.file].append(position)
        for entry in sorted(entries, key=lambda entry: entry.claim.at or 0.0):
            claimed_at, candidates = entry.claim.at or 0.0, by_file[entry.position.inbox, entry.position.file]
            if match := next((position for position in candidates if self._final_steps[position].at >= claimed_at), None):
                candidates.remove(match)
            else:
                balance.open_entries.append(entry)

    def _follow_splits(self, position: FileInParcel) -> FileInParcel:
        visited = {position}
        while (target := self._splits.get(position)) is not None and target not in visited:
            visited.add(target)
            position = target
        return position

    def _open_entry(self, last: FileInParcel, claim: ClaimRecord) -> OpenEntry:
        steps = filter(None, (self._steps.get(last), self._steps.get(last._replace(file=""))))
        return OpenEntry(last, claim, max(steps, key=lambda step: step.at))


def render_unaccounted(entry: OpenEntry) -> Iterator[str]:
    """Yield the lines that describe one unaccounted file."""
    inbox, parcel, file = entry.position
    claimed = "at an unknown time, before this log begins" if entry.claim.at is None else f"at {format_local(entry.claim.at)}"
    yield f"! {inbox}: {file}"
    yield f"    claimed {claimed}, in parcel {parcel}"
    last = f"{entry.last_step.event} at {format_local(entry.last_step.at)}"
    yield f"    last logged step: {last}; the file is not in inbox/, claimed/, done/ or failed/"
