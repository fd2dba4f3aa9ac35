"""One handler call, and whatever it throws."""

import io
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from inboxd.errors import RejectFile
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.outcome import Verdict
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.work import run_handler
from inboxd.tasks.work.run_handler import RESULT_BYTES_MAX, Handler, HandlerCall

LIMIT = 7


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Fatal(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class BadStream(io.BytesIO):
    def __exit__(self, *_: object) -> None:
        raise OSError("can't be closed")


def file(stream: io.BytesIO | None = None) -> InboxFile:
    part = FilePart(b"a.txt", "text/plain", 7, {"id": "1"}, b"content")
    parcel = Parcel(new_parcel_id(1.0), "drop", "here", b"/srv", (part,))
    return InboxFile(part, parcel, stream or io.BytesIO(b"content"), None, 1)


def raising(error: BaseException) -> Callable[[InboxFile], NoReturn]:
    def handler(_file: InboxFile) -> NoReturn:
        raise error

    return handler


def call(handler: Handler, given: InboxFile) -> HandlerCall:
    return run_handler.run_handler(handler, given, LIMIT, time.monotonic())


def test_the_handlers_answer_is_kept() -> None:
    answer = call(lambda given: {"read": given.read(), "name": given.filename}, file())

    assert answer.verdict is Verdict.DONE
    assert answer.result == {"read": b"content", "name": "a.txt"}
    assert 0 <= answer.seconds < 5


@pytest.mark.parametrize("result", [None, 0, 1.5, "ü\n", b"\xff", [1, [2]], {"a": {"b": None}}, "a" * (RESULT_BYTES_MAX - 3)])
def test_an_answer_that_can_travel_does(result: object) -> None:
    answer = call(lambda _: result, file())

    assert answer.verdict is Verdict.DONE
    assert answer.result == result


def looped() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "result",
    [
        object(), {1, 2}, Path("/srv"), 2**64, "\udcff", {1: "a"}, {(1, 2): 3}, looped(), socket.AF_INET.__class__, math.sin,
        "a" * (RESULT_BYTES_MAX + 1), b"a" * 10**7, [0] * RESULT_BYTES_MAX,
    ],
    ids=lambda result: type(result).__name__,
)  # fmt: skip
def test_an_answer_that_can_not_travel_or_is_too_large_is_left_out(result: object) -> None:
    answer = call(lambda _: result, file())

    assert answer.verdict is Verdict.DONE
    assert answer.result is None


def test_a_rejection_is_the_last_word() -> None:
    answer = call(raising(RejectFile("not an\ninvoice")), file())

    assert answer.verdict is Verdict.REJECTED
    assert answer.reason == "not an\\ninvoice"


def test_a_rejection_without_a_reason_says_so() -> None:
    answer = call(raising(RejectFile()), file())

    assert answer.verdict is Verdict.REJECTED
    assert "without a reason" in answer.reason


def test_a_rejection_whose_reason_can_not_be_shown_is_still_a_rejection() -> None:
    answer = call(raising(RejectFile(Unspeakable())), file())

    assert answer.verdict is Verdict.REJECTED
    assert answer.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("bad\x1b[31m"), "ValueError: bad\\x1b[31m"),
        (KeyError("k"), "KeyError: 'k'"),
        (SystemExit(0), "SystemExit: 0"),
        (SystemExit(), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (MemoryError(), "MemoryError"),
        (RecursionError("deep"), "RecursionError: deep"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(5), "StopIteration: 5"),
        (Unspeakable(), "Unspeakable: (its message can't be shown)"),
        (Fatal(), "Fatal: (its message can't be shown)"),
        (ExceptionGroup("two", [ValueError(1), ValueError(2)]), "ExceptionGroup: two (2 sub-exceptions)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_raised_is_an_answer_with_the_reason_on_one_line(error: BaseException, reason: str) -> None:
    answer = call(raising(error), file())

    assert answer.verdict is Verdict.RETRY_ISOLATED
    assert (answer.reason, answer.error, answer.timed_out) == (reason, error, False)


def test_a_reason_is_no_longer_than_a_note_can_bear() -> None:
    answer = call(raising(ValueError("a" * 10**6)), file())

    assert answer.verdict is Verdict.RETRY_ISOLATED
    assert len(answer.reason) == 2000


def test_a_handler_that_the_clock_has_stopped_timed_out() -> None:
    answer = call(raising(SoftTimeLimitExceeded()), file())

    assert answer.verdict is Verdict.RETRY_ISOLATED
    assert answer.timed_out
    assert answer.reason == f"it took longer than {LIMIT} s"


@pytest.mark.parametrize("error", [None, ValueError(), RejectFile(), SystemExit(), SoftTimeLimitExceeded()], ids=repr)
def test_the_stream_is_closed_whatever_happens(error: BaseException | None) -> None:
    given = file()

    call(raising(error) if error else lambda _: None, given)

    assert given.stream.closed


def test_a_handler_may_close_the_file_itself() -> None:
    assert call(lambda given: given.close(), file()).verdict is Verdict.DONE


def test_a_stream_that_can_not_be_closed_is_an_answer_too() -> None:
    answer = call(lambda _: None, file(BadStream()))

    assert answer.verdict is Verdict.RETRY_ISOLATED
    assert "can't be closed" in answer.reason


def test_a_handler_that_wants_other_arguments_is_an_answer_too() -> None:
    answer = call(lambda: None, file())  # type: ignore[arg-type, misc]

    assert answer.verdict is Verdict.RETRY_ISOLATED
    assert answer.reason.startswith("TypeError")
