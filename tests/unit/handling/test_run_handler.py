"""One handler call, whatever the handler returns or raises."""

import asyncio
import io
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from inboxd.errors import RejectFile
from inboxd.handling import run_handler
from inboxd.handling.run_handler import RESULT_BYTES_MAX, Handler, HandlerCall
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.outcome import Verdict
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id

LIMIT = 7


class BrokenStrError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


class ExitingStrError(Exception):
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


def call(handler: Handler, inbox_file: InboxFile) -> HandlerCall:
    return run_handler.run_handler(handler, inbox_file, LIMIT, time.monotonic())


def test_the_handlers_result_is_kept() -> None:
    handler_call = call(lambda inbox_file: {"read": inbox_file.read(), "name": inbox_file.filename}, file())

    assert handler_call.verdict is Verdict.DONE
    assert handler_call.result == {"read": b"content", "name": "a.txt"}
    assert 0 <= handler_call.seconds < 5


@pytest.mark.parametrize("result", [None, 0, 1.5, "ü\n", b"\xff", [1, [2]], {"a": {"b": None}}, "a" * (RESULT_BYTES_MAX - 3)])
def test_a_serializable_result_is_kept(result: object) -> None:
    handler_call = call(lambda _: result, file())

    assert handler_call.verdict is Verdict.DONE
    assert handler_call.result == result


def make_loop() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


def nested(levels: int) -> list[object]:
    """Return a list in a list, and so on."""
    return [nested(levels - 1)] if levels > 1 else []


@pytest.mark.parametrize(
    "result",
    [
        object(), {1, 2}, Path("/srv"), 2**64, "\udcff", {1: "a"}, {(1, 2): 3}, make_loop(), nested(17), nested(490),
        "a" * (RESULT_BYTES_MAX + 1), b"a" * 10**7, [0] * RESULT_BYTES_MAX,
    ],
    ids=lambda result: type(result).__name__,
)  # fmt: skip
def test_a_result_that_is_not_serializable_or_too_large_is_discarded(result: object) -> None:
    handler_call = call(lambda _: result, file())

    assert handler_call.verdict is Verdict.DONE
    assert handler_call.result is None


def test_the_type_of_a_discarded_result_is_known() -> None:
    assert call(lambda _: {1, 2}, file()).discarded == "set"
    assert call(lambda _: None, file()).discarded is None
    assert call(lambda _: 1, file()).discarded is None


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_a_files_temporary_copy_is_removed_after_the_handler(error: Exception | None) -> None:
    copies: list[tuple[Path, bytes]] = []

    def handler(inbox_file: InboxFile) -> None:
        copy = Path(inbox_file.temporary_file_path())
        copies.append((copy, copy.read_bytes()))
        if error:
            raise error

    call(handler, file())

    [(copy, content)] = copies
    assert (content, copy.exists()) == (b"content", False)


def test_a_nested_result_is_kept() -> None:
    assert call(lambda _: nested(16), file()).result == nested(16)


async def _async_handler(inbox_file: InboxFile) -> int:
    await asyncio.sleep(0)
    return len(inbox_file.stream.read())


class _AsyncCallable:
    async def __call__(self, inbox_file: InboxFile) -> int:
        return await _async_handler(inbox_file)


@pytest.mark.parametrize("handler", [_async_handler, _AsyncCallable(), partial(_async_handler)])
def test_a_coroutine_is_run_to_its_end(handler: Handler) -> None:
    handler_call = call(handler, file())

    assert (handler_call.verdict, handler_call.result) == (Verdict.DONE, len(b"content"))


async def _raise_async(_file: InboxFile) -> None:
    raise RejectFile("not an invoice")


def test_a_coroutine_may_reject_its_file() -> None:
    assert call(_raise_async, file()).verdict is Verdict.REJECTED


def _generate() -> Iterator[int]:
    yield 1


async def _generate_async() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "returned", [lambda: _async_handler(file()), _generate, _generate_async, lambda: math.sin, lambda: socket.AF_INET.__class__]
)
def test_a_result_that_shows_that_nothing_was_done_is_a_failure(returned: Callable[[], object]) -> None:
    handler_call = call(lambda _: returned(), file())

    assert handler_call.verdict is Verdict.RETRY_ISOLATED
    assert "which nobody runs" in str(handler_call.reason)


@pytest.mark.parametrize(
    ("message", "masked"),
    [
        ("no postgres://me:s3cret@db:5432/x, no https://a:b@c", "no postgres://me:***@db:5432/x, no https://a:***@c"),
        ("https://u:p@ss/w@rd@host/x", "https://u:***@host/x"),
        ("https://h/x?password=hunter3&token=abc123&page=2", "https://h/x?password=***&token=***&page=2"),
        (
            "https://h/x?api_key=1&access_token=2&X-Amz-Signature=3",
            "https://h/x?api_key=***&access_token=***&X-Amz-Signature=***",
        ),
        ("{'Authorization': 'Bearer abcdef123456'}", "{'Authorization': 'Bearer ***'}"),
        ("authorization: dXNlcjpwYXNz", "authorization: ***"),
        ("Basic authentication failed, file_id=7", "Basic authentication failed, file_id=7"),
    ],
)
def test_a_secret_in_an_exceptions_message_is_masked(message: str, masked: str) -> None:
    assert call(raising(ValueError(message)), file()).reason == f"ValueError: {masked}"


def test_a_rejection_is_final() -> None:
    handler_call = call(raising(RejectFile("not an\ninvoice")), file())

    assert handler_call.verdict is Verdict.REJECTED
    assert handler_call.reason == "not an\\ninvoice"


def test_a_rejection_without_a_reason_gets_a_default_reason() -> None:
    handler_call = call(raising(RejectFile()), file())

    assert handler_call.verdict is Verdict.REJECTED
    assert "without a reason" in handler_call.reason


def test_a_rejection_whose_reason_can_not_be_read_is_still_a_rejection() -> None:
    handler_call = call(raising(RejectFile(BrokenStrError())), file())

    assert handler_call.verdict is Verdict.REJECTED
    assert handler_call.reason


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
        (BrokenStrError(), "BrokenStrError: (the exception's message can't be read)"),
        (ExitingStrError(), "ExitingStrError: (the exception's message can't be read)"),
        (ExceptionGroup("two", [ValueError(1), ValueError(2)]), "ExceptionGroup: two (2 sub-exceptions)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_exception_is_caught_with_a_reason_on_one_line(error: BaseException, reason: str) -> None:
    handler_call = call(raising(error), file())

    assert handler_call.verdict is Verdict.RETRY_ISOLATED
    assert (handler_call.reason, handler_call.error, handler_call.timed_out) == (reason, error, False)


def test_a_long_reason_is_truncated() -> None:
    handler_call = call(raising(ValueError("a" * 10**6)), file())

    assert handler_call.verdict is Verdict.RETRY_ISOLATED
    assert run_handler.REASON_CHARS_MAX - 100 < len(str(handler_call.reason)) <= run_handler.REASON_CHARS_MAX


def test_a_handler_that_exceeds_the_time_limit_has_timed_out() -> None:
    handler_call = call(raising(SoftTimeLimitExceeded()), file())

    assert handler_call.verdict is Verdict.RETRY_ISOLATED
    assert handler_call.timed_out
    assert handler_call.reason == f"processing took longer than {LIMIT} s"


@pytest.mark.parametrize("error", [None, ValueError(), RejectFile(), SystemExit(), SoftTimeLimitExceeded()], ids=repr)
def test_the_stream_is_always_closed(error: BaseException | None) -> None:
    inbox_file = file()

    call(raising(error) if error else lambda _: None, inbox_file)

    assert inbox_file.stream.closed


def test_a_handler_may_close_the_file_itself() -> None:
    assert call(lambda inbox_file: inbox_file.close(), file()).verdict is Verdict.DONE


def test_an_error_while_closing_the_stream_is_caught() -> None:
    handler_call = call(lambda _: None, file(BadStream()))

    assert handler_call.verdict is Verdict.RETRY_ISOLATED
    assert "can't be closed" in handler_call.reason


def test_a_handler_with_other_parameters_is_caught() -> None:
    handler_call = call(lambda: None, file())  # type: ignore[arg-type, misc]

    assert handler_call.verdict is Verdict.RETRY_ISOLATED
    assert handler_call.reason.startswith("TypeError")
