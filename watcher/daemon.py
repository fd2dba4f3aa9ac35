"""The watcher's loop: look at the inboxes that are due, then wait for a hint or for the next time that something is due."""

import time
from collections.abc import Callable

import redis

from inboxd.broker.counters import Counters
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.intake.intake import IntakeDeps
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.service import reloading
from inboxd.service.reloading import SettingsChange
from inboxd.service.sd_notify import ServiceManager
from inboxd.watcher.broker_link import BrokerLink
from inboxd.watcher.folder_checks import FolderChecks
from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.observer import Observer
from inboxd.watcher.status_line import status_line
from inboxd.watcher.watched_inbox import OVERFLOW, SCAN, START, WatchedInbox
from inboxd.watcher.watches import Watches

ReloadSettings = Callable[[Settings], SettingsChange | None]

_log = get_logger(__name__)


def _reload_settings(old: Settings) -> SettingsChange | None:
    return reloading.reload_settings(old, handlers=False)


class Daemon:
    """Watches all inboxes of the settings until it is told to stop."""

    def __init__(
        self, settings: Settings, deps: IntakeDeps, client: redis.Redis, counters: Counters, hints: HintQueue,
        observer: Observer, service_manager: ServiceManager | None = None, reload_settings: ReloadSettings = _reload_settings,
    ) -> None:  # fmt: skip
        """``reload_settings`` reads new settings, given the old ones; None if they can't be used."""
        self.settings = settings
        """The settings in force, a frozen object: any thread may ask."""
        self.watches = Watches(deps, observer)
        self.broker = BrokerLink(client, settings.host, counters, deps)
        self.checks = FolderChecks(deps.disk, self.watches, observer)
        self._tally = deps.tally
        self._hints = hints
        self._observer = observer
        self._service_manager = service_manager or ServiceManager()
        self._reload_settings = reload_settings
        self._stopping = self._reloading = self._ready = False

    def run(self) -> None:
        """Watch first, then scan: what arrives in between is seen twice rather than never. Returns after a STOP hint."""
        self.watches.watch_all(self.settings)
        _log.info(events.STARTED, inboxes=len(self.watches.inboxes))
        try:
            while not self._stopping:
                self.run_once()
        finally:
            self._observer.stop()
        _log.info(events.STOPPED)

    def run_once(self) -> None:
        """Do all that is due, and wait for the next hint or due time."""
        if self._reloading:
            self._reload()
        now = time.monotonic()
        self.checks.run(now)
        self._ping_watchdog()
        if now >= self.broker.due:
            self._update_broker(now)
        if self.broker.error is None:
            for watched in sorted(self.watches.inboxes.values(), key=lambda watched: watched.next_turn.at):
                if watched.next_turn.is_due(time.monotonic()) and not self._stopping and self.broker.error is None:
                    self._run_turn(watched)
                    self._ping_watchdog()
                    self._handle_hints(0.0)
        if not self._ready:
            self._ready = True
            self._service_manager.notify_ready()
        self._handle_hints(self._next_due() - time.monotonic())

    def _ping_watchdog(self) -> None:
        """Ping the service manager's watchdog: this loop turns, and events can be expected to arrive."""
        self._service_manager.ping_watchdog(lambda: self._observer.healthy)

    def _next_due(self) -> float:
        due = min(self.checks.due, self.broker.due)
        if self.broker.error is not None:
            return due
        return min([due, *(watched.next_turn.at for watched in self.watches.inboxes.values())])

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
        watched = self.watches.inboxes.get(hint.inbox)
        if watched is None:
            return
        match hint.kind:
            case HintKind.ARRIVED:
                watched.on_arrival(now)
            case HintKind.PARCEL_RETURNED:
                watched.on_parcel_returned(now)
            case HintKind.OVERFLOWED:
                _log.warning(events.EVENTS_LOST, inbox=hint.inbox, remedy="raise fs.inotify.max_queued_events")
                self._tally.count_lost_events(hint.inbox)
                watched.request_scan(OVERFLOW)
            case _:
                self.checks.request(watched, now)

    def _run_turn(self, watched: WatchedInbox) -> None:
        look = watched.next_turn
        if look.scan and watched.intake.is_between_scans:
            watched.on_scan_start()
        try:
            self.broker.raise_if_outage(watched)
            result = watched.intake.run_turn(look.reason, scan=look.scan)
        except FolderUnavailable as error:
            if watched.set_unavailable(str(error), time.monotonic()):
                _log.warning(events.FOLDER_UNAVAILABLE, inbox=watched.inbox.name, error=str(error), remedy="it is tried again")
        except BrokerUnavailable as error:
            self.broker.set_unavailable(str(error))
            self._update_status()
        else:
            if watched.set_available():
                _log.info(events.FOLDER_AVAILABLE, inbox=watched.inbox.name)
            watched.on_turn_end(look, result, time.monotonic())

    def _update_broker(self, now: float) -> None:
        """Exchange news with Redis; scan the inboxes that may take files again."""
        inboxes, before = self.watches.inboxes, self.broker.outages
        if self.broker.update(now, inboxes.values()):
            for watched in inboxes.values():
                watched.request_scan(START)
        for name in before.keys() - self.broker.outages.keys():
            if name in inboxes:
                inboxes[name].request_scan(SCAN)
        self._update_status()

    def _reload(self) -> None:
        """Take up new settings, or none of them. What is in flight needs no watcher, and is none of its memory."""
        self._reloading = False
        self._service_manager.notify_reloading()
        change = self._reload_settings(self.settings)
        if change is not None and self.watches.apply_settings(change):
            self.settings = change.settings
            self._update_status()
        self._service_manager.notify_ready()

    def _update_status(self) -> None:
        self._service_manager.set_status(status_line(self.watches.inboxes.values(), self.broker.error))
