"""Runs the handler on the files of one parcel, within the time limit of the parcel as a whole."""

import time

from celery.exceptions import SoftTimeLimitExceeded

from inboxd.config.rules import Inbox
from inboxd.errors import StageUnavailable
from inboxd.fs.syscalls import OUT_OF_RESOURCES
from inboxd.handling.run_handler import HandlerCall, failed_call, load_handler, run_handler
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.failure import FailureKind
from inboxd.tasks.process_state.child_guard import ChildGuard

SENT_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of outputs in the outcome of one parcel from which its next files go into another parcel."""
OWN_TIME_SHARE = 0.9
"""Share of the time limit that a file must have used alone for a timeout to count as its own."""

_log = get_logger(__name__)


class HandlerRuns:
    """Runs the handler on one file of a parcel after the other, until the time limit is exceeded.

    ``files`` counts the handler's calls so far, which took ``seconds`` in total. ``store_fault`` is why the last one could not
    read its file from the store.
    """

    def __init__(self, parcel: Parcel, inbox: Inbox, attempt: int, reader: ParcelReader, guard: ChildGuard) -> None:
        self.seconds = 0.0
        self.files = 0
        self._parcel = parcel
        self._inbox = inbox
        self._attempt = attempt
        self._reader = reader
        self._guard = guard
        self._is_out_of_time = False
        self._sent_bytes = 0
        self.store_fault: StageUnavailable | None = None

    def run(self, part: FilePart) -> FileOutcome:
        """Run the handler on one file; return REQUEUE if no time is left for the file, MISSING if it is not there."""
        if self.store_fault or self._is_out_of_time or self._guard.is_spent or self._sent_bytes > SENT_BYTES_MAX:
            return FileOutcome(part.filename, Verdict.REQUEUE, str(self.store_fault or ""))
        call = self._call(part)
        if call is None:
            return FileOutcome(part.filename, Verdict.MISSING)
        self.files, self.seconds = self.files + 1, self.seconds + call.seconds
        self._guard.output.end()
        self._log_changes(self._guard.after_call(), part.filename)
        if call.timed_out:
            self._is_out_of_time = True
            self._guard.end_descendants()
        elif any(program.command for program in self._inbox.programs):
            self._guard.end_orphans()
        if _is_out_of_resources(call.error) and self._guard.has_leaked():
            self._guard.is_spent = True
            return FileOutcome(part.filename, Verdict.REQUEUE)  # earlier handlers have left too many files open
        if fault := self._reader.store_fault:  # not the file's, whatever the handler says: it may have read but a part
            self.store_fault = fault
            return FileOutcome(part.filename, Verdict.REQUEUE, str(fault))
        if call.timed_out and call.seconds < self._inbox.time_limit_seconds * OWN_TIME_SHARE:
            return FileOutcome(part.filename, Verdict.REQUEUE)  # earlier files used up the parcel's time
        self._log_call(part, call)
        kind = FailureKind.TIME_LIMIT if call.timed_out else None
        self._sent_bytes += sum(len(content) for _, content in call.outputs)
        return FileOutcome(
            part.filename, call.verdict, call.reason, call.result, part.version, kind, call.retry_after, call.outputs
        )

    def _call(self, part: FilePart) -> HandlerCall | None:
        """Call the handler with one file; return None if the file is missing. A file that can't be opened is retried, too."""
        start_time, limit_seconds = time.monotonic(), self._inbox.time_limit_seconds
        self._guard.output.begin(self._inbox.name, part.filename, self._parcel.id)
        try:
            file = self._reader.open(part)
        except FileNotFoundError:
            return None
        except SoftTimeLimitExceeded as error:
            return failed_call(error, limit_seconds, start_time)
        except Exception as error:  # noqa: BLE001 - any error while opening concerns this file only
            return HandlerCall(Verdict.RETRY_ISOLATED, time.monotonic() - start_time, escape(str(error)), error=error)
        handler = load_handler(self._inbox)  # an import counts as processing, too
        self._guard.before_call()
        return run_handler(handler, file, limit_seconds, start_time)

    def end(self) -> None:
        """Restore the rest of what the handler has changed in this process."""
        self._log_changes(self._guard.after_parcel())

    def _log_changes(self, changed: list[str], file: bytes | None = None) -> None:
        """Log what a handler has changed in its process, once for each process."""
        if new := [name for name in changed if name not in self._guard.logged]:
            self._guard.logged.update(new)
            remedy = "none: it is restored; let the handler restore it, or work in a process of its own"
            _log.warning(events.HANDLER_LEFT, inbox=self._inbox.name, file=file, changed=new, remedy=remedy)

    def _log_call(self, part: FilePart, call: HandlerCall) -> None:
        log = _log.bind(
            inbox=self._parcel.inbox, file=part.filename, parcel=self._parcel.id, attempt=self._attempt,
            took_ms=round(call.seconds * 1000, 1),
        )  # fmt: skip
        match call.verdict:
            case Verdict.DONE:
                outputs = {"outputs": [escape(path) for path in call.made]} if call.made else {}
                log.info(events.FILE_HANDLED, result=call.result, **outputs)
            case Verdict.REJECTED:
                log.warning(events.FILE_HANDLED, rejected=call.reason, **({"step": call.step} if call.step else {}))
            case _:
                log.warning(events.FILE_HANDLED, raised=call.reason, exc_info=call.error)


def _is_out_of_resources(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES
