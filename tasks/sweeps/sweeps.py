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
from inboxd.intake.intake import Intake, Means
from inboxd.intake.watch_mode import patience
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.celery_app import EXPIRED, MISSED, STALE, send
from inboxd.messaging.payload import Parcel
from inboxd.spool.layout import Folders, open_folders
from inboxd.spool.retention import delete_expired
from inboxd.tasks.sweeps.lock import give_back, turn
from inboxd.tasks.sweeps.repair import Repair
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.shared_settings import CurrentContext

RIPE_SECONDS = 5.0
"""A file must have been complete for so long before the sweep takes it from under the watcher's nose."""

TURNS_MAX = 100
STOP_SECONDS = 0.5
DAY_SECONDS = 86_400.0

_log = get_logger(__name__)


def _in_turns(sweep: Callable[[WorkerContext], None]) -> Callable[[WorkerContext], None]:
    @functools.wraps(sweep)
    def in_turns(workshop: WorkerContext) -> None:
        try:
            sweep(workshop)
        finally:
            give_back(workshop)

    return in_turns


@_in_turns
def missed(workshop: WorkerContext) -> None:
    """Take in what lies complete in an inbox and was announced by no event, or found no watcher."""
    watcher = read_heartbeat(workshop.client, workshop.host)
    troubled = read_outages(workshop.client, workshop.host, workshop.settings.inbox)
    away = read_outages(workshop.client, workshop.host, workshop.settings.inbox, MISSED)
    for inbox in _own(workshop):
        watched = watcher.inboxes.get(inbox.name) if watcher else None
        if inbox.name in troubled or (watched and watched.is_busy):
            continue  # it could not be filed, or it is being worked off: nothing is missed
        claimed = 0
        with _turn(workshop, MISSED, inbox) as ours:
            if ours:
                claimed = _take_all(workshop, inbox)
                if inbox.name in away:
                    _say_it_is_over(workshop, inbox, MISSED)
        if claimed and watched and watched.mode == "inotify":
            _log.warning(events.EVENTS_MISSED, inbox=inbox.name, files=claimed)


def _own(workshop: WorkerContext) -> list[Inbox]:
    """Return the inboxes that are in the settings; of one that is leaving, only what is in flight is our business."""
    return [inbox for name, inbox in workshop.settings.inbox.items() if name not in workshop.retiring]


def _take_all(workshop: WorkerContext, inbox: Inbox) -> int:
    def send_one(parcel: Parcel, inbox: Inbox) -> None:
        send(workshop.app, parcel, inbox)

    with open_folders(workshop.disk, inbox.root) as folders:
        if not any(True for _ in workshop.disk.entries(folders.inbox)):
            return 0
    grace = workshop.settings.sweep.grace_seconds
    tally = Tally()
    means = Means(workshop.disk, workshop.leases, send_one, workshop.host, grace, tally)
    mount = find_mount_of_path(workshop.disk, inbox.root)
    calm = patience(inbox, mount)
    ripe = dataclasses.replace(
        calm, settle=calm.settle + RIPE_SECONDS, unsure=calm.unsure + RIPE_SECONDS, empty=calm.empty + RIPE_SECONDS
    )
    intake = Intake(means, inbox, ripe, network=mount.is_network)
    claimed, look = 0, True
    for _ in range(TURNS_MAX):
        taken = intake.take("sweep", look=look, hold=False)
        claimed += taken.claimed
        look = not taken.cut
        if not taken.more:
            break
    with contextlib.suppress(BrokerUnavailable):  # the files are worth more than the statistics
        workshop.counters.write(tally)
    return claimed


@_in_turns
def stale(workshop: WorkerContext) -> None:
    """Help claimed parcels that nobody looks after."""
    after_outage = _was_away(workshop)
    troubled = read_outages(workshop.client, workshop.host, workshop.settings.inbox)
    away = read_outages(workshop.client, workshop.host, workshop.settings.inbox, STALE)
    for inbox in workshop.settings.inbox.values():
        with _turn(workshop, STALE, inbox) as ours:
            if ours:
                _mend(workshop, inbox, after_outage=after_outage, finished_now=inbox.name in troubled)
                if inbox.name in troubled or inbox.name in away:
                    _say_it_is_over(workshop, inbox, "", STALE)


def _mend(workshop: WorkerContext, inbox: Inbox, *, after_outage: bool, finished_now: bool) -> None:
    with open_folders(workshop.disk, inbox.root) as folders:
        if helped := Repair(workshop, inbox, folders, after_outage=after_outage, finished_now=finished_now).run():
            _log.info(events.SWEPT, inbox=inbox.name, **helped)


def _say_it_is_over(workshop: WorkerContext, inbox: Inbox, *seen_by: str) -> None:
    if clear_outage(workshop.client, workshop.host, inbox.name, *seen_by):
        _log.info(events.FOLDER_BACK, inbox=inbox.name)


@_in_turns
def file_finished(workshop: WorkerContext) -> None:
    """File what is finished, as the last thing that a worker does: its callbacks would wait for the next worker."""
    if not is_answering(workshop.settings, STOP_SECONDS):
        return  # a stop is not to be held up
    with contextlib.suppress(BrokerUnavailable):
        for inbox in workshop.settings.inbox.values():
            with _turn(workshop, STALE, inbox) as ours:
                if ours:
                    with open_folders(workshop.disk, inbox.root) as folders:
                        Repair(workshop, inbox, folders, finished_now=True).run(only=RecoveryAction.FILE)


def _was_away(workshop: WorkerContext) -> bool:
    """Tell whether no sweep has reached Redis for longer than a lease: distant workers could not, either."""
    if record_sweep(workshop.client, workshop.settings):
        return False
    granted, patience_seconds = f"inboxd:granted:{workshop.host}", sweep_deadline_seconds(workshop.settings)
    with translate_redis_errors():
        # once: where sweeps are rare because all workers are busy, their rarity is no outage
        return bool(workshop.client.set(granted, "", nx=True, ex=10 * patience_seconds))


@_in_turns
def expired(workshop: WorkerContext) -> None:
    """Delete what has been kept for as long as its inbox says, and our own leftovers."""
    for inbox in _own(workshop):
        with _turn(workshop, EXPIRED, inbox) as ours:
            if ours:
                with open_folders(workshop.disk, inbox.root) as folders:
                    _expire(workshop, inbox, folders)


def _expire(workshop: WorkerContext, inbox: Inbox, folders: Folders) -> None:
    kept = ((folders.done, inbox.keep_done_days, False), (folders.failed, inbox.keep_failed_days, True))
    for folder, days, notes_too in kept:
        for removed in delete_expired(workshop.disk, folder, time.time(), days * DAY_SECONDS, has_notes=notes_too):
            _log.info(events.FILE_EXPIRED, inbox=inbox.name, file=removed.path, why=removed.reason)


@contextlib.contextmanager
def _turn(workshop: WorkerContext, sweep: str, inbox: Inbox) -> Iterator[bool]:
    """Let one sweep of a kind be at an inbox; yields whether it is our turn.

    Trouble of this inbox is left for all to know, and the sweep goes on with the next one; a broker that is away ends it.
    """
    with turn(workshop, sweep, inbox.name) as ours:
        try:
            yield ours
        except BrokerUnavailable:
            raise
        except (TransientError, OSError) as error:
            if not workshop.is_in_trouble(inbox, error, sweep):
                _log.warning(events.SWEEP_STUCK, inbox=inbox.name, sweep=sweep, error=str(error), remedy="it is tried again")


def register(app: Celery, current: CurrentContext) -> None:
    """Make the sweeps known to the app."""
    for name, sweep in ((MISSED, missed), (STALE, stale), (EXPIRED, expired)):

        def run(*, _sweep: Any = sweep) -> None:  # noqa: ANN401 - bound now, for a closure sees the last one
            with contextlib.suppress(BrokerUnavailable):  # the next one comes soon
                _sweep(current.get())

        app.task(name=name, ignore_result=True)(run)
