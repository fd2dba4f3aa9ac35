"""The watcher's loop: run due turns, each a bounded piece of work on one inbox; wait for a hint or the next due time."""

import time
from collections.abc import Callable

import redis

from inboxd.broker.counters import Counters
from inboxd.broker.heartbeat import InboxReport
from inboxd.broker.installations import Registration
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.intake.intake import IntakeDeps
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.service import reloading
from inboxd.service.reloading import SettingsChange
from inboxd.service.sd_notify import ServiceNotifier
from inboxd.watcher.broker_link import BrokerLink
from inboxd.watcher.folder_checks import FolderChecks
from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.mount_watchers import MountWatchers, Parts
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
        *, mounts: MountWatchers | None = None, on_loop: Callable[[], None] | None = None, parts: Parts | None = None,
        registration: Registration | None = None,
    ) -> None:  # fmt: skip
        """``reload_settings`` gets the old settings and returns what the new ones change; None if they are invalid.

        The main loop has ``mounts``, which have loops of their own; such a loop calls ``on_loop`` whenever it goes on, and
        scans only the ``parts`` of its inboxes.
        """
        self.settings = settings
        """The current settings, a frozen object that any thread may read."""
        self.watches = Watches(deps, observer)
        self.watches.parts = parts or {}
        self.broker = BrokerLink(client, settings.host, counters, deps, mounts, registration, is_main=on_loop is None)
        self._mounts = mounts
        self._on_loop = on_loop
        self.checks = FolderChecks(deps.disk, self.watches, observer)
        self._tally = deps.tally
        self._hints = hints
        self._observer = observer
        self._service_manager = service_manager or ServiceNotifier()
        self._reload_settings = reload_settings
        self._stopping = self._reloading = self._ready = False

    def run(self) -> None:
        """Watch first, then scan, so that a file that arrives in between is found. Return after a STOP hint.

        Raises SettingsError if other hosts need no password for Redis.
        """
        try:
            self._start()
            if self._on_loop is None:
                _log.info(events.STARTED, inboxes=len(self.settings.inbox))
            self._handle_hints(0.0)
            while not self._stopping:
                self.run_once()
        finally:
            self._observer.stop()
            if self._mounts:
                self._mounts.stop()
        if self._on_loop is None:
            _log.info(events.STOPPED)

    def _start(self) -> None:
        """Watch the inboxes of this loop, and start the loops of the mounts that have one."""
        inboxes = self.settings.inbox
        if self._mounts:
            partition = self._mounts.partition(self.settings)
            self.watches.parts = partition.own
            inboxes = {name: inboxes[name] for name in partition.own}
            self._mounts.apply(self.settings, partition)
        self.watches.watch_all(inboxes.values(), all_must_be_there=self._on_loop is None)

    def reports(self, outage: str = "") -> dict[str, InboxReport]:
        """Return a report for each inbox of this loop; ``outage`` precedes its own."""
        return {name: watched.report(outage) for name, watched in list(self.watches.inboxes.items())}

    def run_once(self) -> None:
        """Run everything that is due, then wait for the next hint or due time."""
        if self._reloading:
            self._reload()
        now = time.monotonic()
        self._stamp()
        self._check_mounts(now)
        self.checks.run(now)
        self._ping_watchdog()
        if now >= self.broker.due:
            self._update_broker(now)
        self._run_due_turns()
        if not self._ready:
            self._ready = True
            self._service_manager.notify_ready()
        self._handle_hints(self._next_due() - time.monotonic())

    def _run_due_turns(self) -> None:
        for watched in sorted(self.watches.inboxes.values(), key=lambda watched: watched.next_turn.at):
            if self.broker.error is not None or self._stopping:
                return
            if watched.next_turn.is_due(time.monotonic()):
                self._stamp()
                self._run_turn(watched)
                self._ping_watchdog()
                self._handle_hints(0.0)

    def _stamp(self) -> None:
        if self._on_loop:
            self._on_loop()

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
        if change is not None and self._apply(change):
            self.settings = change.settings
            self._update_status()
        self._service_manager.notify_ready()

    def _apply(self, change: SettingsChange, *, all_must_be_there: bool = True) -> bool:
        """Watch by new settings, or by a new mount table, and return True; on an error change nothing and return False.

        After a change of mounts, an inbox whose folders are not there is only unavailable.
        """
        if self._mounts is None:
            return self.watches.apply_settings(change)
        partition = self._mounts.partition(change.settings)
        before, self.watches.parts = self.watches.parts, partition.own
        moved = {name for name in before.keys() & partition.own.keys() if before[name] != partition.own[name]}
        own = SettingsChange(
            change.settings.model_copy(update={"inbox": {name: change.settings.inbox[name] for name in partition.own}}),
            added=tuple(sorted(partition.own.keys() - before.keys())),
            removed=tuple(sorted(before.keys() - partition.own.keys())),
            changed=tuple(sorted(moved | (set(change.changed) & before.keys() & partition.own.keys()))),
        )
        if not self.watches.apply_settings(own, all_must_be_there=all_must_be_there):
            self.watches.parts = before
            return False
        self._mounts.apply(change.settings, partition)
        return True

    def _check_mounts(self, now: float) -> None:
        """Start what has ended, and assign the inboxes to loops again if mounts were added or removed."""
        if self._mounts and now >= self.checks.due:
            self._mounts.keep_running()
            if self._mounts.has_new_mounts():
                self._apply(SettingsChange(self.settings), all_must_be_there=False)

    def _update_status(self) -> None:
        self._service_manager.set_status(status_line(self.watches.inboxes.values(), self.broker.error))
