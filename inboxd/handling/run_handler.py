"""Calls a handler with one file, and catches whatever the handler raises, SystemExit and MemoryError included."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import msgpack
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # missing in the stubs
from celery.exceptions import SoftTimeLimitExceeded

from inboxd.config.handler_import import import_handler
from inboxd.config.handler_kinds import HandlerKeys, ProgramKeys
from inboxd.errors import HandlerFailed, RejectFile, RetryLater
from inboxd.handling.call import Handler, call
from inboxd.handling.chain import ChainHandler, step_of
from inboxd.handling.command import CommandHandler
from inboxd.logs.text import escape, mask_passwords, shorten
from inboxd.messaging.inbox_file import InboxFile, outputs_of
from inboxd.messaging.nesting import is_deeper
from inboxd.messaging.outcome import Verdict

RESULT_BYTES_MAX = 4096
"""Maximum size of a handler's result to be kept in Redis; a handler must store a larger one itself."""

RESULT_DEPTH_MAX = 16
"""Maximum nesting of a handler's result to be kept: Celery and the log recurse into it."""

REASON_CHARS_MAX = 2000
POOL_STOP_EXIT_CODE = -(256 - signal.SIGTERM)
"""Code of the SystemExit by which Celery's pool stops a child: no failure of the handler."""


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """How a handler call ended: DONE, REJECTED or RETRY_ISOLATED (the handler raised).

    ``reason`` goes into the error note, unless DONE; then ``result`` is what the handler returned, if msgpack can serialize it.
    ``error`` is what the handler raised, and ``timed_out`` whether the time limit was exceeded. ``discarded`` is the type of a
    result that is not kept. ``retry_after`` is how many seconds the program has asked not to be called again. ``outputs`` are
    those that are sent back, and ``made`` the paths of all: see OutputRun. ``step`` is the step of
    a chain that has rejected the file.
    """

    verdict: Verdict
    seconds: float
    reason: str | None = None
    result: Any = None
    error: BaseException | None = None
    timed_out: bool = False
    discarded: str | None = None
    retry_after: float = 0.0
    outputs: tuple[tuple[bytes, bytes], ...] = ()
    made: tuple[bytes, ...] = ()
    step: str = ""


def load_handler(keys: HandlerKeys) -> Handler:
    """Return what handles an inbox's files; if importing it raises, a handler that raises the same error for each file."""
    try:
        return _make_program(keys) if keys.command or keys.url or keys.steps else import_handler(keys.handler)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing a user's module may raise anything
        return _raising(error)


@lru_cache(maxsize=64)
def _make_program(keys: HandlerKeys) -> Handler:
    """Return what runs a command, a chain, or sends to a URL: the same one for each file, so that it may keep connections."""
    if keys.steps:
        return ChainHandler(keys.steps, _load_step)
    return _load_step(keys)


def _load_step(keys: ProgramKeys) -> Handler:
    if keys.command:
        return CommandHandler(keys)
    if keys.url:
        from inboxd.handling.webhook import WebhookHandler  # noqa: PLC0415 - needs the extra inboxd[webhook]

        return WebhookHandler(keys)
    return import_handler(keys.handler)


def _raising(error: BaseException) -> Callable[[object], NoReturn]:
    def handler(_file: object) -> NoReturn:
        raise error

    return handler


def run_handler(handler: Handler, file: InboxFile, limit_seconds: int, start_time: float) -> HandlerCall:
    """Call a handler with one open file, and close the file. Raises only the SystemExit by which the pool stops a child.

    ``start_time`` is when opening the file began, by the monotonic clock: reading counts as processing.
    """
    try:
        with file.stream, file, _closing_outputs(file):  # the file removes its temporary copy
            result = call(handler, file)
    except RejectFile as rejection:
        reason = _message_of(rejection) or "the handler rejected the file without a reason"
        return HandlerCall(Verdict.REJECTED, time.monotonic() - start_time, reason, step=step_of(rejection))
    except HandlerFailed as failure:  # a program's failure, which no traceback explains
        wait = failure.seconds if isinstance(failure, RetryLater) else 0.0
        reason = _with_step(failure, _message_of(failure))
        return HandlerCall(Verdict.RETRY_ISOLATED, time.monotonic() - start_time, reason, retry_after=wait)
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code == POOL_STOP_EXIT_CODE and terminate_handler_fired():
            raise
        return failed_call(error, limit_seconds, start_time)
    kept = _discard_unless_portable(result)
    discarded = type(result).__name__ if kept is None and result is not None else None
    seconds = time.monotonic() - start_time
    run = outputs_of(file)
    sent, made = (run.sent, tuple(run.made)) if run else ((), ())
    return HandlerCall(Verdict.DONE, seconds, result=kept, discarded=discarded, outputs=sent, made=made)


@contextmanager
def _closing_outputs(file: InboxFile) -> Iterator[None]:
    """Have what the handler has made delivered, or remove it if it raises. Raises OSError if it can't be stored."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # they go with the parcel
            file.close_outputs(is_done=False)
        raise
    file.close_outputs(is_done=True)


def failed_call(error: BaseException, limit_seconds: int, start_time: float) -> HandlerCall:
    """Return a call that ended with an error: the handler's own, or the time limit's."""
    timed_out = isinstance(error, SoftTimeLimitExceeded)
    said = "".join(f": {_one_line(note)}" for note in getattr(error, "__notes__", ()) if note)
    reason = f"processing took longer than {limit_seconds} s{said}" if timed_out else _with_step(error, _describe_error(error))
    return HandlerCall(Verdict.RETRY_ISOLATED, time.monotonic() - start_time, reason, error=error, timed_out=timed_out)


def _with_step(error: BaseException, reason: str) -> str:
    return f"{escape(step)}: {reason}" if (step := step_of(error)) else reason


def _describe_error(error: BaseException) -> str:
    """Return an error's type and message, on one line."""
    text = _message_of(error)
    return shorten(f"{type(error).__name__}: {text}", REASON_CHARS_MAX) if text else type(error).__name__


def _message_of(error: BaseException) -> str:
    """Return an exception's message on one line. Its own __str__ may raise, too."""
    try:
        return _one_line(str(error))
    except BaseException:  # noqa: BLE001 - a broken exception class is still an exception
        return "(the exception's message can't be read)"


def _one_line(text: str) -> str:
    return mask_passwords(escape(shorten(text, REASON_CHARS_MAX)))


def _discard_unless_portable(result: Any) -> Any:  # noqa: ANN401 - whatever a handler returns
    try:
        packed = msgpack.packb(result, use_bin_type=True)
        is_small = len(packed) <= RESULT_BYTES_MAX
        return result if is_small and not is_deeper(msgpack.unpackb(packed, raw=False), RESULT_DEPTH_MAX) else None
    except Exception:  # noqa: BLE001 - msgpack raises many types of errors
        return None
