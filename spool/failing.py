"""What can't go on: a file to failed/ with its note and its log line, and what a packed parcel could not carry."""

import time

from spool import history, log, notes
from spool.disk import Disk, Stat, held
from spool.filing import file_failed
from spool.folders import Folders
from spool.packing import Packed
from spool.settings import Inbox
from spool.store import discard, open_in, release

_log = log.get(__name__)


def fail(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, path: bytes, reason: str, *, attempts: int) -> bytes | None:
    """Move one claimed file to failed/ for this reason; None if somebody else has filed it. 0 ``attempts``: it was refused.

    Raises OSError; the file then is still claimed.
    """
    look = _look(disk, folders, parcel, path)
    earlier = history.recall(disk, folders.failed, look) if look else ()
    note = notes.write(path, reason, inbox=inbox.name, parcel=parcel, attempts=attempts, at=time.time(), earlier=earlier)
    filed = file_failed(disk, folders, parcel, path, note)
    if look and earlier and filed is not None:
        # If we die here, before it is removed: a history too many, which retention removes.
        history.forget(disk, folders.failed, look)
    if filed is not None:
        event = log.FILE_FAILED if attempts else log.FILE_REFUSED
        _log.warning(event, inbox=inbox.name, file=path, parcel=parcel, attempt=attempts, reason=reason, filed=filed)
    return filed


def _look(disk: Disk, folders: Folders, parcel: str, path: bytes) -> Stat | None:
    try:
        at, name = open_in(disk, folders, parcel, path)
        with held(disk, at):
            return disk.stat(at, name)
    except OSError:  # gone, or what it is that ails it, the filing meets, too
        return None


def settle(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, packed: Packed) -> int:
    """Deal with what a parcel turned out to hold besides good files: refuse it, or give it back; returns how many were refused.

    Raises OSError.
    """
    refused = 0
    for path, reason in packed.refused:
        refused += fail(disk, folders, inbox, parcel, path, reason, attempts=0) is not None
    for path in packed.busy:
        if release(disk, folders, parcel, path):
            why = "it was opened for writing again"
            _log.info(log.FILE_RELEASED, inbox=inbox.name, file=path, parcel=parcel, why=why)
    if not packed.parts:
        discard(disk, folders, parcel)
    return refused
