"""Walk through an inbox and yield each entry with the decision about it, in constant memory."""

import errno
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice

from inboxd.config.rules import Rules
from inboxd.fs.folders import opened_path
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import OUT_OF_RESOURCES, Disk, Fd, FileKind, Stat, WriterCheck, closing
from inboxd.fs.walk import walk
from inboxd.intake.readiness import (
    Decision,
    Ignore,
    Ready,
    Refuse,
    Wait,
    WaitTimes,
    decide,
    decide_by_folder_name,
    decide_by_name,
    find_shortcut,
    is_settled,
)
from inboxd.intake.sub_mounts import FolderTiming, SubMounts
from inboxd.intake.temporary_names import EMPTY_WHILE_PREFIX, NameTable, name_table
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.layout import split_path

NAMES_PER_STEP = 50
"""Names that are read in the time of one scanned entry: reading one takes about 0.5 µs."""

TREE_SECONDS, TREE_ENTRIES = 10.0, 1000
"""A folder that is refused as a whole must be unchanged for 10 s, as far as the times of its first 1,000 entries tell."""

NAMES_KEPT = 10_000
"""Names of a folder that are kept in memory; a larger folder is listed twice."""

QUIET_SECONDS = 3.0
"""How long a folder must be unchanged before its ctime tells whether it is still the same: some clocks have steps of 2 s."""

QUIET_FOLDERS_MAX, QUIET_SUB_FOLDERS_MAX = 10_000, 1000
"""Maximum folders that are remembered as quiet, and sub-folders of each: a bound on memory."""

_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors that concern this process or host, not one folder."""


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """One entry of an inbox: its path relative to inbox/, the decision, and its stat; None if the name alone decided.

    ``by_name``: the entry is ignored for as long as the names in its folder are the same.
    """

    path: bytes
    decision: Decision
    stat: Stat | None
    by_name: bool = False


@dataclass(frozen=True, slots=True)
class DeniedEntry:
    """A sub-folder or file that can't be opened or checked, and why: permission denied, or a mount that is gone."""

    path: bytes
    error: OSError


@dataclass(frozen=True, slots=True)
class ScannedFolder:
    """A scanned sub-folder, yielded after its own entries; ``changed_at`` is its ctime in unix seconds, by the clock of inbox/.

    Its mtime says less: rsync and tar set it to the source's when they make the folder.
    """

    path: bytes
    changed_at: float


@dataclass(slots=True)
class Neighbours:
    """What the names in a folder say of the other files in it: which ones are incomplete, and whether all empty ones are."""

    incomplete: set[bytes] = field(default_factory=set)
    empty_are_placeholders: bool = False

    def add(self, name: bytes, table: NameTable) -> None:
        """Take a name into account."""
        if marked := table.incomplete_name(name):
            self.incomplete.add(marked)
        elif name.startswith(EMPTY_WHILE_PREFIX):
            self.empty_are_placeholders = True


@dataclass(frozen=True, slots=True)
class ListedNames:
    """Yielded while the names of a large folder are read, so that the caller can interrupt the scan."""


@dataclass(frozen=True, slots=True)
class QuietFolder:
    """A folder of sub-folders and names that are ignored; until its device, inode number or ctime changes it is not listed."""

    version: tuple[int, int, int]
    sub_folders: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ScanPart:
    """The part of inbox/ that a scan visits: what is ``below`` a sub-folder, b"" for all, without the ``skipped`` ones."""

    below: bytes = b""
    skipped: frozenset[bytes] = frozenset()


WHOLE = ScanPart()

ScanStep = ScannedEntry | ScannedFolder | DeniedEntry | ListedNames


def scan(
    disk: Disk, inbox: Fd, rules: Rules, waits: WaitTimes, clock: Callable[[], float], *,
    sub_mounts: SubMounts | None = None, quiet: dict[bytes, QuietFolder] | None = None, part: ScanPart | None = None,
) -> Iterator[ScanStep]:  # fmt: skip
    """Yield every entry of an inbox, and of its sub-folders if ``rules.recursive``; skip folders that vanish meanwhile.

    Depth first and iterative, because a dropped tree may be as deep as the disk allows. A folder deeper than ``depth_max`` is
    refused as one entry. ``clock`` is called for each entry, because a scan may take long; ``sub_mounts`` have their own clocks
    and wait times. Folders that the scan adds to ``quiet`` are not listed by the next one while they are unchanged. Raises
    OSError if the inbox itself can't be read.
    """
    with closing(disk, disk.open_folder(inbox, b".")) as top:  # a descriptor of its own: a scan outlives its first turn
        home = FolderTiming(waits, clock)
        yield from _Scan(disk, top, rules, home, sub_mounts, quiet, part or WHOLE).steps()


class _Scan:
    """The state of one scan."""

    def __init__(
        self, disk: Disk, top: Fd, rules: Rules, home: FolderTiming,
        sub_mounts: SubMounts | None, quiet: dict[bytes, QuietFolder] | None, part: ScanPart,
    ) -> None:  # fmt: skip
        self._disk = disk
        self._top = top
        self._rules = rules
        self._home = home
        self._sub_mounts = sub_mounts
        self._quiet = quiet
        self._skipped = part.skipped
        self._first = part.below + b"/" if part.below else b""
        self._pending = [self._first]

    def steps(self) -> Iterator[ScanStep]:
        """Yield the steps of the whole scan."""
        home_device = self._disk.fstat(self._top).dev
        if self._sub_mounts:
            self._sub_mounts.start_scan()
        while self._pending:
            prefix = self._pending.pop()
            try:
                yield from self._visit(prefix, home_device)
            except OSError as error:
                if prefix == self._first or error.errno in OUT_OF_RESOURCES:
                    raise
                if error.errno not in _VANISHED:
                    yield DeniedEntry(prefix[:-1], error)

    def _visit(self, prefix: bytes, home_device: int) -> Iterator[ScanStep]:
        """Open a folder, and yield its entries and itself. Raises OSError."""
        folder = _open_folder(self._disk, self._top, prefix) if prefix else self._top
        with closing(self._disk, folder) if prefix else nullcontext():
            stat, timing = self._disk.fstat(folder), self._home
            if self._sub_mounts and stat.dev != home_device:
                timing = self._sub_mounts.timing(folder, prefix[:-1], stat.dev)
            yield from self._folder(folder, prefix, stat, timing)
        if prefix:
            ahead = 0.0 if timing is self._home else timing.clock() - self._home.clock()
            yield ScannedFolder(prefix[:-1], stat.ctime_ns / 1e9 - ahead)

    def _folder(self, folder: Fd, prefix: bytes, stat: Stat, timing: FolderTiming) -> Iterator[ScanStep]:
        """Yield the entries of one folder, or nothing if it is known to hold nothing but ignored names and sub-folders."""
        version = stat.dev, stat.ino, stat.ctime_ns
        known = self._quiet.get(prefix) if self._quiet else None
        if known is not None and known.version == version:
            self._pending += [prefix + name + b"/" for name in known.sub_folders]
            return
        before = len(self._pending)
        is_quiet = self._quiet is not None and not timing.is_network and timing.clock() - stat.ctime_ns / 1e9 > QUIET_SECONDS
        for entry in self._entries(folder, prefix, timing):
            is_quiet = is_quiet and (isinstance(entry, ListedNames) or (isinstance(entry, ScannedEntry) and entry.by_name))
            yield entry
        if self._quiet is not None:
            sub_folders = tuple(path[len(prefix) : -1] for path in self._pending[before:])
            self._quiet.pop(prefix, None)
            if is_quiet and len(sub_folders) <= QUIET_SUB_FOLDERS_MAX:
                if len(self._quiet) >= QUIET_FOLDERS_MAX:
                    self._quiet.clear()
                self._quiet[prefix] = QuietFolder(version, sub_folders)

    def _entries(self, folder: Fd, prefix: bytes, timing: FolderTiming) -> Iterator[ScannedEntry | DeniedEntry | ListedNames]:
        neighbours = Neighbours()
        names = yield from self._read_names(folder, neighbours)
        for name, is_folder in self._disk.entries(folder) if names is None else names:
            path = prefix + name
            if not is_folder:
                yield _scan_file(self._disk, folder, name, path, self._rules, timing, neighbours)
            elif isinstance(decision := _decide_folder(name, path, self._rules), Refuse):
                yield ScannedEntry(path, _wait_until_filled(self._disk, folder, name, timing) or decision, None)
            elif decision:
                yield ScannedEntry(path, decision, None, by_name=True)
            elif path not in self._skipped:
                self._pending.append(path + b"/")

    def _read_names(self, folder: Fd, neighbours: Neighbours) -> Generator[ListedNames, None, list[tuple[bytes, bool]] | None]:
        """Add all names to ``neighbours``; return them and whether each is a folder's, None if they are too many to keep."""
        table, names, number = name_table(self._rules.temporary_names), [], 0
        for number, entry in enumerate(self._disk.entries(folder), 1):
            neighbours.add(entry[0], table)
            if number <= NAMES_KEPT:
                names.append(entry)
            if number % NAMES_PER_STEP == 0:
                yield ListedNames()
        return names if number <= NAMES_KEPT else None


def _decide_folder(name: bytes, path: bytes, rules: Rules) -> Ignore | Refuse | None:
    """Return why a sub-folder is not scanned; None if it is."""
    if ignored := decide_by_folder_name(name):
        return ignored
    if not rules.recursive:
        return Ignore("a sub-folder, and recursive = false")
    if path.count(b"/") >= rules.depth_max:
        return Refuse(Failure(FailureKind.TOO_DEEP, f"folders are nested more than {rules.depth_max} deep"))
    return None


def _wait_until_filled(disk: Disk, at: Fd, name: bytes, timing: FolderTiming) -> Wait | None:
    """Return until when a folder that is refused as a whole must be unchanged; None if it is.

    A folder that is moved while it is being filled would be made again, and refused again, several times.
    """
    try:
        with closing(disk, disk.open_folder(at, name)) as folder:
            found = [
                disk.fstat(folder),
                *(disk.stat(entry.at, entry.name) for entry in islice(walk(disk, folder), TREE_ENTRIES)),
            ]
    except OSError:
        return None
    until = max(stat.ctime_ns for stat in found) / 1e9 + max(timing.waits.unsure_seconds, TREE_SECONDS)
    return Wait(until, "the folder is nested too deep, and is still being filled") if timing.clock() < until else None


def scan_path(
    disk: Disk, inbox: Fd, path: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float], *,
    sub_mounts: SubMounts | None = None,
) -> ScannedEntry | DeniedEntry | None:  # fmt: skip
    """Return what a scan yields for one path, or for the first folder above it that a scan skips; None if there is no entry.

    Raises ValueError for a path that could lead outside inbox/.
    """
    parts, name = split_path(path)
    timing = FolderTiming(waits, clock)
    try:
        with opened_path(disk, inbox, parts) as folder:
            is_folder = disk.stat(folder, name).kind is FileKind.FOLDER
            for depth, part in enumerate((*parts, name) if is_folder else parts):
                above = b"/".join((*parts, name)[: depth + 1])
                if decision := _decide_folder(part, above, rules):
                    return ScannedEntry(above, decision, None)
            if is_folder:
                return ScannedEntry(path, Ignore("a sub-folder: each file in it is claimed separately"), None)
            if sub_mounts and (device := disk.fstat(folder).dev) != disk.fstat(inbox).dev:
                timing = sub_mounts.timing(folder, b"/".join(parts), device)
            neighbours = Neighbours()
            for neighbour, _ in disk.entries(folder):
                neighbours.add(neighbour, name_table(rules.temporary_names))
            return _scan_file(disk, folder, name, path, rules, timing, neighbours)
    except OSError as error:
        return None if error.errno in _VANISHED else DeniedEntry(path, error)


def _open_folder(disk: Disk, inbox: Fd, prefix: bytes) -> Fd:
    current = disk.open_folder(inbox, b".")
    for part in prefix.split(b"/")[:-1]:
        with closing(disk, current):
            current = disk.open_folder(current, part)
    return current


def _scan_file(
    disk: Disk, folder: Fd, name: bytes, path: bytes, rules: Rules, timing: FolderTiming, neighbours: Neighbours,
) -> ScannedEntry | DeniedEntry:  # fmt: skip
    """Decide about one entry that is not a folder; an error with it does not end the scan."""
    try:
        if ignored := decide_entry_name(disk, folder, name, path, rules):
            return ScannedEntry(path, ignored, None, by_name=True)
        stat, waits, now = disk.stat(folder, name), timing.waits, timing.clock()
        if stat.kind is FileKind.LINK and is_reserved(disk, folder, name):
            return ScannedEntry(path, Ignore("a link that reserves the name for a file that inboxd moves back"), stat)
        writers = _check_writers(disk, folder, name) if is_settled(stat, now, waits) else WriterCheck.UNKNOWN
        is_incomplete = name in neighbours.incomplete or (stat.size == 0 and neighbours.empty_are_placeholders)
        decision = decide(stat, writers, now, waits, is_incomplete=is_incomplete)
        if isinstance(decision, Ready) and (shortcut := find_shortcut(path)):
            decision = Refuse(shortcut)
        return ScannedEntry(path, decision, stat)
    except OSError as error:
        return ScannedEntry(path, Ignore("the file is missing"), None) if error.errno in _VANISHED else DeniedEntry(path, error)


def decide_entry_name(disk: Disk, folder: Fd, name: bytes, path: bytes, rules: Rules) -> Ignore | None:
    """Return why an entry's name is ignored, or None; a control file is one only beside the file that it belongs to."""
    ignored = decide_by_name(path, rules)
    if ignored and _is_control_file_of_none(disk, folder, name, name_table(rules.temporary_names)):
        return decide_by_name(path, rules, is_final=True)
    return ignored


def _is_control_file_of_none(disk: Disk, folder: Fd, name: bytes, table: NameTable) -> bool:
    """Return whether a name such as ``poetry.lock`` looks like a control file's, without a file that it belongs to."""
    if not name.lower().endswith(table.ambiguous):
        return False
    try:
        disk.stat(folder, table.incomplete_name(name) or name)
    except OSError as error:
        return error.errno in _VANISHED
    return False


def _check_writers(disk: Disk, folder: Fd, name: bytes) -> WriterCheck:
    try:
        with closing(disk, disk.open_file(folder, name)) as file:
            return disk.check_writers(file)
    except BlockingIOError:  # another program holds a kernel lease on the file: Samba, an NFS server
        return WriterCheck.BUSY
    except PermissionError:
        return WriterCheck.UNKNOWN
