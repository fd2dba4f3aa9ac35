"""What `inboxd audit` does: arrivals = done + failed + in flight, or which file nobody knows of. By log, and by folders.

A line may be missing, because whoever would have written it was killed between the move and the word; then the folders tell.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from inboxd.config.settings import Settings
from inboxd.console.audit.ledger import Balance, FileInParcel, Ledger, OpenEntry
from inboxd.console.logs.records import Record
from inboxd.console.times import format_iso
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing
from inboxd.fs.walk import Entry, walk
from inboxd.logs import events
from inboxd.logs.text import escape
from inboxd.spool.claims import list_files, list_parcels
from inboxd.spool.error_note import note_name, parse_note
from inboxd.spool.filing import read_note
from inboxd.spool.layout import Folders, open_folders

CLOCK_SKEW_SECONDS = 2.0
"""So far may a file's time be before the log's that it was claimed: a file system's clock is coarse."""

_CHUNK_BYTES = 1024 * 1024
_COUNTER = re.compile(r" \([0-9]+\)(\.[^./]{0,16})?$")


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The sums over all inboxes; ``unaccounted`` are files that were claimed, and are nowhere.

    ``refused`` files count among the ``failed``; ``given_back`` ones went back to inbox/, and are no arrivals. ``lines`` is how
    many lines of the log it goes by, ``span`` from when to when they are, in unix seconds.
    """

    done: int
    failed: int
    refused: int
    in_flight: int
    released: int
    unaccounted: tuple[OpenEntry, ...]
    lines: int
    span: tuple[float, float] | None

    @property
    def arrivals(self) -> int:
        """How many files were claimed, and not given back."""
        return self.done + self.failed + self.in_flight + len(self.unaccounted)


def audit(settings: Settings, records: Iterable[Record]) -> AuditReport:
    """Account for every file that the log or claimed/ knows of; for files of this host's inboxes. Raises FolderAway, OSError.

    The log is read before the folders: what moves on meanwhile is found further on, for a file never moves against that order.
    """
    ledger = Ledger()
    ledger.add(record for record in records if record.text("inbox") in settings.inbox)
    balance = ledger.balance()
    ends = defaultdict(int, balance.ends)
    unaccounted: list[OpenEntry] = []
    in_flight = 0
    for name, inbox in settings.inbox.items():
        with open_folders(Disk(), inbox.root) as folders:
            mine = [entry for entry in balance.open if entry.where.inbox == name]
            claimed, missing = _compare_with_claimed(folders, name, mine, balance)
            in_flight += claimed
            for entry, event in _search(folders, missing, balance):
                if event is None:
                    unaccounted.append(entry)
                else:
                    ends[event] += 1
    refused = ends[events.FILE_REFUSED]
    failed, given_back = ends[events.FILE_FAILED] + refused, ends[events.FILE_RELEASED]
    return AuditReport(
        ends[events.FILE_DONE], failed, refused, in_flight, given_back, tuple(unaccounted), balance.lines, balance.span
    )


def _compare_with_claimed(
    folders: Folders, inbox: str, entries: list[OpenEntry], balance: Balance
) -> tuple[int, list[OpenEntry]]:
    """Return how many files are in claimed/ now, and of which entries the file is not.

    A file in a parcel that the log does not know of has been split off, or was claimed, by one who was killed over it.
    """
    disk = Disk()
    lying = [
        FileInParcel(inbox, parcel, escape(path))
        for parcel in list_parcels(disk, folders)
        for path in list_files(disk, folders, parcel)
    ]
    there = set(lying)
    unknown: dict[str, int] = defaultdict(int)
    for stay in there - balance.known:
        unknown[stay.file] += 1
    missing = []
    for entry in entries:
        if entry.where in there:
            continue
        if unknown[entry.where.file]:
            unknown[entry.where.file] -= 1
        else:
            missing.append(entry)
    return len(lying), missing


@dataclass(frozen=True, slots=True)
class _UnloggedFile:
    """A file in done/, failed/ or inbox/ that no line explains, and the ``event`` that would; ``changed`` is its ctime."""

    event: str
    path: str
    size: int
    changed_at: float
    sha256: str
    parcel: str


def _search(folders: Folders, missing: list[OpenEntry], balance: Balance) -> Iterator[tuple[OpenEntry, str | None]]:
    """Look for what the log has no end of; yield each with the event that its line would have had, None if it is nowhere."""
    if not missing:
        return
    wanted = {entry.where.file for entry in missing}
    lying: dict[str, list[_UnloggedFile]] = defaultdict(list)
    for event, top in (
        (events.FILE_DONE, folders.done),
        (events.FILE_FAILED, folders.failed),
        (events.FILE_RELEASED, folders.inbox),
    ):
        for found in _find_unlogged(top, event, wanted, missing[0].where.inbox, balance):
            lying[_original_path(found.path, wanted)].append(found)
    for entry in missing:
        found_here = next((found for found in lying[entry.where.file] if _may_be(found, entry)), None)
        if found_here:
            lying[entry.where.file].remove(found_here)
        yield entry, found_here.event if found_here else None


def _find_unlogged(top: Fd, event: str, wanted: set[str], inbox: str, balance: Balance) -> Iterator[_UnloggedFile]:
    disk = Disk()
    also = {events.FILE_FAILED: events.FILE_REFUSED}.get(event, event)
    for file in walk(disk, top):
        path = escape(file.path)
        if file.is_folder or file.name.startswith(TEMP_PREFIX) or _original_path(path, wanted) not in wanted:
            continue
        if (inbox, event, path) in balance.filed or (inbox, also, path) in balance.filed:
            continue
        try:
            yield _inspect(disk, file, event, path)
        except OSError:  # it is taken away just now, or kept from us
            continue


def _inspect(disk: Disk, file: Entry, event: str, path: str) -> _UnloggedFile:
    look = disk.stat(file.at, file.name)
    told = parse_note(read_note(disk, file.at, note_name(file.name))) if event == events.FILE_FAILED else None
    sha256 = _sha256(disk, file) if look.kind is FileKind.FILE else ""
    return _UnloggedFile(event, path, look.size, look.ctime_ns / 1e9, sha256, told.parcel if told else "")


def _sha256(disk: Disk, file: Entry) -> str:
    digest = hashlib.sha256()
    with closing(disk, disk.open_file(file.at, file.name)) as opened_file:
        while chunk := disk.read(opened_file, _CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _original_path(path: str, wanted: set[str]) -> str:
    """Return the path that a file was dropped with: its own, or without the counter that a taken name has got."""
    return path if path in wanted else _COUNTER.sub(lambda found: found[1] or "", path)


def _may_be(lying: _UnloggedFile, entry: OpenEntry) -> bool:
    """Tell whether a file can be the one of this entry: by its note's parcel; or filed after the claim, and of one content."""
    if lying.parcel == entry.where.parcel:
        return True
    claim = entry.claim
    if claim.at is not None and lying.changed_at < claim.at - CLOCK_SKEW_SECONDS:
        return False
    if claim.sha256:
        return lying.sha256 == claim.sha256
    return claim.size is None or lying.size == claim.size


def to_json(report: AuditReport) -> dict[str, object]:
    """Return a report in JSON's types. The keys are an interface: some may be added, none renamed."""
    return {
        "arrived": report.arrivals,
        "done": report.done,
        "failed": report.failed,
        "refused": report.refused,
        "in_flight": report.in_flight,
        "given_back": report.released,
        "unaccounted": [
            {
                **entry.where._asdict(),
                "claimed_at": format_iso(entry.claim.at) if entry.claim.at is not None else None,
                "last_step": entry.last_step.event,
                "last_step_at": format_iso(entry.last_step.at),
            }
            for entry in report.unaccounted
        ],
        "log": {
            "lines": report.lines,
            "first": format_iso(report.span[0]) if report.span else None,
            "last": format_iso(report.span[1]) if report.span else None,
        },
    }
