"""Hold the watched inboxes; watch them by inotify if possible, again after a loss, and by new settings."""

import dataclasses
import errno
import time
from collections.abc import Iterable

from inboxd.config.rules import Inbox
from inboxd.errors import Finding, SettingsError
from inboxd.fs.mounts import Mount, find_mount_of_path
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.intake.scan import WHOLE
from inboxd.intake.watch_mode import WatchMode, choose_watch_mode, wait_times
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.service import reloading
from inboxd.service.reloading import SettingsChange
from inboxd.spool.layout import INBOX
from inboxd.watcher.mount_watchers import Parts
from inboxd.watcher.observer import Observer
from inboxd.watcher.watched_inbox import REBUILT, WatchedInbox, folder_identity

WATCH_RETRY_SECONDS = 30.0
"""Seconds until inotify is tried again after the kernel had no watches left."""

_LIMIT_ERRORS = {errno.ENOSPC, errno.EMFILE}
"""Errors of inotify for too many watches, and for too many instances."""


class Watches:
    """The watched inboxes by name."""

    def __init__(self, deps: IntakeDeps, observer: Observer) -> None:
        self.parts: Parts = {}
        """What is scanned of each inbox; all of those without an entry."""
        self.inboxes: dict[str, WatchedInbox] = {}
        self._deps = deps
        self._observer = observer
        self._log = get_logger(__name__)
        self._without_watches: dict[str, float] = {}

    def watch_all(self, inboxes: Iterable[Inbox], *, all_must_be_there: bool = True) -> None:
        """Watch these inboxes. Raises OSError, unless one that can't be watched only counts as unavailable."""
        for inbox in inboxes:
            try:
                self.inboxes[inbox.name] = self.watch(inbox)
            except OSError as error:
                if all_must_be_there:
                    raise
                self.inboxes[inbox.name] = self._unavailable(inbox, error)

    def _unavailable(self, inbox: Inbox, error: OSError) -> WatchedInbox:
        """Return an inbox that is watched once its folders are there."""
        mount = Mount(0, "unknown", "")
        intake = Intake(self._deps, inbox, wait_times(inbox, mount), network=True, part=self.parts.get(inbox.name, WHOLE))
        watched = WatchedInbox(inbox, intake, mount, WatchMode(uses_events=False, reason="unavailable"), identity=None)
        watched.set_unavailable(str(error), time.monotonic())
        remedy = "correct the cause; the watcher retries by itself"
        self._log.warning(events.FOLDER_UNAVAILABLE, inbox=inbox.name, error=str(error), remedy=remedy)
        return watched

    def watch(self, inbox: Inbox) -> WatchedInbox:
        """Watch an inbox, by inotify if its mount supports it and watches are left, else by polling. Raises OSError."""
        disk = self._deps.disk
        part = self.parts.get(inbox.name, WHOLE)
        mount = find_mount_of_path(disk, inbox.root / INBOX.decode())
        mode = WatchMode(uses_events=False, reason="a mount below inbox/") if part.below else choose_watch_mode(inbox, mount)
        if mode.uses_events:
            mode = self._try_events(inbox, mode)
        else:
            self._observer.unwatch(inbox.name)
            self._without_watches.pop(inbox.name, None)
        intake = Intake(self._deps, inbox, wait_times(inbox, mount), network=mount.is_network, part=part)
        below = {"below": part.below} if part.below else {}
        self._log.info(events.WATCHING, inbox=inbox.name, root=str(inbox.root), mode=mode.name, why=mode.reason, **below)
        return WatchedInbox(inbox, intake, mount, mode, folder_identity(disk, inbox.root))

    def _try_events(self, inbox: Inbox, mode: WatchMode) -> WatchMode:
        try:
            self._observer.watch(inbox.name, inbox.root)
        except OSError as error:
            self._observer.unwatch(inbox.name)
            limits = ": raise fs.inotify.max_user_watches or max_user_instances" if error.errno in _LIMIT_ERRORS else ""
            reason = f"{error.strerror}{limits}"
            if inbox.name not in self._without_watches:
                remedy = "the inbox is polled meanwhile; the watcher tries inotify again by itself"
                self._log.warning(events.EVENTS_LOST, inbox=inbox.name, error=reason, remedy=remedy)
            self._without_watches[inbox.name] = time.monotonic() + WATCH_RETRY_SECONDS
            return WatchMode(uses_events=False, reason=reason)
        self._without_watches.pop(inbox.name, None)
        return mode

    def retry_events(self, now: float) -> None:
        """Try inotify again for each polled inbox whose retry is due."""
        for name in [name for name, due in self._without_watches.items() if due <= now]:
            watched = self.inboxes[name]
            mode = self._try_events(watched.inbox, WatchMode(uses_events=True, reason="inotify watches are available again"))
            if mode.uses_events:
                self._log.info(events.WATCHING, inbox=name, root=str(watched.inbox.root), mode=mode.name, why=mode.reason)
                watched.mode = mode
                watched.request_scan(REBUILT)

    def rewatch(self, name: str, reason: str) -> None:
        """Watch an inbox again, and request a scan of all of it for this reason."""
        try:
            rewatched = self.watch(self.inboxes[name].inbox)
        except OSError as error:
            self.inboxes[name].identity = None  # without watches even the same folders must be watched again
            self.inboxes[name].set_unavailable(str(error), time.monotonic())
            return
        rewatched.outage = self.inboxes[name].outage  # its next turn ends the outage, if it is over
        rewatched.request_scan(reason)
        self.inboxes[name] = rewatched

    def apply_settings(self, change: SettingsChange, *, all_must_be_there: bool = True) -> bool:
        """Watch by new settings and return True; if a folder can't be watched, change nothing and return False.

        With ``all_must_be_there=False`` such an inbox only counts as unavailable.
        """
        deps, inboxes = self._deps, change.settings.inbox
        grace = change.settings.sweep.grace_seconds
        self._deps = dataclasses.replace(deps, grace_seconds=grace)
        names = (*change.added, *change.changed) if grace == deps.grace_seconds else tuple(inboxes)
        new_inboxes: dict[str, WatchedInbox] = {}
        for name in names:
            try:
                new_inboxes[name] = self.watch(inboxes[name])
            except OSError as error:
                if not all_must_be_there:
                    new_inboxes[name] = self._unavailable(inboxes[name], error)
                    continue
                self._deps = deps
                self._undo((*new_inboxes, name))
                finding = Finding(f"inbox.{name}.root", str(error), "correct the folder, then reload again")
                reloading.log_refusal(SettingsError([finding]))
                return False
        for name in change.removed:
            self._unwatch(name)
        for name in new_inboxes.keys() & self.inboxes.keys():
            outage = new_inboxes[name].outage or self.inboxes[name].outage
            new_inboxes[name].outage = outage  # its next turn ends the outage, if it is over
        self.inboxes.update(new_inboxes)
        return True

    def _undo(self, names: tuple[str, ...]) -> None:
        """Watch the inboxes by their old settings again; stop watching new ones."""
        for name in names:
            if name in self.inboxes:
                self.rewatch(name, REBUILT)
            else:
                self._unwatch(name)

    def _unwatch(self, name: str) -> None:
        self._observer.unwatch(name)
        self.inboxes.pop(name, None)
        self._without_watches.pop(name, None)
