"""Which messages another app's workers have still to begin, or have just received: those that nobody needs to send again."""

import time
from datetime import datetime
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.messaging.queues import queued_task_ids

UNACKED_KEY, UNACKED_INDEX_KEY = "unacked", "unacked_index"
"""Kombu's own names, for every app that sets no others."""
PRIORITY_STEPS = (0, 3, 6, 9)
"""Kombu's own steps: each but the first has a list of its own for each queue, where an app's retries may be."""
_LIST_UNACKED = """
local found, rows = {}, redis.pcall('ZRANGE', KEYS[2], -10000, -1, 'WITHSCORES')
for i = 1, #rows, 2 do
  local message = redis.pcall('HGET', KEYS[1], rows[i])
  local id = type(message) == 'string' and string.match(message, '"id": ?"([^"]+)"')
  if id then
    found[#found + 1] = {id, rows[i + 1], string.match(message, '"eta": ?"([^"]+)"') or ''}
  end
end
return found
"""


def queue_keys(queue: str) -> list[str]:
    """Return the keys of a queue's lists in Redis, one for each priority."""
    return [queue if step == 0 else f"{queue}\x06\x16{step}" for step in PRIORITY_STEPS]


def queued_tasks(client: redis.Redis, queue: str) -> set[str]:
    """Return the ids of the tasks in a queue, which no worker has received.

    Slow, since it reads every message. Raises BrokerUnavailable.
    """
    with translate_redis_errors():  # a key of another type is none of Kombu's
        lists = [key for key in queue_keys(queue) if client.type(key) == b"list"]
    return queued_task_ids(client, lists)


def received_tasks(client: redis.Redis, answer_seconds: float) -> dict[str, float]:
    """Return for how many seconds an answer is to be awaited, by the id of each task that is received and not acknowledged yet.

    It has ``answer_seconds`` from when it was received, or from when it is to be started; one that was received longer ago is
    left out. An app that acknowledges early is not seen to work on what it has received. Raises BrokerUnavailable.
    """
    received: dict[str, float] = {}
    now = time.time()
    with translate_redis_errors():
        script = client.register_script(_LIST_UNACKED)
        for raw_id, since, eta in cast("list[list[bytes]]", script(keys=[UNACKED_KEY, UNACKED_INDEX_KEY])):
            task_id = raw_id.decode("ascii", "replace")
            seconds = max(float(since), _parse_eta(eta)) + answer_seconds - now
            if seconds > 0:
                received[task_id] = max(seconds, received.get(task_id, 0.0))
    return received


def _parse_eta(eta: bytes) -> float:
    try:
        return datetime.fromisoformat(eta.decode()).timestamp()
    except ValueError:
        return 0.0
