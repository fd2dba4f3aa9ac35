"""The sweep for missed files: complete files in inbox/ for which no event arrived, or no watcher ran."""

import contextlib

from inboxd.broker.counters import Tally
from inboxd.broker.heartbeat import read_heartbeat
from inboxd.broker.inbox_outages import read_inbox_outages
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable
from inboxd.fs.mounts import find_mount_of_path
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.intake.watch_mode import wait_times
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.celery_app import SWEEP_MISSED
from inboxd.messaging.publishing import Publisher
from inboxd.spool.layout import INBOX, open_folders
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.sweeps.each_inbox import active_inboxes, end_outage, sweep_each

HEAD_START_SECONDS = 5.0
"""How much longer than the watcher this sweep waits for a file to be complete, so that the watcher claims it first."""

TURNS_MAX = 100
"""Maximum intake turns per inbox and sweep, so that a full inbox does not delay the others."""

_log = get_logger(__name__)


def sweep_missed(context: WorkerContext) -> None:
    """Claim and send the files that the watcher has missed. Raises BrokerUnavailable."""
    watcher = read_heartbeat(context.client, context.host)
    filing_outages = read_inbox_outages(context.client, context.host, context.settings.inbox)
    folder_outages = read_inbox_outages(context.client, context.host, context.settings.inbox, SWEEP_MISSED)
    watched = watcher.inboxes if watcher else {}

    def sweep(inbox: Inbox) -> None:
        claimed = _claim_complete_files(context, inbox)
        if inbox.name in folder_outages:
            end_outage(context, inbox, SWEEP_MISSED)
        if claimed and inbox.name in watched and watched[inbox.name].mode == "inotify":
            _log.warning(events.EVENTS_MISSED, inbox=inbox.name, files=claimed)

    def may_have_missed_files(inbox: Inbox) -> bool:
        """Return False if files can't be filed now, or if the watcher is busy with the inbox: then it misses nothing."""
        return inbox.name not in filing_outages and not (inbox.name in watched and watched[inbox.name].is_busy)

    sweep_each(context, SWEEP_MISSED, filter(may_have_missed_files, active_inboxes(context)), sweep)


def _claim_complete_files(context: WorkerContext, inbox: Inbox) -> int:
    """Claim and send every complete file; return the number of files."""
    with open_folders(context.disk, inbox.root) as folders:
        if not any(True for _ in context.disk.entries(folders.inbox)):
            return 0
    tally = Tally()
    intake = _make_intake(context, inbox, tally)
    claimed, scan = 0, True
    for _ in range(TURNS_MAX):
        turn = intake.run_turn("sweep", scan=scan, wait_for_more=False)
        claimed += turn.claimed
        scan = not turn.is_interrupted
        if not turn.has_more:
            break
    with contextlib.suppress(BrokerUnavailable):  # only statistics are lost
        context.counters.write(tally)
    return claimed


def _make_intake(context: WorkerContext, inbox: Inbox, tally: Tally) -> Intake:
    mount = find_mount_of_path(context.disk, inbox.root / INBOX.decode())
    send = Publisher(context.app, context.leases).publish
    deps = IntakeDeps(context.disk, context.leases, send, context.host, context.settings.sweep.grace_seconds, tally)
    return Intake(deps, inbox, wait_times(inbox, mount), network=mount.is_network, later_by=HEAD_START_SECONDS)
