"""Move a claimed file to failed/, with its error note, its history of failures, and its log line."""

import time

from inboxd.config.settings import Inbox
from inboxd.fs.syscalls import Disk, Stat, closing
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape
from inboxd.spool.claims import open_folder_of
from inboxd.spool.error_note import format_note
from inboxd.spool.filing import move_to_failed
from inboxd.spool.history import delete_history, load_history
from inboxd.spool.layout import Folders
from inboxd.spool.packed_version import PackedVersion, raise_if_changed

_log = get_logger(__name__)


def fail_file(
    disk: Disk, folders: Folders, inbox: Inbox, parcel: str, path: bytes, reason: str, *, attempts: int,
    expected: PackedVersion | None = None,
) -> bytes | None:  # fmt: skip
    """Move one claimed file to failed/; return its path there, or None if another process has filed it.

    ``attempts`` is 0 for a file that was refused before any attempt. Raises OSError, with the file still claimed, and
    FileChanged if it has another version than ``expected``.
    """
    stat = _stat_file(disk, folders, parcel, path)
    if stat:
        raise_if_changed(disk, folders, stat, expected)
    earlier = load_history(disk, folders.failed, stat) if stat else ()
    note = format_note(path, reason, inbox=inbox.name, parcel=parcel, attempts=attempts, failed_at=time.time(), earlier=earlier)
    filed = move_to_failed(disk, folders, parcel, path, note)
    if stat and earlier and filed is not None:
        # If we die here: an unneeded history, which retention removes.
        delete_history(disk, folders.failed, stat)
    if filed is not None:
        event = events.FILE_FAILED if attempts else events.FILE_REFUSED
        _log.warning(event, inbox=inbox.name, file=path, parcel=parcel, attempt=attempts, reason=reason, filed=filed)
    return filed


def file_failed_output(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, path: bytes, beside: bytes) -> bytes | None:
    """Move a file that a handler left beside a file that failed to failed/, with a note; return its path there, if moved."""
    reason = f"it was not dropped: the handler of {escape(beside)} left it behind when it failed"
    note = format_note(path, reason, inbox=inbox.name, parcel=parcel, attempts=0, failed_at=time.time(), is_output=True)
    return move_to_failed(disk, folders, parcel, path, note)


def _stat_file(disk: Disk, folders: Folders, parcel: str, path: bytes) -> Stat | None:
    try:
        at, name = open_folder_of(disk, folders, parcel, path)
        with closing(disk, at):
            return disk.stat(at, name)
    except OSError:  # the move meets the same error, or the file is missing
        return None
