"""Validates messages before Celery sees them, and quarantines those that a worker must not receive.

In Celery 5.7.0 some messages (a body of the wrong arity, bad base64, a time limit of strings) end worker after worker, since an
exiting worker requeues them; a message that a header declares compressed is decompressed without a limit; and one that can't be
decoded, or whose task is unknown, is dropped without a trace. The file of a quarantined message is still in claimed/.
"""

import contextlib
from collections.abc import Callable, Collection
from typing import Any

import redis
from kombu.utils.json import dumps, loads

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.leases import Leases
from inboxd.errors import BrokerUnavailable, InvalidMessage
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.queues import QUARANTINE_KEY, QUEUE_PREFIX
from inboxd.spool.layout import is_parcel_id
from inboxd.tasks.hardening.message_check import MESSAGE_BYTES_MAX, parse_headers

REDELIVERED_KEY = "inboxd:redelivered:"
QUARANTINED_BYTES_MAX = 65_536
QUARANTINED_MESSAGES_MAX = 100
"""Maximum number of messages kept in quarantine, and bytes kept of each."""
REDELIVERIES_MAX = 5
"""Redeliveries within REDELIVERED_SECONDS after which a message is suspected of crashing its workers."""
REDELIVERED_SECONDS = 3600
REMEMBERED_IDS_MAX = 10_000
"""Maximum number of redelivered messages whose ids a worker keeps in memory."""

_log = get_logger(__name__)


class MessageFilter:
    """Checks every message that a worker receives, and quarantines those that Celery must not see."""

    def __init__(self, client: redis.Redis, leases: Leases, known_tasks: Callable[[], Collection[str]]) -> None:
        """``known_tasks`` returns the names of the tasks that a message may call."""
        self._client = client
        self._leases = leases
        self._known_tasks = known_tasks
        self._redelivered: set[str] = set()

    def accepts(self, queue: str, raw: bytes) -> bool:
        """Return whether the worker may have this message. If not, quarantine and log it, and let its parcel's lease expire.

        Messages from other queues than those for tasks, such as the reply to an ``inspect``, are accepted unchecked.
        """
        if not queue.startswith(QUEUE_PREFIX):
            return True
        try:
            headers = parse_headers(raw, self._known_tasks())
        except InvalidMessage as error:
            self._quarantine(queue, raw, str(error), _read_task_id(raw), crashed=False)
            return False
        if headers.get("redelivered") and self._exceeds_redeliveries(headers["id"]):
            why = f"the message was redelivered {REDELIVERIES_MAX} times: it seems to crash the workers that receive it"
            self._quarantine(queue, raw, why, headers["id"], crashed=True)
            return False
        return True

    def quarantine_failed(self, message: Any, error: Exception) -> None:  # noqa: ANN401 - kombu.transport.virtual.Message
        """Quarantine a message that was accepted but made Celery fail; this counts as a worker's crash on its parcel."""
        queue, raw = str(message.delivery_info.get("routing_key")), dumps(message.serializable()).encode()
        why = escape(f"Celery failed on the message: {type(error).__name__}: {error}")[:500]
        self._quarantine(queue, raw, why, str(message.headers.get("id")), crashed=True)

    def reset_redeliveries(self) -> None:
        """Delete the counts of messages redelivered to this worker: it stops in order, so they did not crash it."""
        with contextlib.suppress(BrokerUnavailable), translate_redis_errors():
            for task_id in self._redelivered:
                self._client.delete(REDELIVERED_KEY + task_id)

    def _exceeds_redeliveries(self, task_id: str) -> bool:
        """Count a redelivery, unless this worker has survived one before; return whether the limit is reached."""
        if task_id in self._redelivered:
            return False
        key = REDELIVERED_KEY + task_id
        try:
            with translate_redis_errors(), self._client.pipeline(transaction=True) as pipe:
                pipe.incr(key)
                pipe.expire(key, REDELIVERED_SECONDS)
                times = int(pipe.execute()[0])
                if times < REDELIVERIES_MAX:
                    if len(self._redelivered) >= REMEMBERED_IDS_MAX:
                        self._redelivered.clear()
                    self._redelivered.add(task_id)
                    return False
                self._client.delete(key)
        except BrokerUnavailable:
            return False
        return True

    def _quarantine(self, queue: str, raw: bytes, why: str, task_id: str, *, crashed: bool) -> None:
        """Store a bad message in a list that no worker consumes."""
        # If we die here: the message is lost, its parcel's lease lapses, and the sweep publishes the parcel again.
        parcel = task_id if is_parcel_id(task_id) else None
        _log.error(
            events.MESSAGE_QUARANTINED, queue=queue, parcel=parcel, task=escape(task_id)[:100], size=len(raw), why=why,
            remedy=f"the sweep publishes the message's parcel again; read the message with LRANGE {QUARANTINE_KEY} 0 0",
        )  # fmt: skip
        try:
            with translate_redis_errors(), self._client.pipeline(transaction=True) as pipe:
                pipe.lpush(QUARANTINE_KEY, raw[:QUARANTINED_BYTES_MAX])
                pipe.ltrim(QUARANTINE_KEY, 0, QUARANTINED_MESSAGES_MAX - 1)
                pipe.execute()
            if parcel is not None:
                self._leases.expire(parcel, crashed=crashed)
        except BrokerUnavailable as error:
            _log.warning(events.BROKER_UNAVAILABLE, error=str(error), what="quarantining a message")


def _read_task_id(raw: bytes) -> str:
    """Return the task id in a bad message's headers, "" if there is none."""
    try:
        task_id = loads(raw[:MESSAGE_BYTES_MAX])["headers"]["id"]
    except Exception:  # noqa: BLE001 - the message may be malformed in any way
        return ""
    return task_id if isinstance(task_id, str) else ""
