"""Validates messages before Celery sees them, and quarantines those that a worker must not receive.

In Celery 5.7.0 some messages (a body of the wrong arity, bad base64, a time limit of strings) end worker after worker, since an
exiting worker requeues them; a message that a header declares compressed is decompressed without a limit; and one that can't be
decoded, or whose task is unknown, is dropped without a trace. The file of a quarantined message is still in claimed/.
"""

import binascii
import contextlib
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import msgpack
import redis
from kombu.utils.json import dumps, loads

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.leases import Leases
from inboxd.errors import BrokerUnavailable, InvalidMessage
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.payload import INLINE_BYTES_MAX
from inboxd.messaging.queues import QUARANTINE_KEY, QUEUE_PREFIX
from inboxd.spool.layout import is_parcel_id

REDELIVERED_KEY = "inboxd:redelivered:"
MESSAGE_BYTES_MAX = 2 * INLINE_BYTES_MAX
"""Maximum size of a message; the largest parcel, in base64 and with its headers, stays below it."""
QUARANTINED_BYTES_MAX = 65_536
QUARANTINED_MESSAGES_MAX = 100
"""Maximum number of messages kept in quarantine, and bytes kept of each."""
REDELIVERIES_MAX = 5
"""Redeliveries within REDELIVERED_SECONDS after which a message is suspected of crashing its workers."""
REDELIVERED_SECONDS = 3600
DEPTH_MAX = 8
"""Maximum nesting of the headers: deeper ones could crash the worker."""
REMEMBERED_IDS_MAX = 10_000
"""Maximum number of redelivered messages whose ids a worker keeps in memory."""

_CONTENT_TYPE = "application/x-msgpack"

_log = get_logger(__name__)


def parse_headers(raw: bytes, known_tasks: Collection[str]) -> Mapping[str, Any]:
    """Return the headers of a message as stored in its queue. Raises InvalidMessage if a worker must not receive it."""
    if len(raw) > MESSAGE_BYTES_MAX:
        raise InvalidMessage(f"the message has {len(raw)} bytes; the limit is {MESSAGE_BYTES_MAX}")
    try:
        message = loads(raw)
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InvalidMessage(f"the message is not JSON: {error}") from error
    headers, properties = _expect_map(message, "headers"), _expect_map(message, "properties")
    _check_properties(properties)
    _check_headers(headers, known_tasks)
    if message.get("content-type") != _CONTENT_TYPE or message.get("content-encoding") != "binary":
        raise InvalidMessage(f"the content is not {_CONTENT_TYPE} in binary encoding")
    _check_body(message.get("body"))
    return headers


def _expect_map(value: object, key: str) -> Mapping[str, Any]:
    part = value.get(key) if isinstance(value, dict) else None
    if not isinstance(part, dict):
        raise InvalidMessage(f"the message has no {key}")
    return part


def _check_properties(properties: Mapping[str, Any]) -> None:
    delivery = _expect_map(properties, "delivery_info")
    texts = (properties.get("delivery_tag"), delivery.get("exchange"), delivery.get("routing_key"))
    if not all(_is_printable_ascii(text) for text in texts):
        raise InvalidMessage("the delivery_tag, exchange or routing_key is missing or not printable ASCII")
    if properties.get("body_encoding") != "base64":
        raise InvalidMessage("the body_encoding is not base64")


def _check_headers(headers: Mapping[str, Any], known_tasks: Collection[str]) -> None:
    if headers.get("compression") is not None:
        raise InvalidMessage("the message is compressed, which inboxd never does: decompressing could exhaust the memory")
    if not headers.get("id") or not _is_printable_ascii(headers["id"]):
        raise InvalidMessage("the id header is missing or not printable ASCII")
    if headers.get("task") not in known_tasks:
        raise InvalidMessage(f"no task named {escape(str(headers.get('task')))[:200]} is registered")
    limits = headers.get("timelimit") or [None, None]
    if not (isinstance(limits, list) and len(limits) == len("hs") and all(_is_number(limit) for limit in limits)):
        raise InvalidMessage("the timelimit header is not a list of two numbers")
    if not isinstance(headers.get("retries") or 0, int):
        raise InvalidMessage("the retries header is not an integer")
    if not all(_is_timestamp(headers.get(name)) for name in ("eta", "expires")):
        raise InvalidMessage("the eta or expires header is not an ISO 8601 time")
    if _is_deeper(headers, DEPTH_MAX):
        raise InvalidMessage(f"the headers are nested more than {DEPTH_MAX} levels deep")


def _is_printable_ascii(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_timestamp(value: object) -> bool:
    try:
        return value is None or (isinstance(value, str) and bool(datetime.fromisoformat(value)))
    except ValueError:
        return False


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _check_body(body: object) -> None:
    if not isinstance(body, str):
        raise InvalidMessage("the message has no body")
    try:
        content = msgpack.unpackb(b64decode(body, validate=True), raw=False)
    except binascii.Error as error:
        raise InvalidMessage(f"the body is not base64: {error}") from error
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidMessage(f"the body is not msgpack: {error}") from error
    match content:
        case [list(), dict(), dict()]:
            return
        case _:
            raise InvalidMessage("the body is not a list of arguments, keyword arguments and callbacks")


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
