"""Carrying out outcomes: done/, failed/, or another try. Used by the callbacks, and by the sweep when one was lost."""

import time
from typing import Any

from celery.states import FAILURE, SUCCESS

from spool import log, payload
from spool.errors import HandlerFailed, RejectFile
from spool.failing import fail, settle
from spool.filing import file_done
from spool.folders import Folders, born, new_parcel_id
from spool.lease import Lease
from spool.notes import plain
from spool.outcome import FileOutcome, Outcome, Verdict
from spool.recovery import Help, gives_up
from spool.settings import Inbox
from spool.store import discard, files, split
from tasks.workshop import Workshop

Stored = dict[str, Any]
"""Celery's result record of one task: at least status (str) and result."""

_FINAL = {RejectFile.__name__, HandlerFailed.__name__}
"""What a stored failure must be for its files to fail: all else is the worker's trouble, and gets another chance."""

_log = log.get(__name__)


class Filer:
    """Files the parcels of one inbox away. Everything it does may have been done before, by another; that is no error."""

    def __init__(self, workshop: Workshop, inbox: Inbox, folders: Folders) -> None:
        self._workshop = workshop
        self._disk = workshop.disk
        self._inbox = inbox
        self._folders = folders
        self._grace = workshop.settings.sweep.grace_seconds

    def outcome(self, outcome: Outcome) -> None:
        """Carry out what the handler said of each file. Raises OSError if a folder can't be written, BrokerAway."""
        again = []
        for file in outcome.files:
            match file.verdict:
                case Verdict.DONE:
                    self._done(outcome, file)
                case Verdict.REJECTED:
                    self.fail(outcome.parcel, file.path, file.reason or "", attempts=outcome.attempt)
                case Verdict.GONE:
                    _log.warning(log.FILE_GONE, inbox=self._inbox.name, file=file.path, parcel=outcome.parcel)
                case Verdict.ALONE | Verdict.AGAIN:
                    again.append(file)
        for file in again:
            self._alone(outcome.parcel, file)
        self._close(outcome.parcel)

    def failure(self, parcel: str, stored: Stored, attempts: int) -> None:
        """Fail a parcel's files for the reason that Celery has stored. Raises OSError, BrokerAway."""
        for path in files(self._disk, self._folders, parcel):
            self.fail(parcel, path, plain(str(stored.get("result"))), attempts=attempts)
        self._close(parcel)

    def crashed(self, parcel: str, lease: Lease) -> None:
        """Count a worker that died over a parcel, and give its files another chance, or up. Raises OSError, BrokerAway."""
        crashes = self._workshop.leases.take_over(parcel, lease, self._grace, crashed=True)
        paths = files(self._disk, self._folders, parcel)
        if crashes is None or not paths:
            return
        _log.warning(
            log.PARCEL_CRASHED, inbox=self._inbox.name, parcel=parcel, files=len(paths), crashes=crashes, worker=lease.token
        )
        match gives_up(crashes, len(paths), self._workshop.settings.work.crashes_max):
            case Help.ADOPT:
                self.adopt(parcel, paths)
            case Help.PUBLISH:
                self.publish(parcel, paths, retries=max(lease.retries - 1, 0))
            case _:
                reason = f"the program that processes it was ended in the middle of it, {crashes} times in a row"
                self.fail(parcel, paths[0], reason, attempts=lease.attempt)
                self._close(parcel)

    def adopt(self, parcel: str, paths: list[bytes]) -> None:
        """Give each of these files a parcel of its own. Raises OSError, BrokerAway."""
        for path in paths:
            self._alone(parcel, FileOutcome(path, Verdict.AGAIN))
        self._close(parcel)

    def publish(self, parcel: str, paths: list[bytes], *, retries: int = 0, countdown: float = 0.0) -> None:
        """Send a claimed parcel whose lease is ours; one too large for a message is split. Raises OSError, BrokerAway."""
        if len(paths) > payload.FILES_MAX:
            self.adopt(parcel, paths)
            return
        packed = self._workshop.send_again(self._folders, self._inbox, parcel, paths, retries=retries, countdown=countdown)
        settle(self._disk, self._folders, self._inbox, parcel, packed)
        _log.info(log.PARCEL_SENT, inbox=self._inbox.name, parcel=parcel, files=len(packed.parts))

    def fail(self, parcel: str, path: bytes, reason: str, *, attempts: int) -> None:
        """Move one file to failed/, with its note. Raises OSError."""
        fail(self._disk, self._folders, self._inbox, parcel, path, reason, attempts=attempts)

    def _done(self, outcome: Outcome, file: FileOutcome) -> None:
        filed = file_done(self._disk, self._folders, outcome.parcel, file.path)
        if filed is not None:
            took = round((time.time() - born(outcome.parcel)) * 1000, 1)
            _log.info(
                log.FILE_DONE, inbox=self._inbox.name, file=file.path, parcel=outcome.parcel, attempt=outcome.attempt,
                filed=filed, took_ms=took,
            )  # fmt: skip

    def _alone(self, parcel: str, file: FileOutcome) -> None:
        """Split one file off and send it by itself: with one attempt used if it raised, with none if its turn never came."""
        raised = file.verdict is Verdict.ALONE
        if raised and self._inbox.retries == 0:
            self.fail(parcel, file.path, file.reason or "", attempts=1)
            return
        into = new_parcel_id()
        if not split(self._disk, self._folders, parcel, file.path, into):
            return
        _log.info(log.PARCEL_SPLIT, inbox=self._inbox.name, file=file.path, parcel=into, out_of=parcel, why=file.reason)
        wait = self._workshop.backoff(self._inbox, 0) if raised else 0.0
        self._workshop.leases.queue(into, self._inbox.name, self._grace + wait)
        self.publish(into, [file.path], retries=int(raised), countdown=wait)

    def _close(self, parcel: str) -> None:
        """Remove the parcel's empty folders, and leave word that later copies of its message are to be dropped."""
        discard(self._disk, self._folders, parcel)
        self._workshop.leases.filed(parcel)


def is_final(stored: Stored) -> bool:
    """Tell whether a result record decides about its files: a success, or a failure that is not the worker's own."""
    return stored["status"] == SUCCESS or (stored["status"] == FAILURE and _kind(stored) in _FINAL)


def _kind(stored: Stored) -> str:
    error = stored.get("result")
    if isinstance(error, BaseException):
        return type(error).__name__
    return str(error.get("exc_type", "")) if isinstance(error, dict) else ""
