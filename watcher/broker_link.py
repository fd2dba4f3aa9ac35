"""The watcher's link to Redis: write the heartbeat and the statistics, read the outages, detect whether Redis is available."""

import contextlib
import time
from collections.abc import Iterable

import redis

from inboxd.broker import heartbeat
from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.counters import Counters
from inboxd.broker.heartbeat import Heartbeat, write_heartbeat
from inboxd.broker.inbox_outages import read_inbox_outages
from inboxd.broker.installations import EVERY_SECONDS, NAMESPACE_REMEDY, Registration
from inboxd.errors import BrokerUnavailable, FolderUnavailable, NamespaceConflict
from inboxd.intake.intake import IntakeDeps
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.watcher.mount_watchers import MountWatchers
from inboxd.watcher.watched_inbox import WatchedInbox

RETRY_SECONDS = (0.5, 5.0)
"""First and longest delay before an unavailable Redis is tried again, in seconds; the delay doubles each time."""

_log = get_logger(__name__)


class BrokerLink:
    """The state of the link to Redis, updated every few seconds.

    ``error`` is why Redis is unavailable (nothing may be claimed meanwhile); None while it is available. ``outages`` maps each
    inbox whose files can't be filed to the reason.
    """

    def __init__(
        self, client: redis.Redis, host: str, counters: Counters, deps: IntakeDeps, mounts: MountWatchers | None = None,
        registration: Registration | None = None, *, is_main: bool = True,
    ) -> None:  # fmt: skip
        """``mounts`` have reports of their own; only the main loop writes the heartbeat, for all, and logs outages of Redis."""
        self._registration = registration
        self._registered_at = float("-inf")
        self.error: str | None = None
        self.outages: dict[str, str] = {}
        self.due = 0.0
        self._client = client
        self._host = host
        self._counters = counters
        self._deps = deps
        self._mounts = mounts
        self._is_main = is_main
        self._started_at = time.time()
        self._retry_seconds = RETRY_SECONDS[0]

    def set_unavailable(self, error: str, remedy: str = "make Redis available") -> None:
        """Record that Redis is unavailable, and schedule the next try."""
        if self.error is None and self._is_main:
            _log.warning(events.BROKER_UNAVAILABLE, error=error, remedy=f"{remedy}; until then nothing is claimed")
        self.error = error
        self.due = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(self._retry_seconds * 2, RETRY_SECONDS[1])

    def raise_if_outage(self, watched: WatchedInbox) -> None:
        """Raise FolderUnavailable while the inbox's claimed files can't be filed: then more must not be claimed."""
        if outage := self.outages.get(watched.inbox.name):
            raise FolderUnavailable(outage)

    def update(self, now: float, inboxes: Iterable[WatchedInbox]) -> bool:
        """Write the heartbeat, read the outages, and return whether Redis has become available again.

        Raises SettingsError at the first contact with Redis if other hosts need no password for it.
        """
        previous_error, self.due = self.error, now + heartbeat.EVERY_SECONDS
        try:
            self._synchronize(list(inboxes))
        except NamespaceConflict as error:
            self.set_unavailable(str(error), NAMESPACE_REMEDY)
            return False
        except BrokerUnavailable as error:
            self.set_unavailable(str(error))
            return False
        self.error, self._retry_seconds = None, RETRY_SECONDS[0]
        if previous_error is None:
            return False
        if self._is_main:
            _log.info(events.BROKER_AVAILABLE)
        return True

    def _synchronize(self, inboxes: list[WatchedInbox]) -> None:
        names = [watched.inbox.name for watched in inboxes]
        if self._registration and time.monotonic() - self._registered_at >= EVERY_SECONDS:
            self._registration.register()
            self._registered_at = time.monotonic()
        if self._is_main:
            whole, parts = self._mounts.reports() if self._mounts else ({}, {})
            own = {watched.inbox.name: watched.report(parts=parts.get(watched.inbox.name, ())) for watched in inboxes}
            write_heartbeat(self._client, self._host, Heartbeat(time.time(), {**whole, **own}, self._started_at))
        with contextlib.suppress(BrokerUnavailable):  # statistics can wait; the other calls detect an outage
            self._counters.write(self._deps.tally)
        self.outages = read_inbox_outages(self._client, self._host, names)
        if self._deps.registry and self._is_main:
            self._deps.registry.refresh()
        if self.error is not None:  # a cached reply must not end an outage
            with translate_redis_errors():
                self._client.ping()
