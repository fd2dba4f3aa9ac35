"""Carrying out outcomes: done/, failed/, or another try. Used by the callbacks, and by the sweep when one was lost."""

import contextlib
import time

from celery.states import FAILURE, SUCCESS

from inboxd.broker.counters import DONE, FAILED, REFUSED, Tally
from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.recovery import RecoveryAction, action_after_crash
from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, HandlerFailed, RejectFile
from inboxd.intake.packing import dispose_of_unpacked
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape
from inboxd.messaging import payload
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict
from inboxd.messaging.results import ResultRecord
from inboxd.spool.claims import list_files, remove_if_empty, split_off
from inboxd.spool.failing import fail_file
from inboxd.spool.filing import FilingTarget, file_done, is_filed
from inboxd.spool.layout import Folders, created_at, new_parcel_id
from inboxd.tasks.worker.context import WorkerContext

_FINAL = {RejectFile.__name__, HandlerFailed.__name__}
"""What a stored failure must be for its files to fail: all else is the worker's trouble, and gets another chance."""

_log = get_logger(__name__)


class OutcomeApplier:
    """Files the parcels of one inbox away. Everything it does may have been done before, by another; that is no error."""

    def __init__(self, context: WorkerContext, inbox: Inbox, folders: Folders) -> None:
        self._context = context
        self._disk = context.disk
        self._inbox = inbox
        self._folders = folders
        self._grace = context.settings.sweep.grace_seconds
        self._tally = Tally()

    def outcome(self, outcome: Outcome) -> None:
        """Carry out what the handler said of each file. Raises OSError if a folder can't be written, BrokerAway."""
        # what is to be tried again last: splitting the last file off removes the parcel's folder
        in_order = sorted(outcome.files, key=lambda file: file.verdict in (Verdict.RETRY_ISOLATED, Verdict.REQUEUE))
        with FilingTarget(self._disk, self._folders, self._folders.done) as way:
            missing = [file.path for file in in_order if not self._carry_out(outcome, file, way)]
        if self._close(outcome.parcel) is not LeaseState.FILED:
            self._tell_of_missing(outcome.parcel, missing)

    def _carry_out(self, outcome: Outcome, file: FileOutcome, way: FilingTarget | None = None) -> bool:
        """Carry out what was said of one file; False if it is not there."""
        match file.verdict:
            case Verdict.DONE:
                return self._done(outcome, file, way)
            case Verdict.REJECTED:
                return self.fail(outcome.parcel, file.path, file.reason or "", attempts=outcome.attempt)
            case Verdict.MISSING:
                return False
            case _:
                self._alone(outcome.parcel, file)  # where it is not there, it may have been split off before
                return True

    def _tell_of_missing(self, parcel: str, paths: list[bytes]) -> None:
        """Report what has left claimed/ by another hand than ours, and lies neither in done/ nor in failed/."""
        for path in paths:
            if not is_filed(self._disk, self._folders, path):
                why = "it is not in claimed/ any more: somebody else has moved or deleted it"
                _log.warning(events.FILE_GONE, inbox=self._inbox.name, file=path, parcel=parcel, why=why)

    def failure(self, parcel: str, stored: ResultRecord, attempts: int) -> None:
        """Fail a lone file for the reason that Celery has stored; of others it does not speak. Raises OSError, BrokerAway."""
        paths = list_files(self._disk, self._folders, parcel)
        if len(paths) > 1:
            self.adopt(parcel, paths)
            return
        for path in paths:
            self.fail(parcel, path, escape(str(stored.get("result"))), attempts=attempts)
        self._close(parcel)

    def crashed(self, parcel: str, lease: Lease) -> None:
        """Count a worker that died over a parcel, and give its files another chance, or up. Raises OSError, BrokerAway."""
        crashes = self._context.leases.take_over(parcel, lease, self._grace, crashed=True)
        # If we die here, or below: the death is counted, the lease lapses, and the sweep goes on with what is left.
        paths = list_files(self._disk, self._folders, parcel)
        if crashes is None or not paths:
            return
        _log.warning(
            events.PARCEL_CRASHED, inbox=self._inbox.name, parcel=parcel, files=len(paths), crashes=crashes, worker=lease.owner
        )
        match action_after_crash(crashes, len(paths), self._context.settings.work.crashes_max):
            case RecoveryAction.SPLIT:
                self.split_up(parcel, lease)
            case RecoveryAction.REPUBLISH:
                begun = int(bool(lease.owner))  # by a worker that died over its message, none was
                self.publish(parcel, paths, retries=max(lease.used_retries - begun, 0))
            case _:
                reason = f"the program that processes it was ended in the middle of it, {crashes} times in a row"
                self.fail(parcel, paths[0], reason, attempts=lease.attempt)
                self._close(parcel)

    def split_up(self, parcel: str, lease: Lease) -> None:
        """File what a worker has left word of before it died, and give each of the rest a parcel of its own."""
        known = self._context.progress.read(parcel)
        outcome = Outcome(parcel, self._inbox.name, lease.attempt, tuple(known.values()))
        for file in outcome.files:
            self._carry_out(outcome, file)
        self.adopt(parcel, list_files(self._disk, self._folders, parcel))

    def adopt(self, parcel: str, paths: list[bytes]) -> None:
        """Give each of these files a parcel of its own. Raises OSError, BrokerAway."""
        for path in paths:
            self._alone(parcel, FileOutcome(path, Verdict.REQUEUE))
        self._close(parcel)

    def publish(self, parcel: str, paths: list[bytes], *, retries: int = 0, countdown: float = 0.0) -> None:
        """Send a claimed parcel whose lease is ours; one too large for a message is split. Raises OSError, BrokerAway."""
        if len(paths) > payload.FILES_MAX:
            self.adopt(parcel, paths)
            return
        packed = self._context.resend(self._folders, self._inbox, parcel, paths, retries=retries, countdown=countdown)
        self._tally.count_filed(
            self._inbox.name, REFUSED, files=dispose_of_unpacked(self._disk, self._folders, self._inbox, parcel, packed)
        )
        _log.info(events.PARCEL_SENT, inbox=self._inbox.name, parcel=parcel, files=len(packed.parts))

    def fail(self, parcel: str, path: bytes, reason: str, *, attempts: int) -> bool:
        """Move one file to failed/, with its note; False if it is not there. Raises OSError."""
        filed = fail_file(self._disk, self._folders, self._inbox, parcel, path, reason, attempts=attempts) is not None
        self._tally.count_filed(self._inbox.name, FAILED if attempts else REFUSED, files=int(filed))
        return filed

    def _done(self, outcome: Outcome, file: FileOutcome, way: FilingTarget | None) -> bool:
        filed = file_done(self._disk, self._folders, outcome.parcel, file.path, way)
        if filed is None:
            return False
        seconds = max(time.time() - created_at(outcome.parcel), 0.0)
        self._tally.count_filed(self._inbox.name, DONE, seconds)
        _log.info(
            events.FILE_DONE, inbox=self._inbox.name, file=file.path, parcel=outcome.parcel, attempt=outcome.attempt,
            filed=filed, took_ms=round(seconds * 1000, 1),
        )  # fmt: skip
        return True

    def _alone(self, parcel: str, file: FileOutcome) -> bool:
        """Split one file off and send it by itself: with one attempt used if it raised, with none if its turn never came.

        Returns False if it is not there.
        """
        raised = file.verdict is Verdict.RETRY_ISOLATED
        if raised and self._inbox.retries == 0:
            return self.fail(parcel, file.path, file.reason or "", attempts=1)
        into = new_parcel_id()
        # If we die in one of these steps: see split; then, a parcel without a lease or with one that lapses: it is published.
        if not split_off(self._disk, self._folders, parcel, file.path, into):
            return False
        _log.info(events.PARCEL_SPLIT, inbox=self._inbox.name, file=file.path, parcel=into, out_of=parcel, why=file.reason)
        wait = self._inbox.retry_delay(0) if raised else 0.0
        self._context.leases.queue(into, self._inbox.name, self._grace + wait, attempts=int(raised))
        self.publish(into, [file.path], retries=int(raised), countdown=wait)
        return True

    def _close(self, parcel: str) -> LeaseState | None:
        """Remove the parcel's empty folders, and leave word that later copies of its message are to be dropped.

        Returns what its lease said before.
        """
        remove_if_empty(self._disk, self._folders, parcel)
        # If we die here: a lease that expires, and a message at most, whose files are not there any more.
        before = self._context.leases.mark_filed(parcel)
        # If we die here: the statistics are some files short.
        with contextlib.suppress(BrokerUnavailable):
            self._context.counters.write(self._tally)
        return before


def is_final_result(stored: ResultRecord) -> bool:
    """Tell whether a result record decides about its files: a success, or a failure that is not the worker's own."""
    return stored["status"] == SUCCESS or (stored["status"] == FAILURE and _kind(stored) in _FINAL)


def _kind(stored: ResultRecord) -> str:
    error = stored.get("result")
    if isinstance(error, BaseException):
        return type(error).__name__
    return str(error.get("exc_type", "")) if isinstance(error, dict) else ""
