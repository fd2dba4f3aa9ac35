"""Workers on other hosts: while one of them takes parcels from the work queue, parcels carry their files' bytes to it.

Without one, a parcel of many goes by reference: its bytes would cross the wire three times, only to come back to this host.
"""

from typing import cast

import redis

from spool import lua
from spool.broker import weather

KEY = "inboxd:takers"
FRESH_SECONDS = 60.0
"""A host of whose workers nothing was heard for so long does not count."""


class Helpers:
    """Who takes parcels that carry their bytes, as far as one host knows; by Redis's clock."""

    def __init__(self, client: redis.Redis, host: str) -> None:
        self._host = host
        self._show = client.register_script(lua.SHOW)
        self._others: frozenset[str] = frozenset()

    @property
    def elsewhere(self) -> bool:
        """Whether a worker on another host was there at the last look."""
        return bool(self._others)

    def show(self) -> None:
        """Tell that a worker on this host takes parcels from the work queue. Raises BrokerAway."""
        self._call(self._host)

    def look(self) -> None:
        """See which other hosts' workers do. Raises BrokerAway."""
        found = self._call("")
        self._others = frozenset(name.decode("utf-8", "replace") for name in found) - {self._host}

    def _call(self, host: str) -> list[bytes]:
        with weather():
            return cast("list[bytes]", self._show(keys=[KEY], args=[host, int(FRESH_SECONDS * 1000)]))
