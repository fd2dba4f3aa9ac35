"""The sweep for stale parcels, whose message, worker or callback was lost, and for files that were written to in done/."""

import contextlib

from inboxd.broker.connection import is_answering, translate_redis_errors
from inboxd.broker.heartbeat import record_sweep, sweep_deadline_seconds
from inboxd.broker.inbox_outages import read_inbox_outages
from inboxd.broker.recovery import RecoveryAction
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.broker_keys import check_broker_keys
from inboxd.messaging.celery_app import SWEEP_STALE, own_queues
from inboxd.spool.layout import open_folders
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.sweeps.each_inbox import end_outage, sweep_each
from inboxd.tasks.sweeps.late_writes import hand_out_late_writes
from inboxd.tasks.sweeps.repair import QueuedIds, Repair
from inboxd.tasks.sweeps.staged import remove_filed
from inboxd.tasks.sweeps.task_repair import TaskRepair

FINAL_PING_SECONDS = 0.5
"""Maximum time that a stopping worker waits for Redis to answer: short, so that it does not delay the stop."""

_log = get_logger(__name__)


def sweep_stale(context: WorkerContext) -> None:
    """Recover stale parcels, and end the outages that are over. Raises BrokerUnavailable."""
    check_keys(context)
    after_outage = _grant_extra_lease(context)
    filing_outages = read_inbox_outages(context.client, context.host, context.settings.inbox)
    folder_outages = read_inbox_outages(context.client, context.host, context.settings.inbox, SWEEP_STALE)

    queued = QueuedIds(context)

    def sweep(inbox: Inbox) -> None:
        with open_folders(context.disk, inbox.root) as folders:
            kind = TaskRepair if inbox.task else Repair
            repair = kind(context, inbox, folders, queued, after_outage=after_outage, finished_now=inbox.name in filing_outages)
            if recovered := repair.run():
                _log.info(events.SWEEP_DONE, inbox=inbox.name, **recovered)
            hand_out_late_writes(context, inbox, folders)
        if inbox.name in filing_outages or inbox.name in folder_outages:
            end_outage(context, inbox, "", SWEEP_STALE)

    sweep_each(context, SWEEP_STALE, context.settings.inbox.values(), sweep)
    remove_filed(context)


def check_keys(context: WorkerContext) -> None:
    """Check the keys that Kombu keeps for this host's queues. Raises BrokerUnavailable."""
    check_broker_keys(context.client, own_queues(context.settings), context.settings.redis.visibility_timeout_seconds)


def file_finished_parcels(context: WorkerContext) -> None:
    """File the finished parcels when a worker stops: their success callbacks would wait for the next worker."""
    if not is_answering(context.settings, FINAL_PING_SECONDS):
        return

    def sweep(inbox: Inbox) -> None:
        with open_folders(context.disk, inbox.root) as folders:
            kind = TaskRepair if inbox.task else Repair
            kind(context, inbox, folders, finished_now=True).run(only=RecoveryAction.APPLY)

    with contextlib.suppress(BrokerUnavailable):
        sweep_each(context, SWEEP_STALE, context.settings.inbox.values(), sweep)


def _grant_extra_lease(context: WorkerContext) -> bool:
    """Return whether no sweep has reached Redis within the sweep deadline, so that workers on other hosts may not have renewed.

    True once per outage: sweeps that are rare because all workers are busy are no outage.
    """
    if record_sweep(context.client, context.settings):
        return False
    key, seconds = f"inboxd:extra_lease:{context.host}", sweep_deadline_seconds(context.settings)
    with translate_redis_errors():
        return bool(context.client.set(key, "", nx=True, ex=10 * seconds))
