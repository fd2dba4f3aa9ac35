"""The watcher's loop: run due turns, each a bounded piece of work on one inbox; wait for a hint or the next due time."""

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
from inboxd.service.sd_notify import ServiceNotifier
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
    """Watches all inboxes of the settings until a STOP hint."""

    def __init__(
        self, settings: Settings, deps: IntakeDeps, client: redis.Redis, counters: Counters, hints: HintQueue,
        observer: Observer, service_manager: ServiceNotifier | None = None, reload_settings: ReloadSettings = _reload_settings,
    ) -> None:  # fmt: skip
        """``reload_settings`` gets the old settings and returns what the new ones change; None if they are invalid."""
        self.settings = settings
        """The current settings, a frozen object that any thread may read."""
        self.watches = Watches(deps, observer)
        self.broker = BrokerLink(client, settings.host, counters, deps)
        self.checks = FolderChecks(deps.disk, self.watches, observer)
        self._tally = deps.tally
        self._hints = hints
        self._observer = observer
        self._service_manager = service_manager or ServiceNotifier()
        self._reload_settings = reload_settings
        self._stopping = self._reloading = self._ready = False

    def run(self) -> None:
        """Watch first, then scan, so that a file that arrives in between is found. Return after a STOP hint."""
        self.watches.watch_all(self.settings)
        _log.info(events.STARTED, inboxes=len(self.watches.inboxes))
        self._handle_hints(0.0)
        try:
            while not self._stopping:
                self.run_once()
        finally:
            self._observer.stop()
        _log.info(events.STOPPED)

    def run_once(self) -> None:
        """Run everything that is due, then wait for the next hint or due time."""
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
        """Ping the service manager's watchdog, if the threads that deliver events are alive."""
        self._service_manager.ping_watchdog(lambda: self._observer.is_healthy)

    def _next_due(self) -> float:
        due = min(self.checks.due, self.broker.due)
        if self.broker.error is not None:
            return due
        return min([due, *(watched.next_turn.at for watched in self.watches.inboxes.values())])

    def _handle_hints(self, seconds: float) -> None:
        for hint in self._hints.wait(seconds):
            self._handle_hint(hint, time.monotonic())

    def _handle_hint(self, hint: Hint, now: float) -> None:
        if hint.kind is HintKind.STOP:
            self._stopping = True
            self._service_manager.notify_stopping()
            return
        if hint.kind is HintKind.RELOAD:
            self._reloading = True
            return
        if (watched := self.watches.inboxes.get(hint.inbox)) is None:
            return
        match hint.kind:
            case HintKind.ARRIVED:
                watched.on_arrival(now)
            case HintKind.PARCEL_REMOVED:
                watched.on_parcel_removed(now)
            case HintKind.OVERFLOWED:
                _log.warning(events.EVENTS_LOST, inbox=hint.inbox, remedy="raise fs.inotify.max_queued_events")
                self._tally.count_lost_events(hint.inbox)
                watched.request_scan(OVERFLOW)
            case _:
                self.checks.request(watched, now)

    def _run_turn(self, watched: WatchedInbox) -> None:
        turn = watched.next_turn
        if turn.scan and watched.intake.is_between_scans:
            watched.on_scan_start()
        try:
            self.broker.raise_if_outage(watched)
            result = watched.intake.run_turn(turn.reason, scan=turn.scan)
        except FolderUnavailable as error:
            if watched.set_unavailable(str(error), time.monotonic()):
                remedy = "correct the cause; the watcher retries by itself"
                _log.warning(events.FOLDER_UNAVAILABLE, inbox=watched.inbox.name, error=watched.outage, remedy=remedy)
        except BrokerUnavailable as error:
            self.broker.set_unavailable(str(error))
            self._update_status()
        else:
            if watched.set_available():
                _log.info(events.FOLDER_AVAILABLE, inbox=watched.inbox.name)
            watched.on_turn_end(turn, result, time.monotonic())

    def _update_broker(self, now: float) -> None:
        """Update the link to Redis; request a scan of each inbox whose outage is over."""
        inboxes, old_outages = self.watches.inboxes, self.broker.outages
        if self.broker.update(now, inboxes.values()):
            for watched in inboxes.values():
                watched.request_scan(START)
        for name in old_outages.keys() - self.broker.outages.keys():
            if name in inboxes:
                inboxes[name].request_scan(SCAN)
        self._update_status()

    def _reload(self) -> None:
        """Apply new settings, or none of them. Parcels in flight are not affected: the watcher holds no state of theirs."""
        self._reloading = False
        self._service_manager.notify_reloading()
        change = self._reload_settings(self.settings)
        if change is not None and self.watches.apply_settings(change):
            self.settings = change.settings
            self._update_status()
        self._service_manager.notify_ready()

    def _update_status(self) -> None:
        self._service_manager.set_status(status_line(self.watches.inboxes.values(), self.broker.error))
