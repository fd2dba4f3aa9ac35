"""Group records into the lives of files: their order and how each ended. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from inboxd.console.log_reading.records import Record
from inboxd.logs import events

OUTCOME_BY_EVENT = {
    events.FILE_DONE: "done",
    events.FILE_FAILED: "failed",
    events.FILE_REFUSED: "refused",
    events.FILE_MISSING: "missing",
    events.FILE_EXPIRED: "expired",
    events.FILE_RELEASED: "released",
}
_FINAL = (events.FILE_DONE, events.FILE_FAILED, events.FILE_REFUSED, events.FILE_MISSING)
_FOLDER_EVENTS = (events.FOLDER_PRUNED,)
"""Events whose ``file`` is a folder."""


@dataclass(slots=True)
class FileLife:
    """One file's way through inboxd as logged: ``steps`` in order of time. ``file`` is the path as logged."""

    inbox: str | None
    file: str | None
    steps: list[Record] = field(default_factory=list)

    @property
    def parcels(self) -> list[str]:
        """The parcels that the file was in, in order."""
        return list(dict.fromkeys(parcel for step in self.steps for parcel in _parcels_of(step)))

    @property
    def end(self) -> Record | None:
        """The first final step; None if none was logged."""
        return next((step for step in self.steps if step.event in _FINAL), None)

    @property
    def outcome(self) -> str | None:
        """The outcome: done, failed, refused or missing; expired or released if that is the last step; None otherwise."""
        if (end := self.end) is not None:
            return OUTCOME_BY_EVENT[end.event]
        return OUTCOME_BY_EVENT.get(self.steps[-1].event) if self.steps else None

    @property
    def seconds(self) -> float:
        """The duration from the first step to the end, or to the last step if no end was logged."""
        return (self.end or self.steps[-1]).at - self.steps[0].at

    def last_value(self, key: str) -> object:
        """Return the last step's value at a key, such as sha256 or size, which a change alters; None if no step has one."""
        return next((step.fields[key] for step in reversed(self.steps) if step.fields.get(key) is not None), None)


def build_lives(records: Iterable[Record]) -> list[FileLife]:
    """Return the lives of the files that the records name, the earliest first.

    A life is one path's way through one parcel, then the parcels that it was split into, and the next claim after a release.
    Files of one name may be in flight together, so parcels tell lives apart; time only says which claim follows a release.
    A record that names a parcel but no file belongs to each life that was in that parcel at the time.
    """
    ours = sorted(
        (record for record in records if record.is_from_inboxd and record.event not in _FOLDER_EVENTS), key=lambda r: r.at
    )
    by_file: defaultdict[tuple[str | None, str], list[Record]] = defaultdict(list)
    by_parcel: defaultdict[str, list[Record]] = defaultdict(list)
    for record in ours:
        if (file := record.text("file")) is not None:
            by_file[record.text("inbox"), file].append(record)
        elif (parcel := record.text("parcel")) is not None:
            by_parcel[parcel].append(record)
    lives = [life for (inbox, file), steps in by_file.items() for life in _lives_of_path(inbox, file, steps)]
    lives = _attach_expired(lives)
    parcels = {parcel for life in lives for parcel in life.parcels}
    for life in lives:
        life.steps = sorted([*life.steps, *_parcel_records(life, by_parcel)], key=lambda step: step.at)
    without_file = [
        FileLife(steps[0].text("inbox"), None, steps) for parcel, steps in by_parcel.items() if parcel not in parcels
    ]
    return sorted([*lives, *without_file], key=lambda life: life.steps[0].at)


def _lives_of_path(inbox: str | None, file: str, records: list[Record]) -> Iterator[FileLife]:
    """Yield the lives of one path, given its records in order of time."""
    splits = (record for record in records if record.event == events.PARCEL_SPLIT)
    source_parcels = {into: out_of for r in splits if (into := r.text("parcel")) and (out_of := r.text("out_of"))}
    life_by_parcel: dict[str, FileLife] = {}
    lives: list[FileLife] = []
    unclaimed: list[Record] = []
    for record in records:
        parcel = record.text("parcel")
        if parcel is None and record.event != events.FILE_EXPIRED:
            unclaimed.append(record)  # such as file_denied: the claim follows
            continue
        root = _original_parcel(parcel, source_parcels) if parcel is not None else ""
        life = life_by_parcel.get(root)
        if life is None:
            if record.event == events.FILE_CLAIMED and lives and lives[-1].outcome == "released":
                life = lives[-1]
            else:
                life = FileLife(inbox, file)
                lives.append(life)
            if root:
                life_by_parcel[root] = life
        life.steps += [*unclaimed, record]
        unclaimed = []
    yield from lives
    if unclaimed:
        yield FileLife(inbox, file, unclaimed)


def _original_parcel(parcel: str, source_parcels: dict[str, str]) -> str:
    """Return the first parcel in the chain of splits that led to this one; itself if it was not split out of another."""
    seen = {parcel}
    while (out_of := source_parcels.get(parcel)) is not None and out_of not in seen:
        parcel = out_of
        seen.add(parcel)
    return parcel


def _attach_expired(lives: list[FileLife]) -> list[FileLife]:
    """Append each deletion from done/ or failed/ to the life that was filed at the path, the only key that it names."""
    expired = [life for life in lives if life.steps[0].event == events.FILE_EXPIRED]
    others = [life for life in lives if life.steps[0].event != events.FILE_EXPIRED]
    for deletion in expired:
        at = deletion.steps[0].at
        filed = [
            life
            for life in others
            if life.inbox == deletion.inbox and life.last_value("filed") == deletion.file and life.steps[0].at <= at
        ]
        if filed:
            max(filed, key=lambda life: life.steps[0].at).steps += deletion.steps
        else:
            others.append(deletion)
    return others


def _parcel_records(life: FileLife, by_parcel: dict[str, list[Record]]) -> Iterator[Record]:
    """Yield the records that name a life's parcels but no file, up to the time at which the file was split out of each."""
    left_at = {out: step.at for step in life.steps if step.event == events.PARCEL_SPLIT and (out := step.text("out_of"))}
    for parcel in life.parcels:
        for record in by_parcel.get(parcel, ()):
            if parcel not in left_at or record.at <= left_at[parcel]:
                yield record


def _parcels_of(step: Record) -> Iterator[str]:
    for key in ("out_of", "parcel"):
        if (parcel := step.text(key)) is not None:
            yield parcel
