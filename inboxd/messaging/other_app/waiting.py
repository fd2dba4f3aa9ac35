"""Which messages another app's workers have still to begin, or have just received: those that nobody needs to send again."""

import time
from datetime import datetime
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.logs.text import escape
from inboxd.messaging.queues import queued_task_ids

UNACKED_KEY, UNACKED_INDEX_KEY = "unacked", "unacked_index"
"""Kombu's own names, for every app that sets no others."""
PRIORITY_STEPS = (0, 3, 6, 9)
"""Kombu's own steps: each but the first has a list of its own for each queue, where an app's retries may be."""
_LIST_UNACKED = """
local found, rows = {}, redis.call('ZRANGE', KEYS[2], -10000, -1, 'WITHSCORES')
for i = 1, #rows, 2 do
  local message = redis.call('HGET', KEYS[1], rows[i])
  local id = message and string.match(message, '"id": ?"([^"]+)"')
  if id then
    found[#found + 1] = {id, rows[i + 1], string.match(message, '"eta": ?"([^"]+)"') or ''}
  end
end
return found
"""


def queue_keys(queue: str) -> list[str]:
    """Return the keys of a queue's lists in Redis, one for each priority."""
    return [queue if step == 0 else f"{queue}\x06\x16{step}" for step in PRIORITY_STEPS]


def waiting_task_ids(client: redis.Redis, queue: str, answer_seconds: float) -> frozenset[str]:
    """Return the ids of the tasks in a queue, or received within ``answer_seconds``, or to be started later.

    An app that acknowledges early is not seen to work on what it has received. Slow, since it reads every message. Raises
    BrokerUnavailable.
    """
    waiting = queued_task_ids(client, queue_keys(queue))
    now = time.time()
    with translate_redis_errors():
        script = client.register_script(_LIST_UNACKED)
        for task_id, received, eta in cast("list[list[bytes]]", script(keys=[UNACKED_KEY, UNACKED_INDEX_KEY])):
            if now - float(received) < answer_seconds or _parse_eta(eta) > now:
                waiting.add(task_id.decode("ascii", "replace"))
    return frozenset(waiting)


def _parse_eta(eta: bytes) -> float:
    try:
        return datetime.fromisoformat(eta.decode()).timestamp()
    except ValueError:
        return 0.0


def unknown_task_key(host: str, inbox: str) -> str:
    """Return the key in Redis that names a worker of another app which has no such task: the inbox's files wait for one."""
    return f"inboxd:task_unknown:{host}:{inbox}"


def read_unknown_task(client: redis.Redis, host: str, inbox: str) -> str:
    """Return the worker that discards an inbox's files, as it has no such task; "" if none does. Raises BrokerUnavailable."""
    with translate_redis_errors():
        return escape(cast("bytes | None", client.get(unknown_task_key(host, inbox))) or b"")
