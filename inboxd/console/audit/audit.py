"""Account for every file: compare the log's claims and final events with the files in an inbox's folders.

A line may be missing because its writer was killed between the rename and the line; the folders then show where the file is.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from inboxd.config.settings import Settings
from inboxd.console.audit.ledger import Balance, FileInParcel, Ledger, OpenEntry
from inboxd.console.audit.outputs import OutputLedger, OutputsBalance
from inboxd.console.log_reading.records import Record
from inboxd.console.times import format_iso
from inboxd.errors import FolderUnavailable
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
"""How far a filed file's ctime may lie before the time that its claim was logged: a file system's clock is coarse."""

_CHUNK_BYTES = 1024 * 1024
_COUNTER = re.compile(r" \([0-9]+\)(\.[^./]{0,16})?$")


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The totals over all inboxes; ``unaccounted`` lists the files that were claimed and are in no folder.

    ``failed`` includes the ``refused`` files; ``released`` files were moved back to inbox/, so are no arrivals. ``lines``
    counts the log lines about parcels, and ``span`` has the unix times of the first and the last of them. ``unavailable`` has
    a sentence for each inbox whose folders can't be read: its files without a logged end are in none of the numbers.
    """

    done: int
    failed: int
    refused: int
    in_flight: int
    released: int
    unaccounted: tuple[OpenEntry, ...]
    lines: int
    span: tuple[float, float] | None
    unavailable: tuple[str, ...] = ()
    outputs: OutputsBalance = field(default_factory=OutputsBalance)

    @property
    def arrivals(self) -> int:
        """The number of files that were claimed and not released."""
        return self.done + self.failed + self.in_flight + len(self.unaccounted)


def audit(settings: Settings, records: Iterable[Record]) -> AuditReport:
    """Account for every file of the settings' inboxes that the log or claimed/ mentions. Raises OSError.

    The log is read before the folders, and the folders in the order in which files move: a file that moves meanwhile is found.
    """
    ledger, outputs = Ledger(), OutputLedger()
    ledger.add(_telling(outputs, (record for record in records if record.text("inbox") in settings.inbox)))
    balance = ledger.balance()
    counts = defaultdict(int, balance.final_counts)
    unaccounted: list[OpenEntry] = []
    unavailable: list[str] = []
    in_flight = 0
    for name, inbox in settings.inbox.items():
        entries = [entry for entry in balance.open_entries if entry.position.inbox == name]
        try:
            with open_folders(Disk(), inbox.root) as folders:
                claimed, missing = _compare_with_claimed(folders, name, entries, balance)
                found = list(_search_folders(folders, missing, balance))
        except FolderUnavailable as error:
            unavailable.append(f"{name}: {len(entries)} files without a logged end can't be checked: {error}")
            continue
        in_flight += claimed
        for entry, event in found:
            if event is None:
                unaccounted.append(entry)
            else:
                counts[event] += 1
    refused = counts[events.FILE_REFUSED]
    failed, released = counts[events.FILE_FAILED] + refused, counts[events.FILE_RELEASED]
    return AuditReport(
        counts[events.FILE_DONE], failed, refused, in_flight, released, tuple(unaccounted), balance.lines, balance.span,
        tuple(unavailable), outputs.balance(settings, ledger.done),
    )  # fmt: skip


def _telling(outputs: OutputLedger, records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records, and add what they say of outputs."""
    for record in records:
        if record.event in (events.FILE_HANDLED, events.OUTPUT_DELIVERED) and record.is_from_inboxd:
            outputs.add(
                FileInParcel(record.text("inbox") or "", record.text("parcel") or "", record.text("file") or ""), record
            )
        yield record


def _compare_with_claimed(
    folders: Folders, inbox: str, entries: list[OpenEntry], balance: Balance
) -> tuple[int, list[OpenEntry]]:
    """Return the number of files in claimed/, and the entries whose files are not there.

    A file in a parcel that the log does not mention was claimed or split off by a process that was killed before logging that.
    """
    disk = Disk()
    positions = [
        FileInParcel(inbox, parcel, escape(path))
        for parcel in list_parcels(disk, folders)
        for path in list_files(disk, folders, parcel)
    ]
    unlogged_counts: dict[str, int] = defaultdict(int)
    for position in set(positions) - balance.positions:
        unlogged_counts[position.file] += 1
    claimed, missing = set(positions), []
    for entry in entries:
        if entry.position in claimed:
            continue
        if unlogged_counts[entry.position.file]:
            unlogged_counts[entry.position.file] -= 1
        else:
            missing.append(entry)
    return len(positions), missing


@dataclass(frozen=True, slots=True)
class _UnloggedFile:
    """A file in a folder without a log line; ``event`` is what the line would say, ``parcel`` is from the error note, or ""."""

    event: str
    path: str
    size: int
    changed_at: float
    sha256: str
    parcel: str


def _search_folders(folders: Folders, missing: list[OpenEntry], balance: Balance) -> Iterator[tuple[OpenEntry, str | None]]:
    """Yield each missing entry with the event that its line would have had, None if its file is in no folder."""
    if not missing:
        return
    names = {entry.position.file for entry in missing}
    candidates: dict[str, list[_UnloggedFile]] = defaultdict(list)
    for event, folder in (
        (events.FILE_DONE, folders.done),
        (events.FILE_FAILED, folders.failed),
        (events.FILE_RELEASED, folders.inbox),
    ):
        for file in _find_unlogged(folder, event, names, missing[0].position.inbox, balance):
            candidates[_original_path(file.path, names)].append(file)
    for entry in missing:
        match = next((file for file in candidates[entry.position.file] if _matches_entry(file, entry)), None)
        if match:
            candidates[entry.position.file].remove(match)
        yield entry, match.event if match else None


def _find_unlogged(folder: Fd, event: str, names: set[str], inbox: str, balance: Balance) -> Iterator[_UnloggedFile]:
    disk = Disk()
    same_folder_event = {events.FILE_FAILED: events.FILE_REFUSED}.get(event, event)
    for file in walk(disk, folder):
        path = escape(file.path)
        if file.is_folder or file.name.startswith(TEMP_PREFIX) or _original_path(path, names) not in names:
            continue
        if (inbox, event, path) in balance.filed or (inbox, same_folder_event, path) in balance.filed:
            continue
        try:
            yield _inspect(disk, file, event, path)
        except OSError:  # the file was removed meanwhile, or may not be read
            continue


def _inspect(disk: Disk, file: Entry, event: str, path: str) -> _UnloggedFile:
    stat = disk.stat(file.at, file.name)
    note = parse_note(read_note(disk, file.at, note_name(file.name))) if event == events.FILE_FAILED else None
    sha256 = _sha256(disk, file) if stat.kind is FileKind.FILE else ""
    return _UnloggedFile(event, path, stat.size, stat.ctime_ns / 1e9, sha256, note.parcel if note else "")


def _sha256(disk: Disk, file: Entry) -> str:
    digest = hashlib.sha256()
    with closing(disk, disk.open_file(file.at, file.name)) as opened_file:
        while chunk := disk.read(opened_file, _CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _original_path(path: str, names: set[str]) -> str:
    """Return the path that a file was dropped under: without the counter, such as " (2)", that a name collision adds."""
    return path if path in names else _COUNTER.sub(lambda counter: counter[1] or "", path)


def _matches_entry(file: _UnloggedFile, entry: OpenEntry) -> bool:
    """Return whether a file can be the entry's: its note names the parcel, or its time and content fit the claim."""
    if file.parcel == entry.position.parcel:
        return True
    claim = entry.claim
    if claim.at is not None and file.changed_at < claim.at - CLOCK_SKEW_SECONDS:
        return False
    if claim.sha256:
        return file.sha256 == claim.sha256
    return claim.size is None or file.size == claim.size


def to_json(report: AuditReport) -> dict[str, object]:
    """Return a report as a JSON object. The keys are a public interface: keys may be added, none renamed."""
    return {
        "arrived": report.arrivals,
        "done": report.done,
        "failed": report.failed,
        "refused": report.refused,
        "in_flight": report.in_flight,
        "released": report.released,
        "unaccounted": [
            {
                **entry.position._asdict(),
                "claimed_at": format_iso(entry.claim.at) if entry.claim.at is not None else None,
                "last_step": entry.last_step.event,
                "last_step_at": format_iso(entry.last_step.at),
            }
            for entry in report.unaccounted
        ],
        "unavailable": list(report.unavailable),
        "outputs": {
            "made": report.outputs.made,
            "delivered": report.outputs.delivered,
            "waiting": report.outputs.waiting,
            "missing": [missing._asdict() for missing in report.outputs.missing],
        },
        "log": {
            "lines": report.lines,
            "first": format_iso(report.span[0]) if report.span else None,
            "last": format_iso(report.span[1]) if report.span else None,
        },
    }
