"""Removing sub-folders of inbox/ that we have emptied."""

from collections.abc import Iterable

from inboxd.fs.folders import open_path, opened_path
from inboxd.fs.syscalls import Disk
from inboxd.intake.scan import ScannedFolder
from inboxd.spool.layout import Folders, split_path
from inboxd.spool.retention import UNREMOVABLE


def innermost_first(seen: Iterable[ScannedFolder]) -> list[ScannedFolder]:
    """Return sub-folders in an order in which none comes before those inside it."""
    return sorted(seen, key=lambda folder: folder.path.count(b"/"), reverse=True)


def prune_folders(disk: Disk, folders: Folders, seen: list[ScannedFolder], now: float, quiet_seconds: float) -> list[bytes]:
    """Remove sub-folders of inbox/ that are empty, quiet, and known below done/ or failed/: their files went through our hands.

    They are tried in the order given: ``innermost_first`` lets those above go, too. A folder that a person has made and never
    used stays. Returns the paths that were removed. A dropper who is quicker makes rmdir fail, and keeps his folder.
    """
    removed = []
    for folder in seen:
        if now - folder.mtime < quiet_seconds or not _went_through(disk, folders, folder.path):
            continue
        parts, name = split_path(folder.path)
        try:
            with opened_path(disk, folders.inbox, parts) as at:
                # If we die here: an empty sub-folder stays until the next pass.
                disk.rmdir(at, name)
        except OSError as error:
            if error.errno not in UNREMOVABLE:
                raise
            continue
        removed.append(folder.path)
    return removed


def _went_through(disk: Disk, folders: Folders, path: bytes) -> bool:
    for filed in (folders.done, folders.failed):
        try:
            disk.close(open_path(disk, filed, tuple(path.split(b"/"))))
        except OSError:
            continue
        return True
    return False
