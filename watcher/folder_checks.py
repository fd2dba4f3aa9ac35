"""Check that events arrive: the observer's threads are alive, and each path still leads to the folder that is watched."""

import contextlib

from inboxd.fs import mounts
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.watcher.observer import Observer
from inboxd.watcher.watched_inbox import REBUILT, SCAN, WatchedInbox, folder_identity
from inboxd.watcher.watches import Watches

CHECK_SECONDS = 1.0
"""Seconds between two checks."""

INBOXES_PER_CHECK, CHECKS_PER_ROUND = 20, 5
"""Each check compares 20 inboxes, or a fifth of them if that is more: this is most of the load of a hundred idle inboxes."""

_log = get_logger(__name__)


class FolderChecks:
    """Compares the identities of watched folders with the recorded ones, some at each check."""

    def __init__(self, disk: Disk, watches: Watches, observer: Observer) -> None:
        self.due = 0.0
        self._disk = disk
        self._watches = watches
        self._observer = observer
        self._mount_table: str | None = None
        self._position = 0

    def request(self, watched: WatchedInbox, now: float) -> None:
        """Have the next check watch an inbox again, because its folders were moved, deleted or unmounted."""
        watched.identity = None  # a new folder may get the old one's inode number
        self.due = now

    def run(self, now: float) -> None:
        """Run the checks if they are due; watch inboxes again whose folders or observer have changed."""
        if now < self.due:
            return
        self.due = now + CHECK_SECONDS
        if not self._observer.is_healthy:
            _log.warning(events.OBSERVER_RESTARTED, why="an observer thread has ended")
            self._observer.stop()
            for name in self._watches.inboxes:
                self._watches.rewatch(name, REBUILT)
        self._watches.retry_events(now)
        same_mounts = self._has_same_mounts()
        for name in self.choose(check_all=not same_mounts):
            self._check(name, same_mounts=same_mounts)

    def _has_same_mounts(self) -> bool:
        old_table, self._mount_table = self._mount_table, None
        with contextlib.suppress(OSError):
            self._mount_table = mounts.read_mount_table(self._disk)
        return self._mount_table is not None and old_table == self._mount_table

    def choose(self, *, check_all: bool) -> list[str]:
        """Return the inboxes to check now: those without a recorded identity, and the next ones in round-robin order."""
        names = list(self._watches.inboxes)
        count = min(len(names), max(INBOXES_PER_CHECK, -(-len(names) // CHECKS_PER_ROUND)))
        if check_all or count == len(names):
            return names
        due = [names[(self._position + number) % len(names)] for number in range(count)]
        self._position = (self._position + count) % len(names)
        without_identity = [name for name, watched in self._watches.inboxes.items() if watched.identity is None]
        return list(dict.fromkeys([*without_identity, *due]))

    def _check(self, name: str, *, same_mounts: bool) -> None:
        watched = self._watches.inboxes[name]
        mount = watched.identity[-1] if watched.identity and same_mounts else None
        try:
            if folder_identity(self._disk, watched.inbox.root, mount) == watched.identity:
                return
        except OSError:
            watched.identity = None  # folders that reappear are watched again, even if they are the same
            if watched.outage is None:
                watched.request_scan(SCAN)  # its turn reports the outage
            return
        _log.warning(events.OBSERVER_RESTARTED, inbox=name, why="the inbox's folders were replaced")
        self._watches.rewatch(name, REBUILT)
