"""Reads one of the results that Celery has stored, by its key, for commands: importing Celery takes longer than they do."""

from dataclasses import dataclass
from typing import Any, cast

import msgpack
import redis

from inboxd.broker.connection import translate_redis_errors

KEY_PREFIX = "celery-task-meta-"
"""What precedes a task's id in the key of its result."""

PENDING, SUCCESS, FAILURE, RETRY = "PENDING", "SUCCESS", "FAILURE", "RETRY"
"""Celery's states of a task."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A task's state in Celery's words, and the message of what it raised; PENDING if nothing readable is stored."""

    status: str = PENDING
    error: str = ""


def read_stored_result(client: redis.Redis, parcel: str) -> StoredResult:
    """Return what Celery has stored for a parcel's task; nothing is changed. Raises BrokerUnavailable."""
    with translate_redis_errors():
        raw = cast("bytes | None", client.get(f"{KEY_PREFIX}{parcel}"))
    try:
        record: Any = msgpack.unpackb(raw or b"\x80")
    except (ValueError, msgpack.UnpackException):  # another program wrote it
        return StoredResult()
    if not isinstance(record, dict) or not isinstance(status := record.get("status"), str):
        return StoredResult()
    return StoredResult(status, error_message(record.get("result")) if status in (FAILURE, RETRY) else "")


def error_message(error: object) -> str:
    """Return the message of an exception as Celery stores it: its class, and its arguments as ``exc_message``."""
    arguments = error.get("exc_message", "") if isinstance(error, dict) else error
    return str(Exception(*arguments) if isinstance(arguments, list | tuple) else arguments)
