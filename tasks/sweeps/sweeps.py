"""Beat's three sweeps: files that no event announced, parcels that nobody looks after, and what has been kept long enough."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery

from inboxd.broker.connection import is_answering, translate_redis_errors
from inboxd.broker.counters import Tally
from inboxd.broker.heartbeat import read_heartbeat, record_sweep, sweep_deadline_seconds
from inboxd.broker.outages import clear_outage, read_outages
from inboxd.broker.recovery import RecoveryAction
from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, TransientError
from inboxd.fs.mounts import find_mount_of_path
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.intake.watch_mode import wait_times
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.celery_app import EXPIRED, MISSED, STALE, send_parcel
from inboxd.messaging.payload import Parcel
from inboxd.spool.layout import Folders, open_folders
from inboxd.spool.retention import delete_expired
from inboxd.tasks.sweeps.lock import give_back, turn
from inboxd.tasks.sweeps.repair import Repair
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.shared_settings import CurrentContext

MISSED_AFTER_SECONDS = 5.0
"""A file must have been complete for so long before the sweep takes it from under the watcher's nose."""

TURNS_MAX = 100
STOP_SECONDS = 0.5
DAY_SECONDS = 86_400.0

_log = get_logger(__name__)


def _in_turns(sweep: Callable[[WorkerContext], None]) -> Callable[[WorkerContext], None]:
    @functools.wraps(sweep)
    def in_turns(context: WorkerContext) -> None:
        try:
            sweep(context)
        finally:
            give_back(context)

    return in_turns


@_in_turns
def sweep_missed(context: WorkerContext) -> None:
    """Take in what lies complete in an inbox and was announced by no event, or found no watcher."""
    watcher = read_heartbeat(context.client, context.host)
    troubled = read_outages(context.client, context.host, context.settings.inbox)
    away = read_outages(context.client, context.host, context.settings.inbox, MISSED)
    for inbox in _own(context):
        watched = watcher.inboxes.get(inbox.name) if watcher else None
        if inbox.name in troubled or (watched and watched.is_busy):
            continue  # it could not be filed, or it is being worked off: nothing is missed
        claimed = 0
        with _turn(context, MISSED, inbox) as ours:
            if ours:
                claimed = _take_all(context, inbox)
                if inbox.name in away:
                    _say_it_is_over(context, inbox, MISSED)
        if claimed and watched and watched.mode == "inotify":
            _log.warning(events.EVENTS_MISSED, inbox=inbox.name, files=claimed)


def _own(context: WorkerContext) -> list[Inbox]:
    """Return the inboxes that are in the settings; of one that is leaving, only what is in flight is our business."""
    return [inbox for name, inbox in context.settings.inbox.items() if name not in context.retiring]


def _take_all(context: WorkerContext, inbox: Inbox) -> int:
    def send_one(parcel: Parcel, inbox: Inbox) -> None:
        send_parcel(context.app, parcel, inbox)

    with open_folders(context.disk, inbox.root) as folders:
        if not any(True for _ in context.disk.entries(folders.inbox)):
            return 0
    grace = context.settings.sweep.grace_seconds
    tally = Tally()
    deps = IntakeDeps(context.disk, context.leases, send_one, context.host, grace, tally)
    mount = find_mount_of_path(context.disk, inbox.root)
    calm = wait_times(inbox, mount)
    ripe = dataclasses.replace(
        calm,
        settle_seconds=calm.settle_seconds + MISSED_AFTER_SECONDS,
        unsure_seconds=calm.unsure_seconds + MISSED_AFTER_SECONDS,
        empty_seconds=calm.empty_seconds + MISSED_AFTER_SECONDS,
    )
    intake = Intake(deps, inbox, ripe, network=mount.is_network)
    claimed, look = 0, True
    for _ in range(TURNS_MAX):
        taken = intake.run_turn("sweep", scan=look, wait_for_more=False)
        claimed += taken.claimed
        look = not taken.is_interrupted
        if not taken.has_more:
            break
    with contextlib.suppress(BrokerUnavailable):  # the files are worth more than the statistics
        context.counters.write(tally)
    return claimed


@_in_turns
def sweep_stale(context: WorkerContext) -> None:
    """Help claimed parcels that nobody looks after."""
    after_outage = _was_away(context)
    troubled = read_outages(context.client, context.host, context.settings.inbox)
    away = read_outages(context.client, context.host, context.settings.inbox, STALE)
    for inbox in context.settings.inbox.values():
        with _turn(context, STALE, inbox) as ours:
            if ours:
                _mend(context, inbox, after_outage=after_outage, finished_now=inbox.name in troubled)
                if inbox.name in troubled or inbox.name in away:
                    _say_it_is_over(context, inbox, "", STALE)


def _mend(context: WorkerContext, inbox: Inbox, *, after_outage: bool, finished_now: bool) -> None:
    with open_folders(context.disk, inbox.root) as folders:
        if helped := Repair(context, inbox, folders, after_outage=after_outage, finished_now=finished_now).run():
            _log.info(events.SWEPT, inbox=inbox.name, **helped)


def _say_it_is_over(context: WorkerContext, inbox: Inbox, *seen_by: str) -> None:
    if clear_outage(context.client, context.host, inbox.name, *seen_by):
        _log.info(events.FOLDER_BACK, inbox=inbox.name)


@_in_turns
def file_finished(context: WorkerContext) -> None:
    """File what is finished, as the last thing that a worker does: its callbacks would wait for the next worker."""
    if not is_answering(context.settings, STOP_SECONDS):
        return  # a stop is not to be held up
    with contextlib.suppress(BrokerUnavailable):
        for inbox in context.settings.inbox.values():
            with _turn(context, STALE, inbox) as ours:
                if ours:
                    with open_folders(context.disk, inbox.root) as folders:
                        Repair(context, inbox, folders, finished_now=True).run(only=RecoveryAction.FILE)


def _was_away(context: WorkerContext) -> bool:
    """Tell whether no sweep has reached Redis for longer than a lease: distant workers could not, either."""
    if record_sweep(context.client, context.settings):
        return False
    granted, patience_seconds = f"inboxd:granted:{context.host}", sweep_deadline_seconds(context.settings)
    with translate_redis_errors():
        # once: where sweeps are rare because all workers are busy, their rarity is no outage
        return bool(context.client.set(granted, "", nx=True, ex=10 * patience_seconds))


@_in_turns
def sweep_expired(context: WorkerContext) -> None:
    """Delete what has been kept for as long as its inbox says, and our own leftovers."""
    for inbox in _own(context):
        with _turn(context, EXPIRED, inbox) as ours:
            if ours:
                with open_folders(context.disk, inbox.root) as folders:
                    _expire(context, inbox, folders)


def _expire(context: WorkerContext, inbox: Inbox, folders: Folders) -> None:
    kept = ((folders.done, inbox.keep_done_days, False), (folders.failed, inbox.keep_failed_days, True))
    for folder, days, notes_too in kept:
        for removed in delete_expired(context.disk, folder, time.time(), days * DAY_SECONDS, has_notes=notes_too):
            _log.info(events.FILE_EXPIRED, inbox=inbox.name, file=removed.path, why=removed.reason)


@contextlib.contextmanager
def _turn(context: WorkerContext, sweep: str, inbox: Inbox) -> Iterator[bool]:
    """Let one sweep of a kind be at an inbox; yields whether it is our turn.

    Trouble of this inbox is left for all to know, and the sweep goes on with the next one; a broker that is away ends it.
    """
    with turn(context, sweep, inbox.name) as ours:
        try:
            yield ours
        except BrokerUnavailable:
            raise
        except (TransientError, OSError) as error:
            if not context.record_if_outage(inbox, error, sweep):
                _log.warning(events.SWEEP_STUCK, inbox=inbox.name, sweep=sweep, error=str(error), remedy="it is tried again")


def register(app: Celery, current: CurrentContext) -> None:
    """Make the sweeps known to the app."""
    for name, sweep in ((MISSED, sweep_missed), (STALE, sweep_stale), (EXPIRED, sweep_expired)):

        def run(*, _sweep: Any = sweep) -> None:  # noqa: ANN401 - bound now, for a closure sees the last one
            with contextlib.suppress(BrokerUnavailable):  # the next one comes soon
                _sweep(current.get())

        app.task(name=name, ignore_result=True)(run)
