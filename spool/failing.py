"""What can't go on: a file to failed/ with its note and its log line, and what a packed parcel could not carry."""

import time

from spool import log, notes
from spool.disk import Disk
from spool.filing import file_failed
from spool.folders import Folders
from spool.packing import Packed
from spool.settings import Inbox
from spool.store import discard, release

_log = log.get(__name__)


def fail(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, path: bytes, reason: str, *, attempts: int) -> bytes | None:
    """Move one claimed file to failed/ for this reason; None if somebody else has filed it. 0 ``attempts``: it was refused.

    Raises OSError; the file then is still claimed.
    """
    note = notes.write(path, reason, inbox=inbox.name, parcel=parcel, attempts=attempts, at=time.time())
    filed = file_failed(disk, folders, parcel, path, note)
    if filed is not None:
        event = log.FILE_FAILED if attempts else log.FILE_REFUSED
        _log.warning(event, inbox=inbox.name, file=path, parcel=parcel, attempt=attempts, reason=reason, filed=filed)
    return filed


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
