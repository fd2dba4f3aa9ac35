"""Looks again at filed files whose writers the system does not show: one that was written to in done/ is handed out again."""

from inboxd.broker.changes import FiledFile
from inboxd.config.settings import Inbox
from inboxd.logs import events
from inboxd.logs.setup import get_logger
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
    unchanged = []
    for file in files:
        stat = stat_filed(context.disk, folders, file.filed)
        if stat is None or stat.ino != file.ino:
            continue  # it was moved or deleted; another one may have its name
        if (stat.size, stat.mtime_ns) == (file.size, file.mtime_ns):
            unchanged.append(file._replace(looks=file.looks + 1))
        elif not context.changes.is_superseded(inbox.name, file):
            _hand_out_again(context, inbox, folders, file)
    # If we die here, or above: the next sweep looks at these files again.
    context.changes.watch(inbox.name, unchanged, done_with=files)


def _hand_out_again(context: WorkerContext, inbox: Inbox, folders: Folders, file: FiledFile) -> None:
    """Move a file from done/ back to inbox/; after several changes, to failed/."""
    disk, changes = context.disk, context.changes.count(inbox.name, file.path)
    _log.warning(
        events.FILE_CHANGED, inbox=inbox.name, file=file.path, filed=file.filed, changes=changes, changes_max=inbox.changes_max,
        remedy=CHANGED_REMEDY,
    )  # fmt: skip
    if changes <= inbox.changes_max:
        requeued = requeue_filed(disk, folders, file.filed, file.path)
        if requeued is not None:
            why = "the file was written to after it was filed"
            _log.info(events.FILE_RELEASED, inbox=inbox.name, file=file.path, requeued=requeued, why=why)
        return
    parcel = new_parcel_id()
    if reclaim(disk, folders, file.filed, file.path, parcel):
        # If we die here: the file is in a parcel without a lease, which is published as it is now.
        fail_file(disk, folders, inbox, parcel, file.path, changed_too_often(changes), attempts=1)
