"""The watched inboxes: by events where that can be, anew when something was lost, and by new settings."""

import dataclasses
import time

from inboxd.config.settings import Inbox
from inboxd.errors import Finding, SettingsError
from inboxd.fs.mounts import find_mount_of_path
from inboxd.intake.intake import Intake, Means
from inboxd.intake.watch_mode import Mode, mode, patience
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.service import reloading
from inboxd.service.reloading import Change
from inboxd.watcher.observer import Observer
from inboxd.watcher.watched_inbox import Drop, identity

WATCHES_SECONDS = 30.0
"""How often the system is asked for watches again, after it had none left."""


class Watches:
    """The inboxes that are watched, by name."""

    def __init__(self, means: Means, observer: Observer) -> None:
        self.drops: dict[str, Drop] = {}
        self._means = means
        self._observer = observer
        self._log = get_logger(__name__)
        self._watchless: dict[str, float] = {}

    def watch(self, inbox: Inbox) -> Drop:
        """Begin to watch an inbox, by events if its mount allows and the system has watches left. Raises OSError."""
        disk = self._means.disk
        mount = find_mount_of_path(disk, inbox.root)
        how = mode(inbox, mount)
        if how.events:
            how = self._by_events(inbox, how)
        else:
            self._observer.forget(inbox.name)
            self._watchless.pop(inbox.name, None)
        intake = Intake(self._means, inbox, patience(inbox, mount), network=mount.is_network)
        self._log.info(events.WATCHING, inbox=inbox.name, root=str(inbox.root), mode=how.name, why=how.why)
        return Drop(inbox, intake, mount, how, identity(disk, inbox.root))

    def _by_events(self, inbox: Inbox, how: Mode) -> Mode:
        try:
            self._observer.watch(inbox.name, inbox.root)
        except OSError as error:
            self._observer.forget(inbox.name)
            why = f"{error.strerror}: raise fs.inotify.max_user_watches or max_user_instances"
            if inbox.name not in self._watchless:
                self._log.warning(events.EVENTS_LOST, inbox=inbox.name, error=why, remedy="it is polled, and tried again")
            self._watchless[inbox.name] = time.monotonic() + WATCHES_SECONDS
            return Mode(events=False, why=why)
        self._watchless.pop(inbox.name, None)
        return how

    def try_events_again(self, now: float) -> None:
        """Where the system had no watches left, see whether it has some now."""
        for name in [name for name, due in self._watchless.items() if due <= now]:
            drop = self.drops[name]
            how = self._by_events(drop.inbox, Mode(events=True, why="the system has watches again"))
            if how.events:
                self._log.info(events.WATCHING, inbox=name, root=str(drop.inbox.root), mode=how.name, why=how.why)
                drop.mode = how
                drop.look_now("rebuilt")

    def watch_again(self, name: str, reason: str) -> None:
        """Watch an inbox anew, and look at all of it for this reason."""
        try:
            fresh = self.watch(self.drops[name].inbox)
        except OSError as error:
            self.drops[name].identity = None  # nobody watches it now, be it the same or not when it is back
            self.drops[name].away(str(error), time.monotonic())
            return
        fresh.trouble = self.drops[name].trouble  # the first turn tells whether that is over
        fresh.look_now(reason)
        self.drops[name] = fresh

    def take_up(self, change: Change) -> bool:
        """Watch by new settings; False, and nothing has changed, if one of the folders can't be watched."""
        means, inboxes = self._means, change.settings.inbox
        grace = change.settings.sweep.grace_seconds
        self._means = dataclasses.replace(means, grace_seconds=grace)
        renewed = (*change.added, *change.changed) if grace == means.grace_seconds else tuple(inboxes)
        fresh: dict[str, Drop] = {}
        for name in renewed:
            try:
                fresh[name] = self.watch(inboxes[name])
            except OSError as error:
                self._means = means
                self._undo((*fresh, name))
                finding = Finding(f"inbox.{name}.root", str(error), "mend the folder, and reload again")
                reloading.refuse(SettingsError([finding]))
                return False
        for name in change.removed:
            self._forget(name)
        for name, drop in fresh.items():
            if before := self.drops.get(name):
                drop.trouble = before.trouble  # the first turn tells whether that is over
            self.drops[name] = drop
        return True

    def _undo(self, names: tuple[str, ...]) -> None:
        """Watch again by the old settings what was watched by new ones."""
        for name in names:
            if name in self.drops:
                self.watch_again(name, "rebuilt")
            else:
                self._forget(name)

    def _forget(self, name: str) -> None:
        self._observer.forget(name)
        self.drops.pop(name, None)
        self._watchless.pop(name, None)
