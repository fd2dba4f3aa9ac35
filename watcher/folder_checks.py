"""Checks that events can be trusted: the observer's threads are alive, and the folders are the ones that it watches."""

import contextlib

from inboxd.fs import mounts
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.watcher.observer import Observer
from inboxd.watcher.watched_inbox import REBUILT, SCAN, WatchedInbox, folder_identity
from inboxd.watcher.watches import Watches

CHECK_SECONDS = 1.0
"""Seconds between two checks."""

INBOXES_PER_CHECK, CHECKS_PER_ROUND = 20, 5
"""Each check compares so many inboxes' folders, or all of them in so many checks: most of what a hundred idle inboxes cost."""

_log = get_logger(__name__)


class FolderChecks:
    """Compares the watched folders with what they were, some at each check."""

    def __init__(self, disk: Disk, watches: Watches, observer: Observer) -> None:
        self.due = 0.0
        self._disk = disk
        self._watches = watches
        self._observer = observer
        self._mount_table: str | None = None
        self._position = 0

    def request(self, watched: WatchedInbox, now: float) -> None:
        """Let one inbox be watched anew at once: something has happened to its folders."""
        watched.identity = None  # an inode's number may be used again by the folder that takes its place
        self.due = now

    def run(self, now: float) -> None:
        """Check what is due, and watch anew what has changed."""
        if now < self.due:
            return
        self.due = now + CHECK_SECONDS
        if not self._observer.healthy:
            _log.warning(events.OBSERVER_RESTARTED, why="one of its threads has ended")
            self._observer.stop()
            for name in self._watches.inboxes:
                self._watches.rewatch(name, REBUILT)
        self._watches.retry_events(now)
        same_mounts = self._has_same_mounts()
        for name in self.choose(everything=not same_mounts):
            self._check(name, same_mounts=same_mounts)

    def _has_same_mounts(self) -> bool:
        before, self._mount_table = self._mount_table, None
        with contextlib.suppress(OSError):
            self._mount_table = mounts.read_mount_table(self._disk)
        return self._mount_table is not None and before == self._mount_table

    def choose(self, *, everything: bool) -> list[str]:
        """Return the inboxes to check now: those whose identity is unknown, and of many others the next ones in turn."""
        names = list(self._watches.inboxes)
        count = min(len(names), max(INBOXES_PER_CHECK, -(-len(names) // CHECKS_PER_ROUND)))
        if everything or count == len(names):
            return names
        turn = [names[(self._position + number) % len(names)] for number in range(count)]
        self._position = (self._position + count) % len(names)
        unknown = [name for name, watched in self._watches.inboxes.items() if watched.identity is None]
        return list(dict.fromkeys([*unknown, *turn]))

    def _check(self, name: str, *, same_mounts: bool) -> None:
        watched = self._watches.inboxes[name]
        mount = watched.identity[-1] if watched.identity and same_mounts else None
        try:
            if folder_identity(self._disk, watched.inbox.root, mount) == watched.identity:
                return
        except OSError:
            watched.identity = None  # folders that come back are watched anew, even if they are the same
            if watched.outage is None:
                watched.request_scan(SCAN)  # which finds out that they are unavailable
            return
        _log.warning(events.OBSERVER_RESTARTED, inbox=name, why="its folder was replaced")
        self._watches.rewatch(name, REBUILT)
