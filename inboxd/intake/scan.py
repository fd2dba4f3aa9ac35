"""Walking through an inbox: every file in it with the decision about it, one at a time, in flat memory."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inboxd.config.settings import Rules
from inboxd.fs.folders import opened_path
from inboxd.fs.reserve import is_reserved
from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, WriterCheck, closing
from inboxd.intake.readiness import (
    Decision,
    Ignore,
    Refuse,
    WaitTimes,
    decide,
    decide_by_folder_name,
    decide_by_name,
    is_settled,
    partial_download_names,
)
from inboxd.spool.layout import split_path

_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """One entry of an inbox: its path below inbox/, what was decided, and what the system said of it (if asked)."""

    path: bytes
    decision: Decision
    stat: Stat | None


@dataclass(frozen=True, slots=True)
class DeniedEntry:
    """A sub-folder or a file that the system keeps from us."""

    path: bytes
    error: OSError


@dataclass(frozen=True, slots=True)
class ScannedFolder:
    """A sub-folder that was looked into, told after its entries; ``mtime`` is when they last changed, unix seconds."""

    path: bytes
    mtime: float


def scan(
    disk: Disk, inbox: Fd, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> Iterator[ScannedEntry | ScannedFolder | DeniedEntry]:
    """Yield every entry of an inbox, sub-folders too if the rules say so; what vanishes meanwhile is passed over.

    Depth first and iterative: a dropper's tree may be as deep as the disk allows. A folder deeper than ``depth_max`` is one
    entry, refused. ``clock`` is asked for each entry, for a scan may last. Raises OSError when the inbox itself can't be read.
    """
    with closing(disk, disk.open_folder(inbox, b".")) as top:  # our own: a scan outlives the turn that began it
        yield from _scan(disk, top, rules, waits, clock)


def _scan(
    disk: Disk, inbox: Fd, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> Iterator[ScannedEntry | ScannedFolder | DeniedEntry]:
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
            mtime = disk.fstat(folder).mtime_ns / 1e9
            yield from _entries(disk, folder, prefix, rules, waits, clock, pending)
        if prefix:
            yield ScannedFolder(prefix[:-1], mtime)


def _entries(
    disk: Disk, folder: Fd, prefix: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float], pending: list[bytes]
) -> Iterator[ScannedEntry | DeniedEntry]:
    for name, is_folder in disk.entries(folder):
        path = prefix + name
        if not is_folder:
            yield _scan_file(disk, folder, name, path, rules, waits, clock)
        elif stop := _decide_folder(name, path, rules):
            yield ScannedEntry(path, stop, None)
        else:
            pending.append(path + b"/")


def _decide_folder(name: bytes, path: bytes, rules: Rules) -> Ignore | Refuse | None:
    """Decide about a sub-folder: None if it is looked into."""
    if skip := decide_by_folder_name(name):
        return skip
    if not rules.recursive:
        return Ignore("a sub-folder, and recursive = false")
    if path.count(b"/") >= rules.depth_max:
        return Refuse(f"folders are nested more than {rules.depth_max} deep")
    return None


def scan_path(
    disk: Disk, inbox: Fd, path: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> ScannedEntry | DeniedEntry | None:
    """Return what a scan would say of one path: of the entry, or of the folder above it that it would not look into.

    None if nothing is there. Raises ValueError for a path that could lead outside.
    """
    parts, name = split_path(path)
    try:
        with opened_path(disk, inbox, parts) as folder:
            is_folder = disk.stat(folder, name).kind is FileKind.FOLDER
            for depth, part in enumerate((*parts, name) if is_folder else parts):
                above = b"/".join((*parts, name)[: depth + 1])
                if stop := _decide_folder(part, above, rules):
                    return ScannedEntry(above, stop, None)
            if is_folder:
                return ScannedEntry(path, Ignore("a sub-folder: what is in it is taken file by file"), None)
            return _scan_file(disk, folder, name, path, rules, waits, clock)
    except OSError as error:
        return None if error.errno in _VANISHED else DeniedEntry(path, error)


def _open_folder(disk: Disk, inbox: Fd, prefix: bytes) -> Fd:
    current = disk.open_folder(inbox, b".")
    for part in prefix.split(b"/")[:-1]:
        with closing(disk, current):
            current = disk.open_folder(current, part)
    return current


def _scan_file(
    disk: Disk, folder: Fd, name: bytes, path: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> ScannedEntry | DeniedEntry:
    """Look at one entry. What is wrong with it must not keep the others from being looked at."""
    if skip := decide_by_name(path, rules.include, rules.exclude):
        return ScannedEntry(path, skip, None)
    try:
        look, now = disk.stat(folder, name), clock()
        if look.kind is FileKind.LINK and is_reserved(disk, folder, name):
            return ScannedEntry(path, Ignore("a name that is reserved for a file on its way back"), look)
        idle = _check_writers(disk, folder, name) if is_settled(look, now, waits) else WriterCheck.UNKNOWN
        return ScannedEntry(
            path, decide(look, idle, now, waits, is_downloading=_has_partial_download(disk, folder, name, look)), look
        )
    except OSError as error:
        return ScannedEntry(path, Ignore("it is gone"), None) if error.errno in _VANISHED else DeniedEntry(path, error)


def _check_writers(disk: Disk, folder: Fd, name: bytes) -> WriterCheck:
    try:
        with closing(disk, disk.open_file(folder, name)) as file:
            return disk.check_writers(file)
    except BlockingIOError:  # another program holds a lease of its own on it: Samba, an NFS server
        return WriterCheck.BUSY
    except PermissionError:
        return WriterCheck.UNKNOWN


def _has_partial_download(disk: Disk, folder: Fd, name: bytes, look: Stat) -> bool:
    """Tell whether a download's other name stands beside an empty file: browsers reserve the final name so."""
    if look.size:
        return False
    for other in partial_download_names(name):
        try:
            disk.stat(folder, other)
        except OSError:
            continue
        return True
    return False
