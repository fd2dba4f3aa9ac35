"""Screening: is this message one that a worker can take? What is not is set aside before Celery sees it.

Celery 5.7.0 lets some messages end the worker's main process, again and again, for it puts them back as it ends (a body of the
wrong arity, bad base64, a time limit of strings); it unpacks whatever a header calls compressed, without a limit; and it drops
what it can't read or does not know without a trace. The file of a message that was set aside is still in claimed/.
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
"""Base64 and the headers around the largest parcel stay below this."""
QUARANTINED_BYTES_MAX = 65_536
QUARANTINED_MESSAGES_MAX = 100
"""So much of so many messages is kept for a person to look at."""
REDELIVERIES_MAX = 5
"""A message that came back so often within the hour is suspected of ending its workers."""
REDELIVERED_SECONDS = 3600
DEPTH_MAX = 8
REMEMBERED_IDS_MAX = 10_000

_CONTENT_TYPE = "application/x-msgpack"

_log = get_logger(__name__)


def parse_headers(raw: bytes, known: Collection[str]) -> Mapping[str, Any]:
    """Return the headers of a message as it lies in its queue. Raises BadPayload for one that a worker should not get."""
    if len(raw) > MESSAGE_BYTES_MAX:
        raise InvalidMessage(f"it has {len(raw)} bytes, and no message of ours has more than {MESSAGE_BYTES_MAX}")
    try:
        message = loads(raw)
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InvalidMessage(f"it is not JSON: {error}") from error
    headers, properties = _expect_map(message, "headers"), _expect_map(message, "properties")
    _check_properties(properties)
    _check_headers(headers, known)
    if message.get("content-type") != _CONTENT_TYPE or message.get("content-encoding") != "binary":
        raise InvalidMessage(f"its content-type is not {_CONTENT_TYPE}")
    _check_body(message.get("body"))
    return headers


def _expect_map(value: object, key: str) -> Mapping[str, Any]:
    part = value.get(key) if isinstance(value, dict) else None
    if not isinstance(part, dict):
        raise InvalidMessage(f"it has no {key}")
    return part


def _check_properties(properties: Mapping[str, Any]) -> None:
    delivery = _expect_map(properties, "delivery_info")
    texts = (properties.get("delivery_tag"), delivery.get("exchange"), delivery.get("routing_key"))
    if not all(_is_printable_ascii(text) for text in texts):
        raise InvalidMessage("its properties do not say how it was delivered")
    if properties.get("body_encoding") != "base64":
        raise InvalidMessage("its body_encoding is not base64")


def _check_headers(headers: Mapping[str, Any], known: Collection[str]) -> None:
    if headers.get("compression") is not None:
        raise InvalidMessage("it is compressed, and we never do that: it could be a bomb")
    if not headers.get("id") or not _is_printable_ascii(headers["id"]):
        raise InvalidMessage("it has no id")
    if headers.get("task") not in known:
        raise InvalidMessage(f"no task here is called {escape(str(headers.get('task')))[:200]}")
    limits = headers.get("timelimit") or [None, None]
    if not (isinstance(limits, list) and len(limits) == len("hs") and all(_is_number(limit) for limit in limits)):
        raise InvalidMessage("its timelimit is not two numbers")
    if not isinstance(headers.get("retries") or 0, int):
        raise InvalidMessage("its retries are no number")
    if not all(_is_timestamp(headers.get(moment)) for moment in ("eta", "expires")):
        raise InvalidMessage("its eta or its expires is no moment")
    if _is_deeper(headers, DEPTH_MAX):
        raise InvalidMessage("its headers are nested")


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
    return levels == 0 or any(_is_deeper(one, levels - 1) for one in inner)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _check_body(body: object) -> None:
    if not isinstance(body, str):
        raise InvalidMessage("it has no body")
    try:
        content = msgpack.unpackb(b64decode(body, validate=True), raw=False)
    except binascii.Error as error:
        raise InvalidMessage(f"its body is not base64: {error}") from error
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidMessage(f"its body is not msgpack: {error}") from error
    match content:
        case [list(), dict(), dict()]:
            return
        case _:
            raise InvalidMessage("its body is not a task's: arguments, keywords and callbacks")


class MessageFilter:
    """Looks at every message that a worker takes from its queues, and sets aside what it should not get."""

    def __init__(self, client: redis.Redis, leases: Leases, known_tasks: Callable[[], Collection[str]]) -> None:
        """``known`` returns the names of the tasks that may be called."""
        self._client = client
        self._leases = leases
        self._known_tasks = known_tasks
        self._redelivered: set[str] = set()

    def accepts(self, queue: str, raw: bytes) -> bool:
        """Tell whether the worker may have this message. If not, it is kept, logged, and its parcel given to the sweep.

        What does not come from a queue of tasks, such as the answer to an ``inspect``, is none of our business.
        """
        if not queue.startswith(QUEUE_PREFIX):
            return True
        try:
            headers = parse_headers(raw, self._known_tasks())
        except InvalidMessage as error:
            self._quarantine(queue, raw, str(error), _claimed_id(raw), crashed=False)
            return False
        if headers.get("redelivered") and self._exceeds_redeliveries(headers["id"]):
            why = f"it came back {REDELIVERIES_MAX} times: it seems to end the workers that take it"
            self._quarantine(queue, raw, why, headers["id"], crashed=True)
            return False
        return True

    def quarantine_failed(self, message: Any, error: Exception) -> None:  # noqa: ANN401 - kombu.transport.virtual.Message
        """Set aside a message that passed, and that Celery could not take all the same; it counts like a worker's death."""
        queue, raw = str(message.delivery_info.get("routing_key")), dumps(message.serializable()).encode()
        why = escape(f"Celery stumbled over it: {type(error).__name__}: {error}")[:500]
        self._quarantine(queue, raw, why, str(message.headers.get("id")), crashed=True)

    def reset_redeliveries(self) -> None:
        """Forget what has come back to this worker, which stops in order: its messages are not to blame."""
        with contextlib.suppress(BrokerUnavailable), translate_redis_errors():
            for task_id in self._redelivered:
                self._client.delete(REDELIVERED_KEY + task_id)

    def _exceeds_redeliveries(self, task_id: str) -> bool:
        """Count the workers that a message has come back from. One that comes back to the same worker has ended nobody."""
        if task_id in self._redelivered:
            return False
        key = REDELIVERED_KEY + task_id
        try:
            with translate_redis_errors(), self._client.pipeline(transaction=True) as pipe:
                pipe.incr(key)
                pipe.expire(key, REDELIVERED_SECONDS)
                times = int(pipe.execute()[0])
                if times < REDELIVERIES_MAX:
                    self._add_redelivered(task_id)
                    return False
                self._client.delete(key)
        except BrokerUnavailable:
            return False
        return True

    def _add_redelivered(self, task_id: str) -> None:
        if len(self._redelivered) >= REMEMBERED_IDS_MAX:
            self._redelivered.clear()
        self._redelivered.add(task_id)

    def _quarantine(self, queue: str, raw: bytes, why: str, task_id: str, *, crashed: bool) -> None:
        """Keep a bad message where no worker looks."""
        # If we die here: the message is gone, its parcel's lease lapses, and the sweep sends it again.
        parcel = task_id if is_parcel_id(task_id) else None
        _log.error(
            events.MESSAGE_QUARANTINED, queue=queue, parcel=parcel, task=escape(task_id)[:100], size=len(raw), why=why,
            remedy=f"its file is worked on again; look at it with LRANGE {QUARANTINE_KEY} 0 0",
        )  # fmt: skip
        try:
            with translate_redis_errors(), self._client.pipeline(transaction=True) as pipe:
                pipe.lpush(QUARANTINE_KEY, raw[:QUARANTINED_BYTES_MAX])
                pipe.ltrim(QUARANTINE_KEY, 0, QUARANTINED_MESSAGES_MAX - 1)
                pipe.execute()
            if parcel is not None:
                self._leases.expire(parcel, crashed=crashed)
        except BrokerUnavailable as error:
            _log.warning(events.BROKER_UNAVAILABLE, error=str(error), what="keeping a message that was set aside")


def _claimed_id(raw: bytes) -> str:
    """Return the task id that a bad message claims to have, "" if it has none."""
    try:
        task_id = loads(raw[:MESSAGE_BYTES_MAX])["headers"]["id"]
    except Exception:  # noqa: BLE001 - whatever it is that is wrong with it
        return ""
    return task_id if isinstance(task_id, str) else ""
