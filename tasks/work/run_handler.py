"""One call of a handler: whatever it raises, SystemExit and MemoryError too, is caught around it."""

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
from inboxd.messaging.outcome import Verdict

Handler = Callable[[InboxFile], Any]
"""What an inbox names: a callable that gets one open file, and may return what msgpack carries."""

RESULT_BYTES_MAX = 4096
"""Maximum size of what a handler returns to be kept in Redis; a larger result is the handler's own to store."""


POOL_STOP_EXIT_CODE = -(256 - signal.SIGTERM)
"""Exit code of a child of Celery's pool that was told to stop: its handler is not to blame."""


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """How a call ended: DONE, REJECTED or RETRY_ISOLATED (it raised).

    ``reason`` is for the note, unless it is DONE; then ``result`` is what the handler returned, if msgpack can carry it.
    ``error`` is what it raised, and ``timed_out`` says that the time limit did.
    """

    verdict: Verdict
    seconds: float
    reason: str | None = None
    result: Any = None
    error: BaseException | None = None
    timed_out: bool = False


def run_handler(handler: Handler, file: InboxFile, limit_seconds: int, begun: float) -> HandlerCall:
    """Call a handler with one open file, and close the file. Raises only the SystemExit of a worker that is told to stop.

    ``begun`` is when opening the file began, by the monotonic clock: reading it is part of the work.
    """
    try:
        with file.stream:
            result = handler(file)
    except RejectFile as rejection:
        reason = _message_of(rejection) or "the handler rejected it without a reason"
        return HandlerCall(Verdict.REJECTED, time.monotonic() - begun, reason)
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code == POOL_STOP_EXIT_CODE:
            raise
        return failed_call(error, limit_seconds, begun)
    return HandlerCall(Verdict.DONE, time.monotonic() - begun, result=_keep_if_portable(result))


def failed_call(error: BaseException, limit_seconds: int, begun: float) -> HandlerCall:
    """Return the call that ended with an error: the handler's own, or the time limit's."""
    timed_out = isinstance(error, SoftTimeLimitExceeded)
    reason = f"it took longer than {limit_seconds} s" if timed_out else _describe_error(error)
    return HandlerCall(Verdict.RETRY_ISOLATED, time.monotonic() - begun, reason, error=error, timed_out=timed_out)


def _describe_error(error: BaseException) -> str:
    """Return the type of an error and its message, on one line."""
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
