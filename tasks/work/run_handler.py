"""One handler call, and whatever it throws: a worker's child outlives SystemExit, MemoryError and worse."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
from celery.exceptions import SoftTimeLimitExceeded

from inboxd.errors import RejectFile
from inboxd.logs.text import escape
from inboxd.messaging.inbox_file import InboxFile

Handler = Callable[[InboxFile], Any]
"""What an inbox names: a callable that gets one open file, and may return what msgpack carries."""

RESULT_BYTES_MAX = 4096
"""A larger answer of a handler is not kept in Redis: it is its own to store."""


POOL_STOP_EXIT_CODE = -(256 - signal.SIGTERM)
"""The exit code by which a child of Celery's pool ends when it is told to: its handler is not to blame."""


@dataclass(frozen=True, slots=True)
class Handled:
    """The handler returned; ``result`` is its answer if msgpack can carry it."""

    result: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """The handler said its final word."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler raised. ``error`` is for the log, ``reason`` for the note; ``timed_out`` if it was stopped by the clock."""

    reason: str
    seconds: float
    error: BaseException
    timed_out: bool = False


Answer = Handled | Rejected | Raised


def run_handler(handler: Handler, file: InboxFile, limit_seconds: int, begun: float) -> Answer:
    """Call a handler with one open file, and close it. Raises nothing but the SystemExit of a worker that is told to stop.

    ``begun`` is when the file was begun to be opened, by the monotonic clock: to read it is part of the work.
    """
    try:
        with file.stream:
            result = handler(file)
    except RejectFile as rejection:
        reason = _message_of(rejection) or "the handler rejected it without a reason"
        return Rejected(reason, time.monotonic() - begun)
    except SoftTimeLimitExceeded as error:
        return out_of_time(error, limit_seconds, begun)
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code == POOL_STOP_EXIT_CODE:
            raise
        return Raised(_describe_error(error), time.monotonic() - begun, error)
    return Handled(_keep_if_portable(result), time.monotonic() - begun)


def out_of_time(error: SoftTimeLimitExceeded, limit_seconds: int, begun: float) -> Raised:
    """Return the answer of who was stopped by the clock."""
    return Raised(f"it took longer than {limit_seconds} s", time.monotonic() - begun, error, timed_out=True)


def _describe_error(error: BaseException) -> str:
    """Say what was raised."""
    text = _message_of(error)
    return f"{type(error).__name__}: {text}"[:2000] if text else type(error).__name__


def _message_of(error: BaseException) -> str:
    """Return an exception's message on one line. Its own __str__ may raise, too."""
    try:
        return escape(str(error))
    except BaseException:  # noqa: BLE001 - a broken exception class is still an exception
        return "(its message can't be shown)"


def _keep_if_portable(result: Any) -> Any:  # noqa: ANN401 - whatever a handler returns
    try:
        packed = msgpack.packb(result, use_bin_type=True)
        return result if len(packed) <= RESULT_BYTES_MAX and _can_be_unpacked(packed) else None
    except Exception:  # noqa: BLE001 - msgpack's errors are many, and the answer is the same
        return None


def _can_be_unpacked(packed: bytes) -> bool:
    msgpack.unpackb(packed, raw=False)
    return True
