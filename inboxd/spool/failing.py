"""Move a claimed file to failed/, with its error note, its history of failures, and its log line."""

import time

from inboxd.config.rules import Inbox
from inboxd.fs.syscalls import Disk, Stat, closing
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.spool.claims import open_folder_of
from inboxd.spool.error_note import format_note
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.filing import move_to_failed
from inboxd.spool.history import delete_history, load_history
from inboxd.spool.layout import Folders, created_at
from inboxd.spool.note_files import load_texts
from inboxd.spool.note_text import size_in_words
from inboxd.spool.packed_version import PackedVersion, raise_if_changed

_log = get_logger(__name__)


def fail_file(
    disk: Disk, folders: Folders, inbox: Inbox, parcel: str, path: bytes, failure: Failure, *, attempts: int,
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
    now = time.time()
    note = format_note(
        path, failure.reason, inbox=inbox.name, parcel=parcel, attempts=attempts, failed_at=now, earlier=earlier,
        kind=failure.kind, text=_text(disk, inbox, path, failure, attempts=attempts, size=stat.size if stat else 0),
        counts_copies=bool(inbox.task) and failure.kind is not FailureKind.CHANGED,
    )  # fmt: skip
    filed = move_to_failed(disk, folders, parcel, path, note)
    if stat and earlier and filed is not None:
        # If we die here: an unneeded history, which retention removes.
        delete_history(disk, folders.failed, stat)
    if filed is not None:
        _log.warning(
            events.FILE_FAILED if attempts else events.FILE_REFUSED, inbox=inbox.name, file=path, parcel=parcel,
            attempt=attempts, kind=failure.kind.value, reason=failure.reason, filed=filed,
            size=stat.size if stat else None, took_ms=round(max(now - created_at(parcel), 0.0) * 1000, 1),
        )  # fmt: skip
    return filed


def file_failed_output(disk: Disk, folders: Folders, inbox: Inbox, parcel: str, path: bytes, beside: bytes) -> bytes | None:
    """Move a file that a handler left beside a file that failed to failed/, with a note; return its path there, if moved."""
    failure = Failure(FailureKind.OUTPUT, f"it was not dropped: the handler of {escape(beside)} left it behind when it failed")
    note = format_note(
        path, failure.reason, inbox=inbox.name, parcel=parcel, attempts=0, failed_at=time.time(), kind=failure.kind,
        text=_text(disk, inbox, path, failure, beside=beside),
    )  # fmt: skip
    return move_to_failed(disk, folders, parcel, path, note)


def _text(
    disk: Disk, inbox: Inbox, path: bytes, failure: Failure, *, attempts: int = 0, size: int = 0, beside: bytes = b""
) -> str:
    """Return the part of a note that is for the person who dropped the file."""
    values = {
        "file": escape(path),
        "reason": failure.reason,
        "contact": inbox.contact,
        "inbox": inbox.name,
        "size": size_in_words(size),
        "size_max": size_in_words(inbox.size_bytes_max, is_limit=True),
        "seconds": str(inbox.time_limit_seconds),
        "depth_max": str(inbox.depth_max),
        "times": str(attempts),
        "beside": escape(beside),
    }
    return load_texts(disk, inbox.notes)[failure.kind].fill_in(values)


def _stat_file(disk: Disk, folders: Folders, parcel: str, path: bytes) -> Stat | None:
    try:
        at, name = open_folder_of(disk, folders, parcel, path)
        with closing(disk, at):
            return disk.stat(at, name)
    except OSError:  # the move meets the same error, or the file is missing
        return None
