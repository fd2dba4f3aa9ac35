"""Which workers take which parcels: they show themselves in Redis, for the watcher to know whether parcels are to carry bytes.

Between programs on one host each byte would cross the wire three times, to come back; to another host, there is no other way.
"""

import secrets
from collections.abc import Iterable
from typing import cast

import redis

from inboxd.broker import lua
from inboxd.broker.connection import translate_redis_errors
from inboxd.messaging.queues import WORK_QUEUE, files_queue

KEY = "inboxd:workers"
REGISTRATION_SECONDS = 60.0
"""A worker of which nothing was heard for so long does not count."""

_SEPARATOR = "\0"


class WorkerRegistry:
    """Who takes from the queues of parcels, as far as one host knows; by Redis's clock."""

    def __init__(self, client: redis.Redis, host: str) -> None:
        self._by_reference = files_queue(host)
        self._id = secrets.token_hex(8)
        self._register = client.register_script(lua.REGISTER_WORKER)
        self._queues_by_worker: list[frozenset[str]] = []

    @property
    def needs_inline(self) -> bool:
        """Whether parcels are to carry bytes, at the last look: one who takes them does not see our disk, or nobody does."""
        blind = any(WORK_QUEUE in queues and self._by_reference not in queues for queues in self._queues_by_worker)
        return blind or not any(self._by_reference in queues for queues in self._queues_by_worker)

    def register(self, queues: Iterable[str]) -> None:
        """Tell that this worker takes from these queues. Raises BrokerAway."""
        self._call(_SEPARATOR.join([self._id, *sorted(queues)]))

    def refresh(self) -> None:
        """See who takes from which queues. Raises BrokerAway."""
        self._queues_by_worker = [frozenset(name.decode("utf-8", "replace").split(_SEPARATOR)[1:]) for name in self._call()]

    def _call(self, *names: str) -> list[bytes]:
        with translate_redis_errors():
            return cast("list[bytes]", self._register(keys=[KEY], args=[int(REGISTRATION_SECONDS * 1000), *names]))
