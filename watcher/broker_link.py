"""The watcher's contact with Redis: its heartbeat, the statistics, and whether Redis is available."""

import contextlib
import time
from collections.abc import Iterable

import redis

from inboxd.broker import heartbeat
from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.counters import Counters
from inboxd.broker.heartbeat import Heartbeat, InboxReport, write_heartbeat
from inboxd.broker.outages import read_outages
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.intake.intake import IntakeDeps
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.watcher.watched_inbox import WatchedInbox

RETRY_SECONDS = (0.5, 5.0)
"""First and longest wait, in seconds, before an unavailable Redis is asked again; it doubles in between."""

_log = get_logger(__name__)


class BrokerLink:
    """What the watcher tells Redis every few seconds, and what it learns from it.

    ``error`` is why Redis is unavailable, None while it is available: then nothing may be claimed. ``outages`` says why nothing
    can be filed now, for each inbox of which that is so.
    """

    def __init__(self, client: redis.Redis, host: str, counters: Counters, deps: IntakeDeps) -> None:
        self.error: str | None = None
        self.outages: dict[str, str] = {}
        self.due = 0.0
        self._client = client
        self._host = host
        self._counters = counters
        self._deps = deps
        self._started_at = time.time()
        self._retry_seconds = RETRY_SECONDS[0]

    def set_unavailable(self, why: str) -> None:
        """Note that Redis does not answer, and when to ask again."""
        if self.error is None:
            _log.warning(events.BROKER_UNAVAILABLE, error=why, remedy="nothing is claimed until it answers again")
        self.error = why
        self.due = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(self._retry_seconds * 2, RETRY_SECONDS[1])

    def raise_if_outage(self, watched: WatchedInbox) -> None:
        """Raise FolderUnavailable while an inbox's files can't be filed: to claim more would not help them."""
        if why := self.outages.get(watched.inbox.name):
            raise FolderUnavailable(why)

    def update(self, now: float, inboxes: Iterable[WatchedInbox]) -> bool:
        """Exchange news with Redis; returns whether it is available again. Does not raise."""
        before, self.due = self.error, now + heartbeat.EVERY_SECONDS
        try:
            self._exchange(list(inboxes))
        except BrokerUnavailable as error:
            self.set_unavailable(str(error))
            return False
        self.error, self._retry_seconds = None, RETRY_SECONDS[0]
        if before is None:
            return False
        _log.info(events.BROKER_AVAILABLE)
        return True

    def _exchange(self, inboxes: list[WatchedInbox]) -> None:
        reports = {
            watched.inbox.name: InboxReport(watched.mode.name, watched.mode.reason, watched.is_busy, watched.outage)
            for watched in inboxes
        }
        write_heartbeat(self._client, self._host, Heartbeat(time.time(), reports, self._started_at))
        with contextlib.suppress(BrokerUnavailable):  # the statistics wait; whether Redis is available, the rest tells
            self._counters.write(self._deps.tally)
        self.outages = read_outages(self._client, self._host, reports)
        if self._deps.registry:
            self._deps.registry.refresh()
        if self.error is not None:  # a cached reply must not end an outage
            with translate_redis_errors():
                self._client.ping()
