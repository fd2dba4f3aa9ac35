"""Workers register their queues in Redis, so that the watcher can decide whether a message must carry the files' bytes.

Bytes in a message cross a connection to Redis three times: needless between programs on one host, inevitable to another.
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
"""Time after which a worker that does not register again is removed, in seconds."""

_SEPARATOR = "\0"


class WorkerRegistry:
    """The registered workers and their queues, as one host sees them; registrations expire by Redis's clock."""

    def __init__(self, client: redis.Redis, host: str) -> None:
        self._files_queue = files_queue(host)
        self._id = secrets.token_hex(8)
        self._register = client.register_script(lua.REGISTER_WORKER)
        self._queues_by_worker: list[frozenset[str]] = []

    @property
    def has_remote(self) -> bool:
        """Whether a worker takes parcels that can't open this host's folders."""
        return any(WORK_QUEUE in queues and self._files_queue not in queues for queues in self._queues_by_worker)

    @property
    def has_local(self) -> bool:
        """Whether a worker takes parcels that can open this host's folders."""
        return any(self._files_queue in queues for queues in self._queues_by_worker)

    @property
    def needs_inline(self) -> bool:
        """Whether messages must carry bytes: if a worker can't open this host's folders, or if none can."""
        return self.has_remote or not self.has_local

    def register(self, queues: Iterable[str]) -> None:
        """Register this worker as a consumer of these queues. Raises BrokerUnavailable."""
        self._run_script(_SEPARATOR.join([self._id, *sorted(queues)]))

    def refresh(self) -> None:
        """Read the registrations. Raises BrokerUnavailable."""
        names = [name.decode("utf-8", "replace") for name in self._run_script()]
        self._queues_by_worker = [frozenset(name.split(_SEPARATOR)[1:]) for name in names]

    def _run_script(self, *names: str) -> list[bytes]:
        with translate_redis_errors():
            return cast("list[bytes]", self._register(keys=[KEY], args=[int(REGISTRATION_SECONDS * 1000), *names]))
