"""Which workers take which parcels: they show themselves in Redis, for the watcher to know whether parcels are to carry bytes.

Between programs on one host each byte would cross the wire three times, to come back; to another host, there is no other way.
"""

from collections.abc import Iterable
from typing import cast

import redis

from spool import lua
from spool.broker import weather
from spool.queue import WORK_QUEUE, files_queue

KEY = "inboxd:takers"
FRESH_SECONDS = 60.0
"""A worker of which nothing was heard for so long does not count."""


class Helpers:
    """Who takes from the queues of parcels, as far as one host knows; by Redis's clock."""

    def __init__(self, client: redis.Redis, host: str) -> None:
        self._host = host
        self._show = client.register_script(lua.SHOW)
        self._takers: frozenset[tuple[str, str]] = frozenset()

    @property
    def needed(self) -> bool:
        """Whether parcels are to carry bytes, at the last look: a worker elsewhere takes them, or none that sees our disk."""
        by_reference = any(queue == files_queue(self._host) for queue, _ in self._takers)
        elsewhere = any(queue == WORK_QUEUE and host != self._host for queue, host in self._takers)
        return elsewhere or not by_reference

    def show(self, queues: Iterable[str]) -> None:
        """Tell that a worker on this host takes from these queues. Raises BrokerAway."""
        self._call(f"{queue} {self._host}" for queue in queues)

    def look(self) -> None:
        """See who takes from which queue. Raises BrokerAway."""
        found = (name.decode("utf-8", "replace").partition(" ") for name in self._call(()))
        self._takers = frozenset((queue, host) for queue, _, host in found)

    def _call(self, members: Iterable[str]) -> list[bytes]:
        with weather():
            return cast("list[bytes]", self._show(keys=[KEY], args=[int(FRESH_SECONDS * 1000), *members]))
