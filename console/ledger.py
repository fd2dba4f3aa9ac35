"""A ledger of log lines: each file that was claimed, and how that ended. The lines may come in any order, and more than once.

File names are those of the log: escaped, on one line.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spool import log

ENDS = (log.FILE_DONE, log.FILE_FAILED, log.FILE_REFUSED, log.FILE_RELEASED)
"""What ends a file's stay in claimed/, for good. FILE_GONE does not: it only says that a file could not be found there."""


class Stay(NamedTuple):
    """One file in one parcel."""

    inbox: str
    parcel: str
    file: str


class _End(NamedTuple):
    event: str
    at: str
    filed: str


@dataclass(slots=True)
class Step:
    """The last that the log has of a stay: when (ISO 8601, UTC) and which event."""

    at: str
    event: str


@dataclass(slots=True)
class Open:
    """A claimed file of which the log has no end: where it was last, when it was claimed, its content, its last known step."""

    stay: Stay
    claimed_at: str
    size: int | None
    sha256: str | None
    step: Step


@dataclass(slots=True)
class Balance:
    """What the log says: how many files ended how, what is open, and what it explains.

    ``filed`` has inbox, event and path of what lies in done/ and failed/ by its word; ``known`` all stays that it speaks of.
    """

    ends: dict[str, int]
    filed: set[tuple[str, str, str]]
    known: set[Stay]
    open: list[Open] = field(default_factory=list)


class Ledger:
    """Takes log lines, and then tells the balance."""

    def __init__(self) -> None:
        self._claims: dict[Stay, Mapping[str, Any]] = {}
        self._ends: dict[Stay, _End] = {}
        self._splits: dict[Stay, Stay] = {}
        self._steps: dict[Stay, Step] = {}

    def take(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take in lines; what is not about a parcel is passed over."""
        for line in lines:
            stay = Stay(str(line.get("inbox")), str(line.get("parcel")), str(line.get("file") or ""))
            event, at = str(line.get("event")), str(line.get("timestamp"))
            self._note_step(stay, event, at)
            if not stay.file:
                continue
            if event == log.FILE_CLAIMED:
                self._claims[stay] = {key: line.get(key) for key in ("timestamp", "size", "sha256")}
            elif event == log.PARCEL_SPLIT:
                self._splits[stay._replace(parcel=str(line.get("out_of")))] = stay
            elif event in ENDS:
                self._ends[stay] = _End(event, at, str(line.get("filed")))

    def _note_step(self, stay: Stay, event: str, at: str) -> None:
        """Keep the latest step of a file, or of a parcel as a whole: its file is "" then."""
        last = self._steps.get(stay)
        if last is None or last.at <= at:
            self._steps[stay] = Step(at, event)

    def balance(self) -> Balance:
        """Match ends with claims: by parcel and file; and where a line of a split is missing, by file alone."""
        ends: dict[str, int] = defaultdict(int)
        filed = {(stay.inbox, end.event, end.filed) for stay, end in self._ends.items()}
        balance = Balance(ends, filed, {*self._claims, *self._splits, *self._splits.values(), *self._ends})
        matched: set[Stay] = set()
        left: list[Open] = []
        begun = {**{stay: {} for stay in self._splits.keys() - set(self._splits.values())}, **self._claims}
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
            if event in (log.FILE_DONE, log.FILE_FAILED):
                unmatched[stay.inbox, stay.file].append(stay)
        for entry in sorted(left, key=lambda entry: entry.claimed_at):
            ends = unmatched[entry.stay.inbox, entry.stay.file]
            if found := next((stay for stay in ends if self._ends[stay].at >= entry.claimed_at), None):
                ends.remove(found)
            else:
                balance.open.append(entry)

    def _follow(self, stay: Stay) -> Stay:
        seen = {stay}
        while (into := self._splits.get(stay)) is not None and into not in seen:
            seen.add(into)
            stay = into
        return stay

    def _open(self, last: Stay, claim: Mapping[str, Any]) -> Open:
        steps = filter(None, (self._steps.get(last), self._steps.get(last._replace(file=""))))
        step = max(steps, key=lambda step: step.at, default=Step("", ""))
        return Open(last, str(claim.get("timestamp") or ""), claim.get("size"), claim.get("sha256"), step)


def shown(entry: Open) -> Iterator[str]:
    """Yield the lines that name a file of which nobody knows."""
    inbox, parcel, file = entry.stay
    yield f"! {inbox}: {file}"
    yield f"    claimed {entry.claimed_at or 'before this log begins'}, parcel {parcel}"
    yield f"    last known step: {entry.step.event} at {entry.step.at}; it is not in inbox/, claimed/, done/ or failed/"
