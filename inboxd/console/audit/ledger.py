"""A ledger of log lines: each file that was claimed, and how that ended. The lines may come in any order, and more than once.

File names are those of the log: escaped, on one line.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from inboxd.console.logs.records import Record
from inboxd.console.times import local
from inboxd.logs import events

ENDS = (events.FILE_DONE, events.FILE_FAILED, events.FILE_REFUSED, events.FILE_RELEASED)
"""What ends a file's stay in claimed/, for good. FILE_GONE does not: it only says that a file could not be found there."""


class Stay(NamedTuple):
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


class Claim(NamedTuple):
    """What the log says of a file when it was claimed; all is None, or not known, where that line is missing."""

    at: float | None
    size: object = None
    sha256: str | None = None


@dataclass(slots=True)
class Open:
    """A claimed file of which the log has no end: where it was last, how it was claimed, its last known step."""

    stay: Stay
    claim: Claim
    step: Step


@dataclass(slots=True)
class Balance:
    """What the log says: how many files ended how, what is open, and what it explains.

    ``filed`` has inbox, event and path of what lies in done/ and failed/ by its word; ``known`` all stays that it speaks of;
    ``lines`` says how many lines it goes by, ``span`` from when to when they are, in unix seconds.
    """

    ends: dict[str, int]
    filed: set[tuple[str, str, str]]
    known: set[Stay]
    lines: int
    span: tuple[float, float] | None
    open: list[Open] = field(default_factory=list)


class Ledger:
    """Takes the log's records, and then tells the balance."""

    def __init__(self) -> None:
        self._lines = 0
        self._span: tuple[float, float] | None = None
        self._stays: dict[Stay, Stay] = {}
        self._claims: dict[Stay, Claim] = {}
        self._ends: dict[Stay, _End] = {}
        self._splits: dict[Stay, Stay] = {}
        self._steps: dict[Stay, Step] = {}

    def take(self, records: Iterable[Record]) -> None:
        """Take in records; what is not about a parcel, or was written by a handler or a library, is passed over."""
        for record in records:
            parcel = record.text("parcel")
            if parcel is None or not record.is_ours:
                continue
            stay = Stay(record.text("inbox") or "", parcel, record.text("file") or "")
            stay = self._stays.setdefault(stay, stay)  # of a million lines, each name is kept once
            event, at = sys.intern(record.event), record.at
            self._note_step(stay, event, at)
            if not stay.file:
                continue
            if event == events.FILE_CLAIMED:
                self._claims[stay] = Claim(at, record.fields.get("size"), record.text("sha256"))
            elif event == events.PARCEL_SPLIT:
                self._splits[stay._replace(parcel=record.text("out_of") or "")] = stay
            elif event in ENDS:
                self._ends[stay] = _End(event, at, record.text("filed") or "")

    def _note_step(self, stay: Stay, event: str, at: float) -> None:
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
        matched: set[Stay] = set()
        left: list[Open] = []
        begun = {**dict.fromkeys(self._splits.keys() - set(self._splits.values()), Claim(None)), **self._claims}
        for stay, claim in begun.items():
            last = self._follow(stay)
            if last in self._ends:
                matched.add(last)
                ends[self._ends[last].event] += 1
            else:
                left.append(self._open(last, claim))
        self._match_by_file(left, matched, balance)
        return balance

    def _match_by_file(self, left: list[Open], matched: set[Stay], balance: Balance) -> None:
        """Find ends in parcels that the log does not connect with a claim: who split a file off was killed before it said so.

        Only of files that were worked on: what is refused or given back at the claim has no line about that.
        """
        unmatched: dict[tuple[str, str], list[Stay]] = defaultdict(list)
        for stay in sorted(self._ends.keys() - matched, key=lambda stay: self._ends[stay].at):
            event = self._ends[stay].event
            balance.ends[event] += 1
            if event in (events.FILE_DONE, events.FILE_FAILED):
                unmatched[stay.inbox, stay.file].append(stay)
        for entry in sorted(left, key=lambda entry: entry.claim.at or 0.0):
            ends = unmatched[entry.stay.inbox, entry.stay.file]
            if found := next((stay for stay in ends if self._ends[stay].at >= (entry.claim.at or 0.0)), None):
                ends.remove(found)
            else:
                balance.open.append(entry)

    def _follow(self, stay: Stay) -> Stay:
        seen = {stay}
        while (into := self._splits.get(stay)) is not None and into not in seen:
            seen.add(into)
            stay = into
        return stay

    def _open(self, last: Stay, claim: Claim) -> Open:
        steps = filter(None, (self._steps.get(last), self._steps.get(last._replace(file=""))))
        return Open(last, claim, max(steps, key=lambda step: step.at))


def shown(entry: Open) -> Iterator[str]:
    """Yield the lines that name a file of which nobody knows."""
    inbox, parcel, file = entry.stay
    claimed = "before this log begins" if entry.claim.at is None else f"at {local(entry.claim.at)}"
    yield f"! {inbox}: {file}"
    yield f"    claimed {claimed}, parcel {parcel}"
    yield f"    last known step: {entry.step.event} at {local(entry.step.at)}; it is not in inbox/, claimed/, done/ or failed/"
