"""The watcher's loop: look at the inboxes that are due, then wait for a hint, a due time or a tick."""

import contextlib
import time
from collections.abc import Callable

import redis

from inboxd.broker import heartbeat
from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.counters import Counters
from inboxd.broker.heartbeat import Heartbeat, InboxReport, write_heartbeat
from inboxd.broker.outages import read_outages
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs import mounts
from inboxd.intake.intake import Means
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.service import reloading
from inboxd.service.reloading import Change
from inboxd.service.sd_notify import Notify
from inboxd.watcher.hints import Hint, Hints, Kind
from inboxd.watcher.observer import Observer
from inboxd.watcher.status_line import status
from inboxd.watcher.watched_inbox import Drop, identity
from inboxd.watcher.watches import Watches

SUPERVISE_SECONDS = 1.0
COMPARED_AT_ONCE, COMPARED_IN_SECONDS = 20, 5
"""So many inboxes' folders are compared with what they were, each time, or all in so many times: for a hundred idle ones it is
the most that they cost."""

BROKER_SECONDS = (0.5, 5.0)
"""First and longest wait before an absent broker is asked again."""


Renew = Callable[[Settings], Change | None]


def _renew(old: Settings) -> Change | None:
    return reloading.renew(old, handlers=False)


class Daemon:
    """Watches all inboxes of the settings until it is told to stop."""

    def __init__(
        self, settings: Settings, means: Means, client: redis.Redis, counters: Counters, hints: Hints, observer: Observer,
        notify: Notify | None = None, renew: Renew = _renew,
    ) -> None:  # fmt: skip
        """``renew`` reads new settings, given the old ones; None if they can't be used."""
        self._settings = settings
        self._means = means
        self._client = client
        self._counters = counters
        self._since = time.time()
        self._hints = hints
        self._observer = observer
        self._notify = notify or Notify()
        self._renew = renew
        self._log = get_logger(__name__)
        self._watches = Watches(means, observer)
        self._drops = self._watches.drops
        self._troubles: dict[str, str] = {}
        self._mounts: str | None = None
        self._turn_at = 0
        self._paused: str | None = None
        self._broker_wait = BROKER_SECONDS[0]
        self._broker_due = self._supervise_due = self._beat_due = 0.0
        self._stopping = self._reloading = self._ready = False

    @property
    def settings(self) -> Settings:
        """The settings in force, a frozen object: any thread may ask."""
        return self._settings

    def run(self) -> None:
        """Watch first, then scan: what arrives in between is seen twice rather than never. Returns after a STOP hint."""
        for inbox in self._settings.inbox.values():
            self._drops[inbox.name] = self._watches.watch(inbox)
        self._log.info(events.STARTED, inboxes=len(self._drops))
        try:
            while not self._stopping:
                self._round()
        finally:
            self._observer.stop()
        self._log.info(events.STOPPED)

    def _round(self) -> None:
        if self._reloading:
            self._reload()
        now = time.monotonic()
        self._supervise(now)
        self._alive()
        self._beat(now)
        if self._paused is None:
            for drop in sorted(self._drops.values(), key=lambda drop: drop.due):
                if drop.is_due(time.monotonic()) and not self._stopping and self._paused is None:
                    self._turn(drop)
                    self._alive()
                    self._take_hints(0.0)
        if not self._ready:
            self._ready = True
            self._notify.ready()
        self._take_hints(self._next_due() - time.monotonic())

    def _alive(self) -> None:
        """Feed the watchdog: this loop turns, and events can be expected to arrive."""
        self._notify.alive(lambda: self._observer.healthy)

    def _next_due(self) -> float:
        if self._paused is not None:
            return min(self._supervise_due, self._broker_due)
        return min([self._supervise_due, self._beat_due, *(drop.due for drop in self._drops.values())])

    # hints

    def _take_hints(self, seconds: float) -> None:
        now = time.monotonic()
        for hint in self._hints.wait(seconds):
            self._take_hint(hint, now)

    def _take_hint(self, hint: Hint, now: float) -> None:
        if hint.kind is Kind.STOP:
            self._stopping = True
            self._notify.stopping()
            return
        if hint.kind is Kind.RELOAD:
            self._reloading = True
            return
        drop = self._drops.get(hint.inbox)
        if drop is None:
            return
        match hint.kind:
            case Kind.ARRIVED:
                drop.hint(now)
            case Kind.RETURNED:
                drop.returned(now)
            case Kind.OVERFLOWED:
                self._log.warning(events.EVENTS_LOST, inbox=hint.inbox, remedy="raise fs.inotify.max_queued_events")
                self._means.tally.count_lost_events(hint.inbox)
                drop.look_now("overflow")
            case _:
                drop.identity = None  # an inode's number alone may be used again by the folder that takes its place
                self._supervise_due = now

    # one inbox

    def _turn(self, drop: Drop) -> None:
        if drop.look and drop.intake.resting:
            drop.scanned()
        try:
            self._heed(drop)
            taken = drop.intake.take(drop.reason, look=drop.look)
        except FolderUnavailable as error:
            if drop.away(str(error), time.monotonic()):
                self._log.warning(events.FOLDER_AWAY, inbox=drop.inbox.name, error=str(error), remedy="it is tried again")
        except BrokerUnavailable as error:
            drop.dirty = True
            self._pause(str(error))
        else:
            if drop.back():
                self._log.info(events.FOLDER_BACK, inbox=drop.inbox.name)
            drop.plan(taken, time.monotonic())

    def _heed(self, drop: Drop) -> None:
        """Raise FolderAway while what is claimed for this inbox can't be filed: claiming more would not help it."""
        if why := self._troubles.get(drop.inbox.name):
            raise FolderUnavailable(why)

    def _hear_of_troubles(self, troubles: dict[str, str]) -> None:
        """Take in which inboxes are in trouble now; one that is not any more is looked at again."""
        over = self._troubles.keys() - troubles.keys()
        self._troubles = troubles
        for name in over:
            self._drops[name].look_now("scan")

    # new settings

    def _reload(self) -> None:
        """Take up new settings, or none of them. What is in flight needs no watcher, and is none of its memory."""
        self._reloading = False
        self._notify.reloading()
        change = self._renew(self._settings)
        if change is not None and self._watches.take_up(change):
            self._settings = change.settings
            for name in change.removed:
                self._troubles.pop(name, None)
            self._tell_status()
        self._notify.ready()

    # supervision

    def _supervise(self, now: float) -> None:
        """Look whether events can still be trusted: threads alive, folders the same as at the start."""
        if now < self._supervise_due:
            return
        self._supervise_due = now + SUPERVISE_SECONDS
        if not self._observer.healthy:
            self._log.warning(events.OBSERVER_REBUILT, why="one of its threads has ended")
            self._observer.stop()
            for name in self._drops:
                self._watches.watch_again(name, "rebuilt")
        self._watches.try_events_again(now)
        before, self._mounts = self._mounts, None
        with contextlib.suppress(OSError):
            self._mounts = mounts.read_mount_table(self._means.disk)
        unchanged = self._mounts is not None and before == self._mounts
        for name in self._compared(everything=not unchanged):
            drop = self._drops[name]
            mount = drop.identity[-1] if drop.identity and unchanged else None
            try:
                same = identity(self._means.disk, drop.inbox.root, mount) == drop.identity
            except OSError:
                drop.identity = None  # what comes back is watched anew, even if it is the same
                if drop.trouble is None:
                    drop.look_now("scan")  # that turn says that it is away
                continue
            if not same:
                self._log.warning(events.OBSERVER_REBUILT, inbox=name, why="its folder was replaced")
                self._watches.watch_again(name, "rebuilt")

    def _compared(self, *, everything: bool) -> list[str]:
        """Return the inboxes whose folders are compared now: where there are many, in turns, and at once who seems lost."""
        names = list(self._drops)
        count = min(len(names), max(COMPARED_AT_ONCE, -(-len(names) // COMPARED_IN_SECONDS)))
        if everything or count == len(names):
            return names
        turn = [names[(self._turn_at + number) % len(names)] for number in range(count)]
        self._turn_at = (self._turn_at + count) % len(names)
        lost = [name for name, drop in self._drops.items() if drop.identity is None]
        return list(dict.fromkeys([*lost, *turn]))

    # the broker

    def _pause(self, why: str) -> None:
        if self._paused is None:
            self._log.warning(events.BROKER_AWAY, error=why, remedy="nothing is claimed until it answers again")
        self._paused = why
        self._tell_status()
        self._broker_due = time.monotonic() + self._broker_wait
        self._broker_wait = min(self._broker_wait * 2, BROKER_SECONDS[1])

    def _beat(self, now: float) -> None:
        """Give a sign of life; it also tells whether the broker is there."""
        if now < (self._beat_due if self._paused is None else self._broker_due):
            return
        self._beat_due = now + heartbeat.EVERY_SECONDS
        inboxes = {
            name: InboxReport(drop.mode.name, drop.mode.why, drop.busy, drop.trouble) for name, drop in self._drops.items()
        }
        try:
            write_heartbeat(self._client, self._settings.host, Heartbeat(time.time(), inboxes, self._since))
            with contextlib.suppress(BrokerUnavailable):  # whether it is away, its other answers tell
                self._counters.write(self._means.tally)
            self._hear_of_troubles(read_outages(self._client, self._settings.host, self._drops))
            if self._means.helpers:
                self._means.helpers.look()
            if self._paused is not None:
                with translate_redis_errors():
                    self._client.ping()
        except BrokerUnavailable as error:
            self._pause(str(error))
            return
        if self._paused is not None:
            self._log.info(events.BROKER_BACK)
            self._paused = None
            for drop in self._drops.values():
                drop.look_now("start")
        self._broker_wait = BROKER_SECONDS[0]
        self._tell_status()

    def _tell_status(self) -> None:
        self._notify.status(status(self._drops.values(), self._paused))
