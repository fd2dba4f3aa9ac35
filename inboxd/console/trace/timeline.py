"""From records to the lives of files: which belong together, in which order, and how each ended. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from inboxd.console.logs.records import Record
from inboxd.logs import events

OUTCOME_BY_EVENT = {
    events.FILE_DONE: "done",
    events.FILE_FAILED: "failed",
    events.FILE_REFUSED: "refused",
    events.FILE_MISSING: "gone",
    events.FILE_EXPIRED: "expired",
    events.FILE_RELEASED: "released",
}
_FINAL = (events.FILE_DONE, events.FILE_FAILED, events.FILE_REFUSED, events.FILE_MISSING)
_FOLDER_EVENTS = (events.FOLDER_PRUNED,)
"""Events whose ``file`` is a folder."""


@dataclass(slots=True)
class FileLife:
    """One file from drop to done, as far as the log tells it: ``steps`` in order of time. ``file`` is as the log spells it."""

    inbox: str | None
    file: str | None
    steps: list[Record] = field(default_factory=list)

    @property
    def parcels(self) -> list[str]:
        """The parcels that it went through, in order."""
        return list(dict.fromkeys(parcel for step in self.steps for parcel in _parcels_of(step)))

    @property
    def end(self) -> Record | None:
        """The step that ended it; None while there is none, or none was logged."""
        return next((step for step in self.steps if step.event in _FINAL), None)

    @property
    def outcome(self) -> str | None:
        """How it ended: done, failed, refused or gone; expired or released where that is the last that is known; else None."""
        if (end := self.end) is not None:
            return OUTCOME_BY_EVENT[end.event]
        return OUTCOME_BY_EVENT.get(self.steps[-1].event) if self.steps else None

    @property
    def seconds(self) -> float:
        """How long it took, from the first step to the end, or to the last step while there is no end."""
        return (self.end or self.steps[-1]).at - self.steps[0].at

    def first_value(self, key: str) -> object:
        """Return the first value that a step has at a key, such as sha256 or size; None if no step has one."""
        return next((step.fields[key] for step in self.steps if step.fields.get(key) is not None), None)


def build_lives(records: Iterable[Record]) -> list[FileLife]:
    """Return the lives that these records tell of, the earliest first.

    A life is one path's way through one parcel, or through several: those that it was split into, and after a release the next.
    Two files of one name may be in flight at a time, so the parcel decides, and time only says which claim follows a release.
    Lines that name no file but a parcel belong to each life while it was in that parcel.
    """
    ours = sorted((record for record in records if record.is_ours and record.event not in _FOLDER_EVENTS), key=lambda r: r.at)
    by_file: defaultdict[tuple[str | None, str], list[Record]] = defaultdict(list)
    of_parcel: defaultdict[str, list[Record]] = defaultdict(list)
    for record in ours:
        if (file := record.text("file")) is not None:
            by_file[record.text("inbox"), file].append(record)
        elif (parcel := record.text("parcel")) is not None:
            of_parcel[parcel].append(record)
    found = [life for (inbox, file), told in by_file.items() for life in _lives_of_path(inbox, file, told)]
    found = _attach_expired(found)
    known = {parcel for life in found for parcel in life.parcels}
    for life in found:
        life.steps = sorted([*life.steps, *_parcel_records(life, of_parcel)], key=lambda step: step.at)
    alone = [FileLife(told[0].text("inbox"), None, told) for parcel, told in of_parcel.items() if parcel not in known]
    return sorted([*found, *alone], key=lambda life: life.steps[0].at)


def _lives_of_path(inbox: str | None, file: str, told: list[Record]) -> Iterator[FileLife]:
    """Yield the lives of one path, given its records in order of time."""
    came_from = {
        into: out for r in told if r.event == events.PARCEL_SPLIT and (into := r.text("parcel")) and (out := r.text("out_of"))
    }
    by_parcel: dict[str, FileLife] = {}
    made: list[FileLife] = []
    before: list[Record] = []
    for record in told:
        parcel = record.text("parcel")
        if parcel is None and record.event != events.FILE_EXPIRED:
            before.append(record)  # such as that it could not be claimed: the claim comes after it
            continue
        root = _original_parcel(parcel, came_from) if parcel is not None else ""
        life = by_parcel.get(root)
        if life is None:
            last = made[-1] if made else None
            if record.event == events.FILE_CLAIMED and last is not None and last.outcome == "released":
                life = last
            else:
                life = FileLife(inbox, file)
                made.append(life)
            if root:
                by_parcel[root] = life
        life.steps += [*before, record]
        before = []
    yield from made
    if before:
        yield FileLife(inbox, file, before)


def _original_parcel(parcel: str, came_from: dict[str, str]) -> str:
    """Return the parcel that this one was split out of in the end, or itself."""
    seen = {parcel}
    while (out_of := came_from.get(parcel)) is not None and out_of not in seen:
        parcel = out_of
        seen.add(parcel)
    return parcel


def _attach_expired(found: list[FileLife]) -> list[FileLife]:
    """Give what was deleted from done/ or failed/ to the life that was filed there; the line only has that path."""
    expired = [life for life in found if life.steps[0].event == events.FILE_EXPIRED]
    others = [life for life in found if life.steps[0].event != events.FILE_EXPIRED]
    for gone in expired:
        at = gone.steps[0].at
        filed = [
            life
            for life in others
            if life.inbox == gone.inbox and life.first_value("filed") == gone.file and life.steps[0].at <= at
        ]
        if filed:
            max(filed, key=lambda life: life.steps[0].at).steps += gone.steps
        else:
            others.append(gone)
    return others


def _parcel_records(life: FileLife, of_parcel: dict[str, list[Record]]) -> Iterator[Record]:
    """Yield what is told of a life's parcels without naming a file, while the file was in them."""
    left = {out: step.at for step in life.steps if step.event == events.PARCEL_SPLIT and (out := step.text("out_of"))}
    for parcel in life.parcels:
        for record in of_parcel.get(parcel, ()):
            if parcel not in left or record.at <= left[parcel]:
                yield record


def _parcels_of(step: Record) -> Iterator[str]:
    for key in ("out_of", "parcel"):
        if (parcel := step.text(key)) is not None:
            yield parcel
