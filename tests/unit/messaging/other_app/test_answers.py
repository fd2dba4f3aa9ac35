"""What Celery has stored of another app's task, in both serializers, and what other programs may have stored there."""

import json

import msgpack
import pytest

from inboxd.messaging.other_app.answers import NO_ANSWER, Answer, TaskAnswer, parse_answer
from inboxd.spool.failure import Failure, FailureKind


def stored(status: str, result: object = None, *, packed: bool = False) -> bytes:
    record = {"status": status, "result": result, "traceback": None, "task_id": "x"}
    return bytes(msgpack.packb(record)) if packed else json.dumps(record).encode()


def error(name: str, *arguments: object) -> dict[str, object]:
    return {"exc_type": name, "exc_message": list(arguments), "exc_module": "invoices"}


DONE = TaskAnswer(Answer.DONE)


def failed(kind: FailureKind, reason: str, answer: Answer = Answer.FAILED) -> TaskAnswer:
    return TaskAnswer(answer, Failure(kind, reason))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("status", "result", "expected"),
    [
        ("SUCCESS", 5, DONE),
        ("FAILURE", error("ValueError", "no customer"), failed(FailureKind.RAISED, "ValueError: no customer")),
        ("FAILURE", error("KeyError"), failed(FailureKind.RAISED, "KeyError")),
        ("FAILURE", error("RejectFile", "no\ninvoice"), failed(FailureKind.REJECTED, "no\\ninvoice")),
        ("FAILURE", error("TimeLimitExceeded", 5), failed(FailureKind.TIME_LIMIT, "TimeLimitExceeded: 5")),
        ("FAILURE", error("WorkerLostError", "9"), failed(FailureKind.RAISED, "WorkerLostError: 9", Answer.LOST)),
        ("FAILURE", error("NotRegistered", "a.b"), failed(FailureKind.RAISED, "NotRegistered: a.b", Answer.UNKNOWN)),
        ("REVOKED", error("TaskRevokedError", "revoked"), failed(FailureKind.CANCELLED, "TaskRevokedError: revoked")),
        ("STARTED", {"pid": 4}, NO_ANSWER),
        ("RETRY", error("ValueError"), NO_ANSWER),
    ],
)  # fmt: skip
def test_a_stored_result(status: str, result: object, expected: TaskAnswer, *, packed: bool) -> None:
    assert parse_answer(stored(status, result, packed=packed)) == expected


@pytest.mark.parametrize(
    "raw", [None, b"", b"{", b"\xc1", b"[]", b"7", b'{"status": 5}', b'{"status": "FAILURE"}', b"{" * 5000, b"\x91" * 5000]
)
def test_what_is_no_result_is_no_answer(raw: bytes | None) -> None:
    assert parse_answer(raw) == NO_ANSWER


@pytest.mark.parametrize(
    "result", [None, 7, "text", [], {}, {"exc_type": 5, "exc_message": {}}, {"exc_type": "E", "exc_message": 5}]
)
def test_a_failure_without_celerys_form_is_a_failure(result: object) -> None:
    found = parse_answer(stored("FAILURE", result))

    assert found.answer is Answer.FAILED
    assert found.failure is not None
