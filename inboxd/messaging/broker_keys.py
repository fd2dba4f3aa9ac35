"""The keys that Kombu keeps: what another program has put there must not stop the delivery of messages."""

import json
import time
from collections.abc import Iterable
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import DECODE_ERRORS, discard
from inboxd.messaging.queues import QUARANTINE_KEY, UNACKED_INDEX_KEY, UNACKED_KEY, UNACKED_MUTEX_KEY

MARGIN_SECONDS = 60
"""How much longer than the visibility timeout a message must be unacknowledged before it is checked."""
CHECKED_MAX = 100


def check_broker_keys(client: redis.Redis, queues: Iterable[str], visibility_seconds: float) -> None:
    """Read each of Kombu's keys, so that the client removes one of the wrong type. Raises BrokerUnavailable.

    Of the messages that Kombu should have restored long ago, those that it can't read are removed: they would stop it again
    and again; and so is a lock that never expires.
    """
    with translate_redis_errors():
        for name in (*queues, QUARANTINE_KEY):
            client.llen(name)
        client.hlen(UNACKED_KEY)
        if client.ttl(UNACKED_MUTEX_KEY) == -1:
            discard(client, [UNACKED_MUTEX_KEY], "a lock without an expiry")
        oldest = time.time() - visibility_seconds - MARGIN_SECONDS
        for tag in cast("list[bytes]", client.zrangebyscore(UNACKED_INDEX_KEY, "-inf", oldest, start=0, num=CHECKED_MAX)):
            if not _is_restorable(cast("bytes | None", client.hget(UNACKED_KEY, cast("str", tag)))):
                client.hdel(UNACKED_KEY, cast("str", tag))
                client.zrem(UNACKED_INDEX_KEY, tag)


def _is_restorable(raw: bytes | None) -> bool:
    try:
        message, exchange, routing_key = json.loads(raw or b"")
        return isinstance(message["headers"], dict) and isinstance(exchange, str) and isinstance(routing_key, str)
    except DECODE_ERRORS:
        return False
