"""Runs the handler on the files of one parcel, within the time limit of the parcel as a whole."""

import time
from collections.abc import Callable
from typing import NoReturn

from celery.exceptions import SoftTimeLimitExceeded

from inboxd.config.handler_import import import_handler
from inboxd.config.settings import Inbox
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.tasks.processing.run_handler import Handler, HandlerCall, failed_call, run_handler

OWN_TIME_SHARE = 0.9
"""Share of the time limit that a file must have used alone for a timeout to count as its own."""

_log = get_logger(__name__)


class HandlerRuns:
    """Runs the handler on one file of a parcel after the other, until the time limit is exceeded.

    ``files`` counts the handler's calls so far, which took ``seconds`` in total.
    """

    def __init__(self, parcel: Parcel, inbox: Inbox, attempt: int, reader: ParcelReader) -> None:
        self.seconds = 0.0
        self.files = 0
        self._parcel = parcel
        self._inbox = inbox
        self._attempt = attempt
        self._reader = reader
        self._is_out_of_time = False

    def run(self, part: FilePart) -> FileOutcome:
        """Run the handler on one file; return REQUEUE if no time is left for the file, MISSING if it is not there."""
        if self._is_out_of_time:
            return FileOutcome(part.filename, Verdict.REQUEUE)
        call = self._call(part)
        if call is None:
            return FileOutcome(part.filename, Verdict.MISSING)
        self.files, self.seconds = self.files + 1, self.seconds + call.seconds
        self._is_out_of_time = call.timed_out
        if call.timed_out and call.seconds < self._inbox.time_limit_seconds * OWN_TIME_SHARE:
            return FileOutcome(part.filename, Verdict.REQUEUE)  # earlier files used up the parcel's time
        self._log_call(part, call)
        return FileOutcome(part.filename, call.verdict, call.reason, call.result, part.version)

    def _call(self, part: FilePart) -> HandlerCall | None:
        """Call the handler with one file; return None if the file is missing. A file that can't be opened is retried, too."""
        start_time, limit_seconds = time.monotonic(), self._inbox.time_limit_seconds
        try:
            file = self._reader.open(part)
        except FileNotFoundError:
            return None
        except SoftTimeLimitExceeded as error:
            return failed_call(error, limit_seconds, start_time)
        except Exception as error:  # noqa: BLE001 - any error while opening concerns this file only
            return HandlerCall(Verdict.RETRY_ISOLATED, time.monotonic() - start_time, escape(str(error)), error=error)
        return run_handler(_load_handler(self._inbox), file, limit_seconds, start_time)  # an import counts as processing, too

    def _log_call(self, part: FilePart, call: HandlerCall) -> None:
        log = _log.bind(
            inbox=self._parcel.inbox, file=part.filename, parcel=self._parcel.id, attempt=self._attempt,
            took_ms=round(call.seconds * 1000, 1),
        )  # fmt: skip
        match call.verdict:
            case Verdict.DONE:
                log.info(events.FILE_HANDLED, result=call.result)
            case Verdict.REJECTED:
                log.warning(events.FILE_HANDLED, rejected=call.reason)
            case _:
                log.warning(events.FILE_HANDLED, raised=call.reason, exc_info=call.error)


def _load_handler(inbox: Inbox) -> Handler:
    """Import the inbox's handler; if that raises, return a handler that raises the same error for each file."""
    try:
        return import_handler(inbox.handler)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing a user's module may raise anything
        return _raising(error)


def _raising(error: BaseException) -> Callable[[object], NoReturn]:
    def handler(_file: object) -> NoReturn:
        raise error

    return handler
