"""The retention sweep: deletes files that done/ and failed/ have kept for the inbox's retention, and inboxd's leftovers."""

import time

from inboxd.config.settings import Inbox
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.celery_app import SWEEP_EXPIRED
from inboxd.spool.layout import open_folders
from inboxd.spool.retention import delete_expired
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.sweeps.each_inbox import active_inboxes, sweep_each

DAY_SECONDS = 86_400.0

_log = get_logger(__name__)


def sweep_expired(context: WorkerContext) -> None:
    """Delete expired files and leftovers. Raises BrokerUnavailable."""

    def sweep(inbox: Inbox) -> None:
        with open_folders(context.disk, inbox.root) as folders:
            retentions = ((folders.done, inbox.keep_done_days, False), (folders.failed, inbox.keep_failed_days, True))
            for folder, days, has_notes in retentions:
                for deleted in delete_expired(context.disk, folder, time.time(), days * DAY_SECONDS, has_notes=has_notes):
                    _log.info(events.FILE_EXPIRED, inbox=inbox.name, file=deleted.path, why=deleted.reason)

    sweep_each(context, SWEEP_EXPIRED, active_inboxes(context), sweep)
