"""Beat's three sweeps: files that no event announced, parcels that nobody looks after, and what has been kept long enough."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery
from celery.schedules import schedule

from spool import heartbeat, log, trouble
from spool.broker import answers, weather
from spool.counters import Tally
from spool.errors import BrokerAway, Weather
from spool.folders import Folders, opened
from spool.intake import Intake, Means
from spool.mounts import mount_at, patience
from spool.payload import Parcel
from spool.queue import EXPIRED, MISSED, STALE, host_queue, send
from spool.recovery import Help
from spool.retention import expire
from spool.settings import Inbox, Settings
from tasks.repair import Repair
from tasks.shop import Shop
from tasks.turns import give_back, turn
from tasks.workshop import Workshop

RIPE_SECONDS = 5.0
"""A file must have been complete for so long before the sweep takes it from under the watcher's nose."""

TURNS_MAX = 100
STOP_SECONDS = 0.5
DAY_SECONDS = 86_400.0

_log = log.get(__name__)


def _in_turns(sweep: Callable[[Workshop], None]) -> Callable[[Workshop], None]:
    @functools.wraps(sweep)
    def in_turns(workshop: Workshop) -> None:
        try:
            sweep(workshop)
        finally:
            give_back(workshop)

    return in_turns


@_in_turns
def missed(workshop: Workshop) -> None:
    """Take in what lies complete in an inbox and was announced by no event, or found no watcher."""
    watcher = heartbeat.read(workshop.client, workshop.host)
    troubled = trouble.read(workshop.client, workshop.host, workshop.settings.inbox)
    away = trouble.read(workshop.client, workshop.host, workshop.settings.inbox, MISSED)
    for inbox in _own(workshop):
        watched = watcher.inboxes.get(inbox.name) if watcher else None
        if inbox.name in troubled or (watched and watched.busy):
            continue  # it could not be filed, or it is being worked off: nothing is missed
        claimed = 0
        with _turn(workshop, MISSED, inbox) as ours:
            if ours:
                claimed = _take_all(workshop, inbox)
                if inbox.name in away:
                    _say_it_is_over(workshop, inbox, MISSED)
        if claimed and watched and watched.mode == "inotify":
            _log.warning(log.EVENTS_MISSED, inbox=inbox.name, files=claimed)


def _own(workshop: Workshop) -> list[Inbox]:
    """Return the inboxes that are in the settings; of one that is leaving, only what is in flight is our business."""
    return [inbox for name, inbox in workshop.settings.inbox.items() if name not in workshop.leaving]


def _take_all(workshop: Workshop, inbox: Inbox) -> int:
    def send_one(parcel: Parcel, inbox: Inbox) -> None:
        send(workshop.app, parcel, inbox)

    with opened(workshop.disk, inbox.root) as folders:
        if not any(True for _ in workshop.disk.entries(folders.inbox)):
            return 0
    grace = workshop.settings.sweep.grace_seconds
    tally = Tally()
    means = Means(workshop.disk, workshop.leases, send_one, workshop.host, grace, tally)
    mount = mount_at(workshop.disk, inbox.root)
    calm = patience(inbox, mount)
    ripe = dataclasses.replace(
        calm, settle=calm.settle + RIPE_SECONDS, unsure=calm.unsure + RIPE_SECONDS, empty=calm.empty + RIPE_SECONDS
    )
    intake = Intake(means, inbox, ripe, network=mount.network)
    claimed, look = 0, True
    for _ in range(TURNS_MAX):
        taken = intake.take("sweep", look=look, hold=False)
        claimed += taken.claimed
        look = not taken.cut
        if not taken.more:
            break
    with contextlib.suppress(BrokerAway):  # the files are worth more than the statistics
        workshop.counters.write(tally)
    return claimed


@_in_turns
def stale(workshop: Workshop) -> None:
    """Help claimed parcels that nobody looks after."""
    after_outage = _was_away(workshop)
    troubled = trouble.read(workshop.client, workshop.host, workshop.settings.inbox)
    away = trouble.read(workshop.client, workshop.host, workshop.settings.inbox, STALE)
    for inbox in workshop.settings.inbox.values():
        with _turn(workshop, STALE, inbox) as ours:
            if ours:
                _mend(workshop, inbox, after_outage=after_outage, finished_now=inbox.name in troubled)
                if inbox.name in troubled or inbox.name in away:
                    _say_it_is_over(workshop, inbox, "", STALE)


def _mend(workshop: Workshop, inbox: Inbox, *, after_outage: bool, finished_now: bool) -> None:
    with opened(workshop.disk, inbox.root) as folders:
        if helped := Repair(workshop, inbox, folders, after_outage=after_outage, finished_now=finished_now).run():
            _log.info(log.SWEPT, inbox=inbox.name, **helped)


def _say_it_is_over(workshop: Workshop, inbox: Inbox, *seen_by: str) -> None:
    if trouble.clear(workshop.client, workshop.host, inbox.name, *seen_by):
        _log.info(log.FOLDER_BACK, inbox=inbox.name)


@_in_turns
def file_finished(workshop: Workshop) -> None:
    """File what is finished, as the last thing that a worker does: its callbacks would wait for the next worker."""
    if not answers(workshop.settings, STOP_SECONDS):
        return  # a stop is not to be held up
    with contextlib.suppress(BrokerAway):
        for inbox in workshop.settings.inbox.values():
            with _turn(workshop, STALE, inbox) as ours:
                if ours:
                    with opened(workshop.disk, inbox.root) as folders:
                        Repair(workshop, inbox, folders, finished_now=True).run(only=Help.FILE_AWAY)


def _was_away(workshop: Workshop) -> bool:
    """Tell whether no sweep has reached Redis for longer than a lease: distant workers could not, either."""
    if heartbeat.swept(workshop.client, workshop.settings):
        return False
    granted, patience_seconds = f"inboxd:granted:{workshop.host}", heartbeat.sweeps_every(workshop.settings)
    with weather():
        # once: where sweeps are rare because all workers are busy, their rarity is no outage
        return bool(workshop.client.set(granted, "", nx=True, ex=10 * patience_seconds))


@_in_turns
def expired(workshop: Workshop) -> None:
    """Delete what has been kept for as long as its inbox says, and our own leftovers."""
    for inbox in _own(workshop):
        with _turn(workshop, EXPIRED, inbox) as ours:
            if ours:
                with opened(workshop.disk, inbox.root) as folders:
                    _expire(workshop, inbox, folders)


def _expire(workshop: Workshop, inbox: Inbox, folders: Folders) -> None:
    kept = ((folders.done, inbox.keep_done_days, False), (folders.failed, inbox.keep_failed_days, True))
    for folder, days, notes_too in kept:
        for removed in expire(workshop.disk, folder, time.time(), days * DAY_SECONDS, notes_too=notes_too):
            _log.info(log.FILE_EXPIRED, inbox=inbox.name, file=removed.path, why=removed.why)


@contextlib.contextmanager
def _turn(workshop: Workshop, sweep: str, inbox: Inbox) -> Iterator[bool]:
    """Let one sweep of a kind be at an inbox; yields whether it is our turn.

    Trouble of this inbox is left for all to know, and the sweep goes on with the next one; a broker that is away ends it.
    """
    with turn(workshop, sweep, inbox.name) as ours:
        try:
            yield ours
        except BrokerAway:
            raise
        except (Weather, OSError) as error:
            if not workshop.is_in_trouble(inbox, error, sweep):
                _log.warning(log.SWEEP_STUCK, inbox=inbox.name, sweep=sweep, error=str(error), remedy="it is tried again")


def register(app: Celery, shop: Shop) -> None:
    """Make the sweeps known to the app."""
    for name, sweep in ((MISSED, missed), (STALE, stale), (EXPIRED, expired)):

        def run(*, _sweep: Any = sweep) -> None:  # noqa: ANN401 - bound now, for a closure sees the last one
            with contextlib.suppress(BrokerAway):  # the next one comes soon
                _sweep(shop.now())

        app.task(name=name, ignore_result=True)(run)


def schedule_with(app: Celery, settings: Settings) -> None:
    """Set beat's schedule. A sweep that found no worker in time is dropped: the next one does its work."""
    every = {
        MISSED: settings.sweep.missed_seconds,
        STALE: settings.sweep.stale_seconds,
        EXPIRED: settings.sweep.expired_seconds,
    }
    app.conf.beat_schedule = {
        name: {
            "task": name,
            "schedule": schedule(seconds),
            "options": {"queue": host_queue(settings.host), "expires": max(2 * seconds, 10.0), "ignore_result": True},
        }
        for name, seconds in every.items()
    }
