"""The retention sweep: deletes files that done/ and failed/ have kept for the inbox's retention, and inboxd's leftovers."""

from inboxd.config.rules import Inbox
from inboxd.fs.mounts import find_mount
from inboxd.fs.syscalls import Fd, closing
from inboxd.fs.walk import walk
from inboxd.intake.folder_clock import folder_clock_now
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.celery_app import SWEEP_EXPIRED
from inboxd.service import clock_guard
from inboxd.spool.delivery import Destination, open_destination
from inboxd.spool.layout import open_folders
from inboxd.spool.retention import delete_expired
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.sweeps.each_inbox import active_inboxes, sweep_each
from inboxd.tasks.sweeps.staged import remove_filed

DAY_SECONDS = 86_400.0

MANY_FILES, MANY_SHARE = 100, 0.5
"""A sweep that deletes more than 100 files, and more than half of those in a folder, says so in a log line of its own."""

_log = get_logger(__name__)


def sweep_expired(context: WorkerContext) -> None:
    """Delete expired files and leftovers; nothing for a day after a jump of the clock. Raises BrokerUnavailable."""
    remove_filed(context, listed=True)
    if _is_clock_doubtful(context):
        return

    def sweep(inbox: Inbox) -> None:
        with open_folders(context.disk, inbox.root) as folders:
            now = folder_clock_now(context.disk, folders, network=find_mount(context.disk, folders.inbox).is_network)
            for folder, days, has_notes in (
                (folders.done, inbox.keep_done_days, False),
                (folders.failed, inbox.keep_failed_days, True),
            ):
                _delete_expired(context, inbox, folder, now, days, has_notes=has_notes)
            if inbox.out and not inbox.next_inbox:  # what a move by copy left when it died; the outputs are others' now
                destination = Destination(context.settings.output_folder(inbox))
                with closing(context.disk, open_destination(context.disk, folders, destination)) as out:
                    _delete_expired(context, inbox, out, now, 0.0, has_notes=False)

    sweep_each(context, SWEEP_EXPIRED, active_inboxes(context), sweep)


def _is_clock_doubtful(context: WorkerContext) -> bool:
    """Return whether the clock has jumped within the last day, or whether that can't be known."""
    try:
        before = clock_guard.load_record(context.disk, context.settings.state_dir)
        record = clock_guard.update_record(context.disk, context.settings.state_dir)
    except OSError as error:
        remedy = "make state_dir writable; until then no file is deleted, because a jump of the clock would not be noticed"
        _log.warning(events.SWEEP_FAILED, sweep=SWEEP_EXPIRED, error=str(error), remedy=remedy)
        return True
    if record.pause_seconds > (before.pause_seconds if before else 0.0):
        remedy = f"check the clock; no file is deleted for {record.pause_seconds / 3600:g} hours"
        _log.warning(events.CLOCK_JUMPED, by_seconds=round(record.jump_seconds), remedy=remedy)
    return record.pause_seconds > 0


def _delete_expired(context: WorkerContext, inbox: Inbox, folder: Fd, now: float, days: float, *, has_notes: bool) -> None:
    deleted = 0
    for entry in delete_expired(context.disk, folder, now, days * DAY_SECONDS, has_notes=has_notes):
        _log.info(events.FILE_EXPIRED, inbox=inbox.name, file=entry.path, why=entry.reason)
        deleted += 1
    if deleted > MANY_FILES:
        left = sum(1 for entry in walk(context.disk, folder) if not entry.is_folder)
        if deleted > MANY_SHARE * (deleted + left):
            remedy = "none if that was expected; else check the clock, and keep_done_days and keep_failed_days"
            _log.warning(events.MANY_EXPIRED, inbox=inbox.name, deleted=deleted, left=left, remedy=remedy)
