"""Asks workers by Celery's remote control; unlike Celery's inspect, also those that share a name."""

from typing import Any, cast

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from inboxd.errors import BrokerUnavailable


def ask_all(app: Celery, command: str, seconds: float) -> list[tuple[str, Any]]:
    """Return each worker's name and answer, for the workers that answer in time. Raises BrokerUnavailable.

    Celery's inspect keeps one answer of those under one name, and warns: two workers on a host have one name, unless -n says
    otherwise.
    """
    try:
        replies = cast("list[dict[str, Any]]", app.control.broadcast(command, reply=True, timeout=seconds) or [])
    except (OperationalError, redis.RedisError, OSError) as error:
        raise BrokerUnavailable(f"redis: {error}") from error
    return [(name, answer) for reply in replies for name, answer in reply.items()]
