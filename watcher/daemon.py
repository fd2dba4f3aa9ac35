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
from inboxd.intake.intake import IntakeDeps
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.service import reloading
from inboxd.service.reloading import SettingsChange
from inboxd.service.sd_notify import ServiceManager
from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.observer import Observer
from inboxd.watcher.status_line import status_line
from inboxd.watcher.watched_inbox import WatchedInbox, folder_identity
from inboxd.watcher.watches import Watches

SUPERVISE_SECONDS = 1.0
COMPARED_PER_CHECK, COMPARED_IN_SECONDS = 20, 5
"""So many inboxes' folders are compared with what they were, each time, or all in so many times: for a hundred idle ones it is
the most that they cost."""

BROKER_RETRY_SECONDS = (0.5, 5.0)
"""First and longest wait before an absent broker is asked again."""


ReloadSettings = Callable[[Settings], SettingsChange | None]


def _reload_settings(old: Settings) -> SettingsChange | None:
    return reloading.reload_settings(old, handlers=False)


class Daemon:
    """Watches all inboxes of the settings until it is told to stop."""

    def __init__(
        self, settings: Settings, deps: IntakeDeps, client: redis.Redis, counters: Counters, hints: HintQueue,
        observer: Observer, service_manager: ServiceManager | None = None, reload_settings: ReloadSettings = _reload_settings,
    ) -> None:  # fmt: skip
        """``renew`` reads new settings, given the old ones; None if they can't be used."""
        self._settings = settings
        self._deps = deps
        self._client = client
        self._counters = counters
        self._started_at = time.time()
        self._hints = hints
        self._observer = observer
        self._service_manager = service_manager or ServiceManager()
        self._reload_settings = reload_settings
        self._log = get_logger(__name__)
        self._watches = Watches(deps, observer)
        self._inboxes = self._watches.inboxes
        self._outages: dict[str, str] = {}
        self._mounts: str | None = None
        self._next_compared = 0
        self._paused: str | None = None
        self._broker_wait = BROKER_RETRY_SECONDS[0]
        self._broker_due = self._supervise_due = self._heartbeat_due = 0.0
        self._stopping = self._reloading = self._ready = False

    @property
    def settings(self) -> Settings:
        """The settings in force, a frozen object: any thread may ask."""
        return self._settings

    def run(self) -> None:
        """Watch first, then scan: what arrives in between is seen twice rather than never. Returns after a STOP hint."""
        for inbox in self._settings.inbox.values():
            self._inboxes[inbox.name] = self._watches.watch(inbox)
        self._log.info(events.STARTED, inboxes=len(self._inboxes))
        try:
            while not self._stopping:
                self._run_once()
        finally:
            self._observer.stop()
        self._log.info(events.STOPPED)

    def _run_once(self) -> None:
        if self._reloading:
            self._reload()
        now = time.monotonic()
        self._supervise(now)
        self._ping_watchdog()
        self._send_heartbeat(now)
        if self._paused is None:
            for watched in sorted(self._inboxes.values(), key=lambda watched: watched.due):
                if watched.is_due(time.monotonic()) and not self._stopping and self._paused is None:
                    self._run_turn(watched)
                    self._ping_watchdog()
                    self._handle_hints(0.0)
        if not self._ready:
            self._ready = True
            self._service_manager.notify_ready()
        self._handle_hints(self._next_due() - time.monotonic())

    def _ping_watchdog(self) -> None:
        """Feed the watchdog: this loop turns, and events can be expected to arrive."""
        self._service_manager.ping_watchdog(lambda: self._observer.healthy)

    def _next_due(self) -> float:
        if self._paused is not None:
            return min(self._supervise_due, self._broker_due)
        return min([self._supervise_due, self._heartbeat_due, *(watched.due for watched in self._inboxes.values())])

    # hints

    def _handle_hints(self, seconds: float) -> None:
        now = time.monotonic()
        for hint in self._hints.wait(seconds):
            self._handle_hint(hint, now)

    def _handle_hint(self, hint: Hint, now: float) -> None:
        if hint.kind is HintKind.STOP:
            self._stopping = True
            self._service_manager.notify_stopping()
            return
        if hint.kind is HintKind.RELOAD:
            self._reloading = True
            return
        watched = self._inboxes.get(hint.inbox)
        if watched is None:
            return
        match hint.kind:
            case HintKind.ARRIVED:
                watched.on_arrival(now)
            case HintKind.PARCEL_RETURNED:
                watched.on_parcel_returned(now)
            case HintKind.OVERFLOWED:
                self._log.warning(events.EVENTS_LOST, inbox=hint.inbox, remedy="raise fs.inotify.max_queued_events")
                self._deps.tally.count_lost_events(hint.inbox)
                watched.request_scan("overflow")
            case _:
                watched.identity = None  # an inode's number alone may be used again by the folder that takes its place
                self._supervise_due = now

    # one inbox

    def _run_turn(self, watched: WatchedInbox) -> None:
        if watched.scan and watched.intake.is_between_scans:
            watched.on_scan_start()
        try:
            self._raise_if_outage(watched)
            taken = watched.intake.run_turn(watched.reason, scan=watched.scan)
        except FolderUnavailable as error:
            if watched.set_unavailable(str(error), time.monotonic()):
                self._log.warning(events.FOLDER_AWAY, inbox=watched.inbox.name, error=str(error), remedy="it is tried again")
        except BrokerUnavailable as error:
            watched.has_news = True
            self._pause_for_broker(str(error))
        else:
            if watched.set_available():
                self._log.info(events.FOLDER_BACK, inbox=watched.inbox.name)
            watched.schedule(taken, time.monotonic())

    def _raise_if_outage(self, watched: WatchedInbox) -> None:
        """Raise FolderAway while what is claimed for this inbox can't be filed: claiming more would not help it."""
        if why := self._outages.get(watched.inbox.name):
            raise FolderUnavailable(why)

    def _update_outages(self, troubles: dict[str, str]) -> None:
        """Take in which inboxes are in trouble now; one that is not any more is looked at again."""
        over = self._outages.keys() - troubles.keys()
        self._outages = troubles
        for name in over:
            self._inboxes[name].request_scan("scan")

    # new settings

    def _reload(self) -> None:
        """Take up new settings, or none of them. What is in flight needs no watcher, and is none of its memory."""
        self._reloading = False
        self._service_manager.notify_reloading()
        change = self._reload_settings(self._settings)
        if change is not None and self._watches.apply_settings(change):
            self._settings = change.settings
            for name in change.removed:
                self._outages.pop(name, None)
            self._update_status()
        self._service_manager.notify_ready()

    # supervision

    def _supervise(self, now: float) -> None:
        """Look whether events can still be trusted: threads alive, folders the same as at the start."""
        if now < self._supervise_due:
            return
        self._supervise_due = now + SUPERVISE_SECONDS
        if not self._observer.healthy:
            self._log.warning(events.OBSERVER_REBUILT, why="one of its threads has ended")
            self._observer.stop()
            for name in self._inboxes:
                self._watches.rewatch(name, "rebuilt")
        self._watches.retry_events(now)
        before, self._mounts = self._mounts, None
        with contextlib.suppress(OSError):
            self._mounts = mounts.read_mount_table(self._deps.disk)
        unchanged = self._mounts is not None and before == self._mounts
        for name in self._choose_compared(everything=not unchanged):
            watched = self._inboxes[name]
            mount = watched.identity[-1] if watched.identity and unchanged else None
            try:
                same = folder_identity(self._deps.disk, watched.inbox.root, mount) == watched.identity
            except OSError:
                watched.identity = None  # what comes back is watched anew, even if it is the same
                if watched.outage is None:
                    watched.request_scan("scan")  # that turn says that it is away
                continue
            if not same:
                self._log.warning(events.OBSERVER_REBUILT, inbox=name, why="its folder was replaced")
                self._watches.rewatch(name, "rebuilt")

    def _choose_compared(self, *, everything: bool) -> list[str]:
        """Return the inboxes whose folders are compared now: where there are many, in turns, and at once who seems lost."""
        names = list(self._inboxes)
        count = min(len(names), max(COMPARED_PER_CHECK, -(-len(names) // COMPARED_IN_SECONDS)))
        if everything or count == len(names):
            return names
        turn = [names[(self._next_compared + number) % len(names)] for number in range(count)]
        self._next_compared = (self._next_compared + count) % len(names)
        lost = [name for name, watched in self._inboxes.items() if watched.identity is None]
        return list(dict.fromkeys([*lost, *turn]))

    # the broker

    def _pause_for_broker(self, why: str) -> None:
        if self._paused is None:
            self._log.warning(events.BROKER_AWAY, error=why, remedy="nothing is claimed until it answers again")
        self._paused = why
        self._update_status()
        self._broker_due = time.monotonic() + self._broker_wait
        self._broker_wait = min(self._broker_wait * 2, BROKER_RETRY_SECONDS[1])

    def _send_heartbeat(self, now: float) -> None:
        """Give a sign of life; it also tells whether the broker is there."""
        if now < (self._heartbeat_due if self._paused is None else self._broker_due):
            return
        self._heartbeat_due = now + heartbeat.EVERY_SECONDS
        inboxes = {
            name: InboxReport(watched.mode.name, watched.mode.reason, watched.is_busy, watched.outage)
            for name, watched in self._inboxes.items()
        }
        try:
            write_heartbeat(self._client, self._settings.host, Heartbeat(time.time(), inboxes, self._started_at))
            with contextlib.suppress(BrokerUnavailable):  # whether it is away, its other answers tell
                self._counters.write(self._deps.tally)
            self._update_outages(read_outages(self._client, self._settings.host, self._inboxes))
            if self._deps.registry:
                self._deps.registry.refresh()
            if self._paused is not None:
                with translate_redis_errors():
                    self._client.ping()
        except BrokerUnavailable as error:
            self._pause_for_broker(str(error))
            return
        if self._paused is not None:
            self._log.info(events.BROKER_BACK)
            self._paused = None
            for watched in self._inboxes.values():
                watched.request_scan("start")
        self._broker_wait = BROKER_RETRY_SECONDS[0]
        self._update_status()

    def _update_status(self) -> None:
        self._service_manager.set_status(status_line(self._inboxes.values(), self._paused))
