"""The queues: their names, their order, and what waits in them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import redis
from kombu.utils.scheduling import round_robin_cycle

from inboxd.broker.connection import translate_redis_errors

OURS = "inboxd."
"""How the names of all our queues begin."""


HOST_QUEUE = "inboxd.host."


WORK_QUEUE = "inboxd.work"
"""Parcels that carry their bytes: any worker on any host."""


UNACKED_KEY = "inboxd.unacked"
"""Messages that workers hold: what is worked on, and what waits for its next attempt."""


QUARANTINE_KEY = "inboxd.quarantine"
"""Messages that no worker should get, kept for a person to look at."""


def files_queue(host: str) -> str:
    """Return the queue of parcels that go by reference: workers that see this host's folders."""
    return f"inboxd.files.{host}"


def host_queue(host: str) -> str:
    """Return the queue of callbacks and sweeps: workers on the host that owns the folders."""
    return f"{HOST_QUEUE}{host}"


class HostFirst(round_robin_cycle):  # type: ignore[type-arg]  # generic in the stubs only
    """The order in which a worker asks its queues: callbacks first, so that what is finished gets away; then in turn."""

    def rotate(self, last_used: str) -> None:
        """Put a queue that has just given a message behind the others, unless it is the host's own."""
        items: list[str] = self.items or []
        items.sort(key=lambda queue: (not queue.startswith(HOST_QUEUE), queue == last_used))


_IDS = """
local ids = {}
for i, message in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  ids[i] = string.match(message, '"id": ?"([^"]+)"') or ''
end
return ids
"""


_PAGE = 500


def in_queues(client: redis.Redis, queues: Iterable[str]) -> set[str]:
    """Return the ids of all tasks whose messages lie in these queues. Reads every message: for repairs only.

    Raises BrokerAway.
    """
    script = client.register_script(_IDS)
    found: set[str] = set()
    with translate_redis_errors():
        for queue in queues:
            start = 0
            while ids := cast("list[bytes]", script(keys=[queue], args=[start, start + _PAGE - 1])):
                found.update(task_id.decode("ascii", "replace") for task_id in ids)
                start += _PAGE
    return found


_HELD = """
local wanted = '"id": "' .. ARGV[1] .. '"'
for _, message in ipairs(redis.call('HVALS', KEYS[1])) do
  if string.find(message, wanted, 1, true) then return string.match(message, '"eta": "([^"]+)"') or '' end
end
return false
"""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a parcel's message is: in a ``queue``; or ``taken`` by a worker, to be begun at ``due`` (unix seconds) if it waits.

    Neither: it is lost, or was acknowledged.
    """

    queue: str = ""
    taken: bool = False
    due: float | None = None


def locate(client: redis.Redis, queues: Iterable[str], parcel: str) -> Whereabouts:
    """Look for a parcel's message. Reads every message: for a person's question only. Raises BrokerAway."""
    for queue in queues:
        if parcel in in_queues(client, (queue,)):
            return Whereabouts(queue)
    with translate_redis_errors():
        eta = cast("bytes | None", client.register_script(_HELD)(keys=[UNACKED_KEY], args=[parcel]))
    if eta is None:
        return Whereabouts()
    return Whereabouts(taken=True, due=_moment(eta.decode("ascii", "replace")))


def _moment(eta: str) -> float | None:
    try:
        return datetime.fromisoformat(eta).timestamp()
    except ValueError:
        return None
