"""Walk through an inbox and yield each entry with the decision about it, in constant memory."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from inboxd.config.settings import Rules
from inboxd.fs.folders import opened_path
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, WriterCheck, closing
from inboxd.intake.readiness import (
    Decision,
    Ignore,
    Ready,
    Refuse,
    WaitTimes,
    decide,
    decide_by_folder_name,
    decide_by_name,
    is_settled,
    shortcut_reason,
)
from inboxd.intake.temporary_names import EMPTY_WHILE_PREFIX, NameTable, name_table
from inboxd.spool.layout import split_path

NAMES_PER_STEP = 50
"""Names that are read in the time of one scanned entry: reading one takes about 0.5 µs."""

_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """One entry of an inbox: its path relative to inbox/, the decision, and its stat; None if the name alone decided."""

    path: bytes
    decision: Decision
    stat: Stat | None


@dataclass(frozen=True, slots=True)
class DeniedEntry:
    """A sub-folder or file that can't be opened or checked, and why: usually permission denied."""

    path: bytes
    error: OSError


@dataclass(frozen=True, slots=True)
class ScannedFolder:
    """A scanned sub-folder, yielded after its own entries; ``changed_at`` is its ctime in unix seconds.

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


def scan(
    disk: Disk, inbox: Fd, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> Iterator[ScannedEntry | ScannedFolder | DeniedEntry | ListedNames]:
    """Yield every entry of an inbox, and of its sub-folders if ``rules.recursive``; skip folders that vanish meanwhile.

    Depth first and iterative, because a dropped tree may be as deep as the disk allows. A folder deeper than ``depth_max`` is
    refused as one entry. ``clock`` is called for each entry, because a scan may take long. Raises OSError if the inbox itself
    can't be read.
    """
    with closing(disk, disk.open_folder(inbox, b".")) as top:  # a descriptor of its own: a scan outlives its first turn
        yield from _scan(disk, top, rules, waits, clock)


def _scan(
    disk: Disk, inbox: Fd, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> Iterator[ScannedEntry | ScannedFolder | DeniedEntry | ListedNames]:
    pending = [b""]
    while pending:
        prefix = pending.pop()
        try:
            folder = _open_folder(disk, inbox, prefix)
        except OSError as error:
            if prefix and error.errno in _VANISHED:
                continue
            if prefix and error.errno == errno.EACCES:
                yield DeniedEntry(prefix[:-1], error)
                continue
            raise
        with closing(disk, folder):
            changed_at = disk.fstat(folder).ctime_ns / 1e9
            yield from _scan_folder(disk, folder, prefix, rules, waits, clock, pending)
        if prefix:
            yield ScannedFolder(prefix[:-1], changed_at)


def _scan_folder(
    disk: Disk, folder: Fd, prefix: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float], pending: list[bytes]
) -> Iterator[ScannedEntry | DeniedEntry | ListedNames]:
    neighbours, table = Neighbours(), name_table(rules.temporary_names)
    for number, (name, _) in enumerate(disk.entries(folder), 1):
        neighbours.add(name, table)
        if number % NAMES_PER_STEP == 0:
            yield ListedNames()
    for name, is_folder in disk.entries(folder):
        path = prefix + name
        if not is_folder:
            yield _scan_file(disk, folder, name, path, rules, waits, clock, neighbours)
        elif decision := _decide_folder(name, path, rules):
            yield ScannedEntry(path, decision, None)
        else:
            pending.append(path + b"/")


def _decide_folder(name: bytes, path: bytes, rules: Rules) -> Ignore | Refuse | None:
    """Return why a sub-folder is not scanned; None if it is."""
    if ignored := decide_by_folder_name(name):
        return ignored
    if not rules.recursive:
        return Ignore("a sub-folder, and recursive = false")
    if path.count(b"/") >= rules.depth_max:
        return Refuse(f"folders are nested more than {rules.depth_max} deep")
    return None


def scan_path(
    disk: Disk, inbox: Fd, path: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> ScannedEntry | DeniedEntry | None:
    """Return what a scan yields for one path, or for the first folder above it that a scan skips; None if there is no entry.

    Raises ValueError for a path that could lead outside inbox/.
    """
    parts, name = split_path(path)
    try:
        with opened_path(disk, inbox, parts) as folder:
            is_folder = disk.stat(folder, name).kind is FileKind.FOLDER
            for depth, part in enumerate((*parts, name) if is_folder else parts):
                above = b"/".join((*parts, name)[: depth + 1])
                if decision := _decide_folder(part, above, rules):
                    return ScannedEntry(above, decision, None)
            if is_folder:
                return ScannedEntry(path, Ignore("a sub-folder: each file in it is claimed separately"), None)
            neighbours = Neighbours()
            for neighbour, _ in disk.entries(folder):
                neighbours.add(neighbour, name_table(rules.temporary_names))
            return _scan_file(disk, folder, name, path, rules, waits, clock, neighbours)
    except OSError as error:
        return None if error.errno in _VANISHED else DeniedEntry(path, error)


def _open_folder(disk: Disk, inbox: Fd, prefix: bytes) -> Fd:
    current = disk.open_folder(inbox, b".")
    for part in prefix.split(b"/")[:-1]:
        with closing(disk, current):
            current = disk.open_folder(current, part)
    return current


def _scan_file(
    disk: Disk, folder: Fd, name: bytes, path: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float],
    neighbours: "Neighbours",
) -> ScannedEntry | DeniedEntry:  # fmt: skip
    """Decide about one entry that is not a folder; an error with it does not end the scan."""
    is_final = _is_control_file_of_none(disk, folder, name, name_table(rules.temporary_names))
    if ignored := decide_by_name(path, rules, is_final=is_final):
        return ScannedEntry(path, ignored, None)
    try:
        stat, now = disk.stat(folder, name), clock()
        if stat.kind is FileKind.LINK and is_reserved(disk, folder, name):
            return ScannedEntry(path, Ignore("a link that reserves the name for a file that inboxd moves back"), stat)
        writers = _check_writers(disk, folder, name) if is_settled(stat, now, waits) else WriterCheck.UNKNOWN
        is_incomplete = name in neighbours.incomplete or (stat.size == 0 and neighbours.empty_are_placeholders)
        decision = decide(stat, writers, now, waits, is_incomplete=is_incomplete)
        if isinstance(decision, Ready) and (reason := shortcut_reason(path)):
            decision = Refuse(reason)
        return ScannedEntry(path, decision, stat)
    except OSError as error:
        return ScannedEntry(path, Ignore("the file is missing"), None) if error.errno in _VANISHED else DeniedEntry(path, error)


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
