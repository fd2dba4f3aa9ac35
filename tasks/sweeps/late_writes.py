"""Looks again at filed files whose writers the system does not show: one that was written to in done/ is handed out again."""

import contextlib
from collections.abc import Iterator

from inboxd.broker.changes import FiledFile
from inboxd.config.rules import Inbox
from inboxd.fs.mounts import find_mount
from inboxd.fs.syscalls import Disk, FileKind
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.spool.claims import reclaim
from inboxd.spool.failing import fail_file
from inboxd.spool.filing import stat_filed
from inboxd.spool.layout import Folders, new_parcel_id
from inboxd.spool.requeue import requeue_filed
from inboxd.tasks.outcomes.apply import CHANGED_REMEDY, changed_too_often
from inboxd.tasks.process_state.context import WorkerContext

_log = get_logger(__name__)


def hand_out_late_writes(context: WorkerContext, inbox: Inbox, folders: Folders) -> None:
    """Look at the filed files that are due; move those that were written to back to inbox/.

    Raises OSError, BrokerUnavailable.
    """
    files = context.changes.due(inbox.name)
    if not files:
        return
    is_numbered_anew = _numbers_anew(context.disk, folders)
    again: list[FiledFile] = []
    written: list[FiledFile] = []
    for file in files:
        with _unreachable(inbox, file, again):
            match _look(context.disk, folders, file, is_numbered_anew=is_numbered_anew):
                case True:
                    written.append(file)
                case False:
                    again.append(file._replace(looks=file.looks + 1))
    newest = context.changes.newest(inbox.name) if written else {}
    for file in written:
        if newest.get((file.filed, file.ino), 0.0) <= file.filed_at:
            with _unreachable(inbox, file, again):
                _hand_out_again(context, inbox, folders, file)
    # If we die here, or above: the next sweep looks at these files again.
    context.changes.watch(inbox.name, again, done_with=files)


def _look(disk: Disk, folders: Folders, file: FiledFile, *, is_numbered_anew: bool) -> bool | None:
    """Return whether a filed file was written to; None if it is gone: another one may have its name, and even its inode."""
    stat = stat_filed(disk, folders, file.filed)
    if stat is None or (stat.kind, stat.uid) != (FileKind.FILE, file.uid) or not (is_numbered_anew or stat.ino == file.ino):
        return None
    return (stat.size, stat.mtime_ns) != (file.size, file.mtime_ns)


@contextlib.contextmanager
def _unreachable(inbox: Inbox, file: FiledFile, again: list[FiledFile]) -> Iterator[None]:
    """Log an error at one file, and have it looked at again at its next time: it must not keep the others from their look."""
    try:
        yield
    except OSError as error:
        remedy = "let the service's user read and move what lies in done/; whether the file was written to is not known"
        _log.warning(events.FILE_DENIED, inbox=inbox.name, file=file.path, filed=file.filed, error=str(error), remedy=remedy)
        again.append(file._replace(looks=file.looks + 1))


def _numbers_anew(disk: Disk, folders: Folders) -> bool:
    """Return whether a file's inode number may change while it stays: FUSE forgets numbers that nobody uses."""
    return find_mount(disk, folders.done).file_system.startswith("fuse")


def _hand_out_again(context: WorkerContext, inbox: Inbox, folders: Folders, file: FiledFile) -> None:
    """Move a file from done/ back to inbox/; after several changes, to failed/."""
    disk, changes = context.disk, context.changes.counted(inbox.name, file.path) + 1
    _log.warning(
        events.FILE_CHANGED, inbox=inbox.name, file=file.path, filed=file.filed, changes=changes, changes_max=inbox.changes_max,
        remedy=CHANGED_REMEDY,
    )  # fmt: skip
    if changes <= inbox.changes_max:
        requeued = requeue_filed(disk, folders, file.filed, file.path)
        if requeued is not None:
            # If we die here: the change is not counted.
            context.changes.count(inbox.name, file.path)
            why = "the file was written to after it was filed"
            _log.info(events.FILE_RELEASED, inbox=inbox.name, file=file.path, requeued=requeued, why=why)
        return
    parcel = new_parcel_id()
    if reclaim(disk, folders, file.filed, file.path, parcel):
        # If we die here: the file is in a parcel without a lease, which is published as it is now.
        fail_file(disk, folders, inbox, parcel, file.path, changed_too_often(changes), attempts=changes)
