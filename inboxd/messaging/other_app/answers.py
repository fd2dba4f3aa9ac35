"""What another app has stored of its task, if its results are in the same Redis: JSON or msgpack, in Celery's own form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import msgpack
import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.logs.text import escape, mask_passwords, shorten
from inboxd.messaging.stored_result import KEY_PREFIX, error_message
from inboxd.spool.failure import Failure, FailureKind

REASON_CHARS_MAX, NAME_CHARS_MAX = 2000, 200


class Answer(StrEnum):
    """What is known of a task of another app."""

    NONE = "none"  # nothing: it waits, runs, was lost, or its results are elsewhere
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"  # its worker's process died: it may be sent again
    UNKNOWN = "unknown"  # the worker that got it has no such task


_ERRORS = {
    "WorkerLostError": Answer.LOST,
    "NotRegistered": Answer.UNKNOWN,
}
_KINDS = {
    "RejectFile": FailureKind.REJECTED,
    "TimeLimitExceeded": FailureKind.TIME_LIMIT,
    "SoftTimeLimitExceeded": FailureKind.TIME_LIMIT,
    "TaskRevokedError": FailureKind.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """An answer, and why the task has failed."""

    answer: Answer = Answer.NONE
    failure: Failure | None = None


NO_ANSWER = TaskAnswer()


def read_answers(client: redis.Redis, parcels: Sequence[str]) -> dict[str, TaskAnswer]:
    """Return what is stored for each parcel's task. Raises BrokerUnavailable."""
    if not parcels:
        return {}
    with translate_redis_errors():
        rows = cast("list[bytes | None]", client.mget([KEY_PREFIX + parcel for parcel in parcels]))
    return {parcel: parse_answer(raw) for parcel, raw in zip(parcels, rows, strict=True)}


def forget_answer(client: redis.Redis, parcel: str) -> None:
    """Delete what is stored of a copy, before the next one is sent. Raises BrokerUnavailable."""
    with translate_redis_errors():
        client.delete(KEY_PREFIX + parcel)


def parse_answer(raw: bytes | None) -> TaskAnswer:
    """Return what a stored result says; nothing if it can't be read, since any program may have written it."""
    try:
        record: Any = json.loads(raw or b"{}") if (raw or b"{}").startswith(b"{") else msgpack.unpackb(raw)
        return _parse_record(record)
    except (ValueError, RecursionError, msgpack.UnpackException):
        return NO_ANSWER


def _parse_record(record: object) -> TaskAnswer:
    match record:
        case {"status": "SUCCESS", "result": {"parcel": _, "files": _}}:
            return NO_ANSWER  # the outcome of a handler of inboxd's own, before the settings changed
        case {"status": "SUCCESS"}:
            return TaskAnswer(Answer.DONE)
        case {"status": "FAILURE" | "REVOKED" as status, "result": error}:
            return _parse_failure(status, error)
        case _:
            return NO_ANSWER


def _parse_failure(status: str, error: object) -> TaskAnswer:
    name = error.get("exc_type") if isinstance(error, dict) else None
    kind = _KINDS.get(str(name), FailureKind.CANCELLED if status == "REVOKED" else FailureKind.RAISED)
    text = mask_passwords(escape(shorten(error_message(error), REASON_CHARS_MAX)))
    shown = escape(shorten(str(name), NAME_CHARS_MAX))
    reason = text if kind is FailureKind.REJECTED or not name else f"{shown}: {text}" if text else shown
    return TaskAnswer(_ERRORS.get(str(name), Answer.FAILED), Failure(kind, reason))
