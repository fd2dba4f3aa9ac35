"""Remove sub-folders of inbox/ that inboxd has emptied."""

from collections.abc import Iterable

from inboxd.fs.folders import open_path, opened_path
from inboxd.fs.syscalls import Disk
from inboxd.intake.scan import ScannedFolder
from inboxd.spool.layout import Folders, split_path
from inboxd.spool.retention import UNREMOVABLE


def innermost_first(scanned: Iterable[ScannedFolder]) -> list[ScannedFolder]:
    """Return the sub-folders sorted so that each comes after those inside it."""
    return sorted(scanned, key=lambda folder: folder.path.count(b"/"), reverse=True)


def prune_folders(disk: Disk, folders: Folders, scanned: list[ScannedFolder], now: float, quiet_seconds: float) -> list[bytes]:
    """Remove sub-folders that are empty, unchanged for ``quiet_seconds``, and exist below done/ or failed/; return their paths.

    A folder that a person has made and never used exists only in inbox/, and stays. Folders are tried in the order of the list:
    ``innermost_first`` lets parents be removed, too. If a file is dropped first, rmdir fails and the folder stays.
    """
    removed = []
    for folder in scanned:
        if now - folder.changed_at < quiet_seconds or not _has_filed(disk, folders, folder.path):
            continue
        parts, name = split_path(folder.path)
        try:
            with opened_path(disk, folders.inbox, parts) as at:
                # If we die here: an empty sub-folder stays until the next scan.
                disk.rmdir(at, name)
        except OSError as error:
            if error.errno not in UNREMOVABLE:
                raise
            continue
        removed.append(folder.path)
    return removed


def _has_filed(disk: Disk, folders: Folders, path: bytes) -> bool:
    for top in (folders.done, folders.failed):
        try:
            disk.close(open_path(disk, top, tuple(path.split(b"/"))))
        except OSError:
            continue
        return True
    return False
