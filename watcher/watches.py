"""The watched inboxes: by events where that can be, anew when something was lost, and by new settings."""

import dataclasses
import time

from inboxd.config.settings import Inbox, Settings
from inboxd.errors import Finding, SettingsError
from inboxd.fs.mounts import find_mount_of_path
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.intake.watch_mode import WatchMode, choose_watch_mode, wait_times
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.service import reloading
from inboxd.service.reloading import SettingsChange
from inboxd.watcher.observer import Observer
from inboxd.watcher.watched_inbox import REBUILT, WatchedInbox, folder_identity

WATCH_RETRY_SECONDS = 30.0
"""How often the system is asked for watches again, after it had none left."""


class Watches:
    """The inboxes that are watched, by name."""

    def __init__(self, deps: IntakeDeps, observer: Observer) -> None:
        self.inboxes: dict[str, WatchedInbox] = {}
        self._deps = deps
        self._observer = observer
        self._log = get_logger(__name__)
        self._without_watches: dict[str, float] = {}

    def watch_all(self, settings: Settings) -> None:
        """Begin to watch all inboxes of the settings. Raises OSError."""
        for inbox in settings.inbox.values():
            self.inboxes[inbox.name] = self.watch(inbox)

    def watch(self, inbox: Inbox) -> WatchedInbox:
        """Begin to watch an inbox, by events if its mount allows and the system has watches left. Raises OSError."""
        disk = self._deps.disk
        mount = find_mount_of_path(disk, inbox.root)
        how = choose_watch_mode(inbox, mount)
        if how.uses_events:
            how = self._try_events(inbox, how)
        else:
            self._observer.unwatch(inbox.name)
            self._without_watches.pop(inbox.name, None)
        intake = Intake(self._deps, inbox, wait_times(inbox, mount), network=mount.is_network)
        self._log.info(events.WATCHING, inbox=inbox.name, root=str(inbox.root), mode=how.name, why=how.reason)
        return WatchedInbox(inbox, intake, mount, how, folder_identity(disk, inbox.root))

    def _try_events(self, inbox: Inbox, how: WatchMode) -> WatchMode:
        try:
            self._observer.watch(inbox.name, inbox.root)
        except OSError as error:
            self._observer.unwatch(inbox.name)
            why = f"{error.strerror}: raise fs.inotify.max_user_watches or max_user_instances"
            if inbox.name not in self._without_watches:
                self._log.warning(events.EVENTS_LOST, inbox=inbox.name, error=why, remedy="it is polled, and tried again")
            self._without_watches[inbox.name] = time.monotonic() + WATCH_RETRY_SECONDS
            return WatchMode(uses_events=False, reason=why)
        self._without_watches.pop(inbox.name, None)
        return how

    def retry_events(self, now: float) -> None:
        """Where the system had no watches left, see whether it has some now."""
        for name in [name for name, due in self._without_watches.items() if due <= now]:
            watched = self.inboxes[name]
            how = self._try_events(watched.inbox, WatchMode(uses_events=True, reason="the system has watches again"))
            if how.uses_events:
                self._log.info(events.WATCHING, inbox=name, root=str(watched.inbox.root), mode=how.name, why=how.reason)
                watched.mode = how
                watched.request_scan(REBUILT)

    def rewatch(self, name: str, reason: str) -> None:
        """Watch an inbox anew, and look at all of it for this reason."""
        try:
            fresh = self.watch(self.inboxes[name].inbox)
        except OSError as error:
            self.inboxes[name].identity = None  # nobody watches it now, be it the same or not when it is back
            self.inboxes[name].set_unavailable(str(error), time.monotonic())
            return
        fresh.outage = self.inboxes[name].outage  # the first turn tells whether that is over
        fresh.request_scan(reason)
        self.inboxes[name] = fresh

    def apply_settings(self, change: SettingsChange) -> bool:
        """Watch by new settings; False, and nothing has changed, if one of the folders can't be watched."""
        deps, inboxes = self._deps, change.settings.inbox
        grace = change.settings.sweep.grace_seconds
        self._deps = dataclasses.replace(deps, grace_seconds=grace)
        renewed = (*change.added, *change.changed) if grace == deps.grace_seconds else tuple(inboxes)
        fresh: dict[str, WatchedInbox] = {}
        for name in renewed:
            try:
                fresh[name] = self.watch(inboxes[name])
            except OSError as error:
                self._deps = deps
                self._undo((*fresh, name))
                finding = Finding(f"inbox.{name}.root", str(error), "mend the folder, and reload again")
                reloading.log_refusal(SettingsError([finding]))
                return False
        for name in change.removed:
            self._unwatch(name)
        for name, watched in fresh.items():
            if before := self.inboxes.get(name):
                watched.outage = before.outage  # the first turn tells whether that is over
            self.inboxes[name] = watched
        return True

    def _undo(self, names: tuple[str, ...]) -> None:
        """Watch again by the old settings what was watched by new ones."""
        for name in names:
            if name in self.inboxes:
                self.rewatch(name, REBUILT)
            else:
                self._unwatch(name)

    def _unwatch(self, name: str) -> None:
        self._observer.unwatch(name)
        self.inboxes.pop(name, None)
        self._without_watches.pop(name, None)
