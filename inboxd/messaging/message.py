"""One parcel's message: in which queue it waits, whether a worker holds it back, and what result is stored of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import redis
from celery import Celery
from celery.states import PENDING

from inboxd.broker import connection
from inboxd.messaging.celery_app import UNACKED_KEY, in_queues

Stored = dict[str, Any]
"""Celery's result record of one task: at least status (str) and result."""

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
    with connection.weather():
        eta = cast("bytes | None", client.register_script(_HELD)(keys=[UNACKED_KEY], args=[parcel]))
    if eta is None:
        return Whereabouts()
    return Whereabouts(taken=True, due=_moment(eta.decode("ascii", "replace")))


def _moment(eta: str) -> float | None:
    try:
        return datetime.fromisoformat(eta).timestamp()
    except ValueError:
        return None


def stored(app: Celery, parcels: Sequence[str]) -> dict[str, Stored]:
    """Return Celery's result record of each parcel; status PENDING where there is none. Raises BrokerAway."""
    if not parcels:
        return {}
    backend: Any = app.backend  # a key-value store: Redis
    with connection.weather():
        found = backend.mget([backend.get_key_for_task(parcel) for parcel in parcels])
    pending = {"status": PENDING, "result": None}
    return {parcel: backend.decode_result(raw) if raw else pending for parcel, raw in zip(parcels, found, strict=True)}
