"""Walk through an inbox and yield each entry with the decision about it, in constant memory."""

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
    """A scanned sub-folder, yielded after its own entries; ``mtime`` is its modification time in unix seconds."""

    path: bytes
    mtime: float


def scan(
    disk: Disk, inbox: Fd, rules: Rules, waits: WaitTimes, clock: Callable[[], float]
) -> Iterator[ScannedEntry | ScannedFolder | DeniedEntry]:
    """Yield every entry of an inbox, and of its sub-folders if ``rules.recursive``; skip folders that vanish meanwhile.

    Depth first and iterative, because a dropped tree may be as deep as the disk allows. A folder deeper than ``depth_max`` is
    refused as one entry. ``clock`` is called for each entry, because a scan may take long. Raises OSError if the inbox itself
    can't be read.
    """
    with closing(disk, disk.open_folder(inbox, b".")) as top:  # a descriptor of its own: a scan outlives its first turn
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
            yield from _scan_folder(disk, folder, prefix, rules, waits, clock, pending)
        if prefix:
            yield ScannedFolder(prefix[:-1], mtime)


def _scan_folder(
    disk: Disk, folder: Fd, prefix: bytes, rules: Rules, waits: WaitTimes, clock: Callable[[], float], pending: list[bytes]
) -> Iterator[ScannedEntry | DeniedEntry]:
    for name, is_folder in disk.entries(folder):
        path = prefix + name
        if not is_folder:
            yield _scan_file(disk, folder, name, path, rules, waits, clock)
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
    """Decide about one entry that is not a folder; an error with it does not end the scan."""
    if ignored := decide_by_name(path, rules.include, rules.exclude):
        return ScannedEntry(path, ignored, None)
    try:
        stat, now = disk.stat(folder, name), clock()
        if stat.kind is FileKind.LINK and is_reserved(disk, folder, name):
            return ScannedEntry(path, Ignore("a link that reserves the name for a file that inboxd moves back"), stat)
        writers = _check_writers(disk, folder, name) if is_settled(stat, now, waits) else WriterCheck.UNKNOWN
        is_downloading = stat.size == 0 and _has_partial_download(disk, folder, name)
        return ScannedEntry(path, decide(stat, writers, now, waits, is_downloading=is_downloading), stat)
    except OSError as error:
        return ScannedEntry(path, Ignore("the file is missing"), None) if error.errno in _VANISHED else DeniedEntry(path, error)


def _check_writers(disk: Disk, folder: Fd, name: bytes) -> WriterCheck:
    try:
        with closing(disk, disk.open_file(folder, name)) as file:
            return disk.check_writers(file)
    except BlockingIOError:  # another program holds a kernel lease on the file: Samba, an NFS server
        return WriterCheck.BUSY
    except PermissionError:
        return WriterCheck.UNKNOWN


def _has_partial_download(disk: Disk, folder: Fd, name: bytes) -> bool:
    """Return whether a partial download exists next to an empty file: browsers reserve the final name in this way."""
    for partial_name in partial_download_names(name):
        try:
            disk.stat(folder, partial_name)
        except OSError:
            continue
        return True
    return False
