"""The queues: their names, and the messages in them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors

QUEUE_PREFIX = "inboxd."
"""Prefix of all queues."""

HOST_QUEUE_PREFIX, STAGE_QUEUE_PREFIX = "inboxd.host.", "inboxd.stage."

WORK_QUEUE = "inboxd.work"
"""Queue of parcels with all their files inline, for workers on any host."""

UNACKED_KEY = "inboxd.unacked"
"""Redis key of messages that workers have received and not acknowledged: running, or waiting for a retry."""

UNACKED_INDEX_KEY, UNACKED_MUTEX_KEY = "inboxd.unacked_index", "inboxd.unacked_mutex"
"""Redis keys of Kombu's record of when they were received, and of the lock under which it restores them."""

QUARANTINE_KEY = "inboxd.quarantine"
"""Redis key of messages that no worker may get, kept for an administrator."""


def files_queue(host: str) -> str:
    """Return the queue of parcels with files by reference, for workers that can open this host's folders."""
    return f"inboxd.files.{host}"


def stage_queue(host: str) -> str:
    """Return the queue of parcels whose files may have to be copied into the store, for workers that consume the host's own."""
    return f"{STAGE_QUEUE_PREFIX}{host}"


def host_queue(host: str) -> str:
    """Return the queue of callbacks and sweeps, for workers on the host that owns the folders."""
    return f"{HOST_QUEUE_PREFIX}{host}"


_LIST_IDS = """
local ids = {}
for i, message in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  ids[i] = string.match(message, '"id": ?"([^"]+)"') or ''
end
return ids
"""

_PAGE_MESSAGES = 500


def queued_task_ids(client: redis.Redis, queues: Iterable[str]) -> set[str]:
    """Return the ids of all tasks in these queues. Slow, since it reads every message. Raises BrokerUnavailable."""
    script = client.register_script(_LIST_IDS)
    task_ids: set[str] = set()
    with translate_redis_errors():
        for queue in queues:
            start = 0
            while ids := cast("list[bytes]", script(keys=[queue], args=[start, start + _PAGE_MESSAGES - 1])):
                task_ids.update(task_id.decode("ascii", "replace") for task_id in ids)
                start += _PAGE_MESSAGES
    return task_ids


_FIND_UNACKED = """
local header = '"id": "' .. ARGV[1] .. '"'
for _, message in ipairs(redis.call('HVALS', KEYS[1])) do
  if string.find(message, header, 1, true) then return string.match(message, '"eta": "([^"]+)"') or '' end
end
return false
"""


@dataclass(frozen=True, slots=True)
class MessageLocation:
    """Where a parcel's message is: in a queue, or received by a worker, which starts it at ``retry_at`` (unix seconds).

    Neither: the message is lost, or was acknowledged.
    """

    queue: str = ""
    is_unacked: bool = False
    retry_at: float | None = None


def locate_message(client: redis.Redis, queues: Iterable[str], parcel: str) -> MessageLocation:
    """Return where a parcel's message is. Slow, since it reads every message. Raises BrokerUnavailable."""
    for queue in queues:
        if parcel in queued_task_ids(client, (queue,)):
            return MessageLocation(queue)
    with translate_redis_errors():
        eta = cast("bytes | None", client.register_script(_FIND_UNACKED)(keys=[UNACKED_KEY], args=[parcel]))
    if eta is None:
        return MessageLocation()
    return MessageLocation(is_unacked=True, retry_at=_parse_eta(eta.decode("ascii", "replace")))


def _parse_eta(eta: str) -> float | None:
    try:
        return datetime.fromisoformat(eta).timestamp()
    except ValueError:
        return None
