"""A ledger of log lines: each file that was claimed, and how that ended. The lines may come in any order, and more than once.

File names are those of the log: escaped, on one line.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from inboxd.console.logs.records import Record
from inboxd.console.times import format_local
from inboxd.logs import events

FINAL_EVENTS = (events.FILE_DONE, events.FILE_FAILED, events.FILE_REFUSED, events.FILE_RELEASED)
"""What ends a file's stay in claimed/, for good. FILE_MISSING does not: it only says that a file could not be found there."""


class FileInParcel(NamedTuple):
    """One file in one parcel."""

    inbox: str
    parcel: str
    file: str


class _End(NamedTuple):
    event: str
    at: float
    filed: str


class Step(NamedTuple):
    """The last that the log has of a stay: when, in unix seconds, and which event."""

    at: float
    event: str


class ClaimRecord(NamedTuple):
    """What the log says of a file when it was claimed; all is None, or not known, where that line is missing."""

    at: float | None
    size: object = None
    sha256: str | None = None


@dataclass(slots=True)
class OpenEntry:
    """A claimed file of which the log has no end: where it was last, how it was claimed, its last known step."""

    where: FileInParcel
    claim: ClaimRecord
    last_step: Step


@dataclass(slots=True)
class Balance:
    """What the log says: how many files ended how, what is open, and what it explains.

    ``filed`` has inbox, event and path of what lies in done/ and failed/ by its word; ``known`` all stays that it speaks of;
    ``lines`` says how many lines it goes by, ``span`` from when to when they are, in unix seconds.
    """

    ends: dict[str, int]
    filed: set[tuple[str, str, str]]
    known: set[FileInParcel]
    lines: int
    span: tuple[float, float] | None
    open: list[OpenEntry] = field(default_factory=list)


class Ledger:
    """Takes the log's records, and then tells the balance."""

    def __init__(self) -> None:
        self._lines = 0
        self._span: tuple[float, float] | None = None
        self._interned: dict[FileInParcel, FileInParcel] = {}
        self._claims: dict[FileInParcel, ClaimRecord] = {}
        self._ends: dict[FileInParcel, _End] = {}
        self._splits: dict[FileInParcel, FileInParcel] = {}
        self._steps: dict[FileInParcel, Step] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Take in records; what is not about a parcel, or was written by a handler or a library, is passed over."""
        for record in records:
            parcel = record.text("parcel")
            if parcel is None or not record.is_ours:
                continue
            stay = FileInParcel(record.text("inbox") or "", parcel, record.text("file") or "")
            stay = self._interned.setdefault(stay, stay)  # of a million lines, each name is kept once
            event, at = sys.intern(record.event), record.at
            self._add_step(stay, event, at)
            if not stay.file:
                continue
            if event == events.FILE_CLAIMED:
                self._claims[stay] = ClaimRecord(at, record.fields.get("size"), record.text("sha256"))
            elif event == events.PARCEL_SPLIT:
                self._splits[stay._replace(parcel=record.text("out_of") or "")] = stay
            elif event in FINAL_EVENTS:
                self._ends[stay] = _End(event, at, record.text("filed") or "")

    def _add_step(self, stay: FileInParcel, event: str, at: float) -> None:
        """Keep the latest step of a file, or of a parcel as a whole: its file is "" then."""
        self._lines += 1
        self._span = (at, at) if self._span is None else (min(self._span[0], at), max(self._span[1], at))
        last = self._steps.get(stay)
        if last is None or last.at <= at:
            self._steps[stay] = Step(at, event)

    def balance(self) -> Balance:
        """Match ends with claims: by parcel and file; and where a line of a split is missing, by file alone."""
        ends: dict[str, int] = defaultdict(int)
        filed = {(stay.inbox, end.event, end.filed) for stay, end in self._ends.items()}
        known = {*self._claims, *self._splits, *self._splits.values(), *self._ends}
        balance = Balance(ends, filed, known, self._lines, self._span)
        matched: set[FileInParcel] = set()
        left: list[OpenEntry] = []
        begun = {**dict.fromkeys(self._splits.keys() - set(self._splits.values()), ClaimRecord(None)), **self._claims}
        for stay, claim in begun.items():
            last = self._follow(stay)
            if last in self._ends:
                matched.add(last)
                ends[self._ends[last].event] += 1
            else:
                left.append(self._open_entry(last, claim))
        self._match_by_file(left, matched, balance)
        return balance

    def _match_by_file(self, left: list[OpenEntry], matched: set[FileInParcel], balance: Balance) -> None:
        """Find ends in parcels that the log does not connect with a claim: who split a file off was killed before it said so.

        Only of files that were worked on: what is refused or given back at the claim has no line about that.
        """
        unmatched: dict[tuple[str, str], list[FileInParcel]] = defaultdict(list)
        for stay in sorted(self._ends.keys() - matched, key=lambda stay: self._ends[stay].at):
            event = self._ends[stay].event
            balance.ends[event] += 1
            if event in (events.FILE_DONE, events.FILE_FAILED):
                unmatched[stay.inbox, stay.file].append(stay)
        for entry in sorted(left, key=lambda entry: entry.claim.at or 0.0):
            ends = unmatched[entry.where.inbox, entry.where.file]
            if found := next((stay for stay in ends if self._ends[stay].at >= (entry.claim.at or 0.0)), None):
                ends.remove(found)
            else:
                balance.open.append(entry)

    def _follow(self, stay: FileInParcel) -> FileInParcel:
        seen = {stay}
        while (into := self._splits.get(stay)) is not None and into not in seen:
            seen.add(into)
            stay = into
        return stay

    def _open_entry(self, last: FileInParcel, claim: ClaimRecord) -> OpenEntry:
        steps = filter(None, (self._steps.get(last), self._steps.get(last._replace(file=""))))
        return OpenEntry(last, claim, max(steps, key=lambda step: step.at))


def render_unaccounted(entry: OpenEntry) -> Iterator[str]:
    """Yield the lines that name a file of which nobody knows."""
    inbox, parcel, file = entry.where
    claimed = "before this log begins" if entry.claim.at is None else f"at {format_local(entry.claim.at)}"
    yield f"! {inbox}: {file}"
    yield f"    claimed {claimed}, parcel {parcel}"
    last = f"{entry.last_step.event} at {format_local(entry.last_step.at)}"
    yield f"    last known step: {last}; it is not in inbox/, claimed/, done/ or failed/"
