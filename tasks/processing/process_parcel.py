"""The task that processes a parcel; the watcher sends it by name."""

import contextlib
import dataclasses
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded

from inboxd.broker.leases import StartAnswer, StartVerdict
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, HandlerFailed, HandlerTimedOut, InvalidMessage, RejectFile, TransientError
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.celery_app import PROCESS
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, lone_file_to_bytes, outcome_to_wire
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import Parcel, parcel_from_wire
from inboxd.spool.failure import FailureKind
from inboxd.stage.records import StageRecords
from inboxd.tasks.hardening.redacted_request import RedactedRequest
from inboxd.tasks.process_state import process_identity
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.process_identity import Liveness
from inboxd.tasks.process_state.shared_settings import CurrentContext
from inboxd.tasks.processing.handler_runs import HandlerRuns
from inboxd.tasks.processing.lease_renewer import LeaseRenewer

STOPS_MAX = 5
"""Number of stops of a worker during one parcel that do not count as its crashes."""
FAULT_SECONDS = 5.0
"""How long a worker that can't read from the store waits before it takes another message."""
OUTAGE_CHECK_SECONDS = 0.5
"""Interval at which an unavailable Redis is retried."""

_log = get_logger(__name__)


class ParcelProcessor:
    """Processes one parcel after the other."""

    def __init__(self, context: WorkerContext, renewer: LeaseRenewer | None = None) -> None:
        self._context = context
        self._lease_seconds = context.settings.work.lease_seconds
        self._renewer = renewer or LeaseRenewer(context.leases, self._lease_seconds)

    def with_context(self, context: WorkerContext) -> "ParcelProcessor":
        """Return a processor with this context, which may have newer settings, and the same lease renewer."""
        return self if context is self._context else ParcelProcessor(context, self._renewer)

    def run(self, task: Task[..., Any], wire: object) -> dict[str, Any]:
        """Process a parcel and return its outcome, which Celery stores and passes to the success callback.

        A lone file that fails raises instead, for Celery's own retry and error callback: RejectFile, HandlerFailed or Retry.
        A copy of a message whose parcel is running or finished raises Ignore: neither callback is called.
        """
        parcel = self._read(task, wire)
        inbox = self._context.settings.inbox.get(parcel.inbox)
        if inbox is None:  # until the settings are corrected, the sweep publishes the parcel again and again
            raise TransientError(f"this worker's settings have no [inbox.{parcel.inbox}]")
        if inbox.task:  # it was sent before the settings changed: its lease lapses, and the sweep sends it to the task
            _log.info(events.DUPLICATE_IGNORED, parcel=parcel.id, inbox=inbox.name, why=f"{inbox.handled_by} handles it now")
            raise Ignore
        if parcel.host == self._context.host:  # what a message says of our own folders is not believed
            parcel = dataclasses.replace(parcel, root=bytes(inbox.root))
        token = process_identity.process_token(self._context.host)
        start = self._start(parcel, token)
        if start.verdict is not StartVerdict.STARTED:
            is_busy = start.verdict is StartVerdict.BUSY
            why = "another worker is processing the parcel" if is_busy else "the parcel is already finished"
            _log.info(events.DUPLICATE_IGNORED, parcel=parcel.id, inbox=inbox.name, why=why)
            raise Ignore
        # If we die here, or in the handler: the lease's owner is known to be dead, or the lease lapses; the sweep counts the
        # crash, and publishes the files without a recorded outcome again.
        with self._renewer.renewing(parcel.id, token):
            try:
                outcomes = self._run_handlers(parcel, inbox, start.attempt)
            except SystemExit:  # the worker stops: its message is requeued, and this is no crash
                self._context.progress.flush()
                with contextlib.suppress(BrokerUnavailable):
                    self._requeue_stopped(parcel, token)
                raise
            if len(outcomes) == 1:
                self._raise_if_failed(task, inbox, parcel, token, outcomes[0])
            self._finish(parcel, token)
        # If we die here: a finished parcel without a stored outcome; its lease lapses, and it is published again.
        return outcome_to_wire(Outcome(parcel.id, parcel.inbox, start.attempt, tuple(outcomes), parcel.unreadable))

    def _requeue_stopped(self, parcel: Parcel, token: str) -> None:
        """Requeue a parcel because the worker stops; after many stops, leave it to the sweep, which counts a crash.

        A handler may have sent the signal itself: without a limit its file would be tried for ever.
        """
        if self._context.leases.count_stop(parcel.id) <= STOPS_MAX:
            self._context.leases.retry(parcel.id, token, self._context.settings.sweep.grace_seconds)

    def _read(self, task: Task[..., Any], wire: object) -> Parcel:
        try:
            parcel = parcel_from_wire(wire)
        except InvalidMessage as error:
            _log.error(events.MESSAGE_INVALID, parcel=escape(str(task.request.id)), error=str(error))
            raise
        if parcel.id != task.request.id:
            raise InvalidMessage("the parcel's id is not the task's")
        return parcel

    def _run_handlers(self, parcel: Parcel, inbox: Inbox, attempt: int) -> list[FileOutcome]:
        """Run the handler on each file, except those whose outcome an earlier worker recorded before it died."""
        recorded = self._read_recorded(parcel, attempt)
        outcomes = []
        on_this_host = parcel.host == self._context.host
        self._context.guard.before_parcel()
        with ParcelReader(
            self._context.disk, parcel, on_this_host=on_this_host, attempt=attempt, output_template=inbox.outputs,
            store=self._context.store,
        ) as reader:  # fmt: skip
            runs = HandlerRuns(parcel, inbox, attempt, reader, self._context.guard)
            for part in parcel.files:
                outcome = recorded.get(part.filename) or runs.run(part)
                outcomes.append(outcome)
                # a record has no outputs: after a crash, a file with some is handled again
                if len(parcel.files) > 1 and outcome.is_from_handler and part.filename not in recorded and not outcome.outputs:
                    self._context.progress.record(parcel.id, outcome)
        runs.end()
        if runs.store_fault:
            self._report_fault(parcel, str(runs.store_fault))
        with contextlib.suppress(SoftTimeLimitExceeded):  # the limit is for handlers only
            self._context.progress.flush()
        if runs.files:
            with contextlib.suppress(BrokerUnavailable):  # only statistics are lost
                self._context.leases.report_seconds_per_file(parcel.inbox, runs.seconds / runs.files)
        return outcomes

    def _report_fault(self, parcel: Parcel, why: str) -> None:
        """Report that this worker can't read from the store, and let the others take the next files."""
        remedy = "make the store available to this host, too: inboxd check"
        with contextlib.suppress(BrokerUnavailable):
            if StageRecords(self._context.client, parcel.host).set_fault(why, reader=self._context.host):
                _log.warning(events.STAGE_UNAVAILABLE, inbox=parcel.inbox, parcel=parcel.id, error=why, remedy=remedy)
        with contextlib.suppress(SoftTimeLimitExceeded):  # the limit is for handlers only
            time.sleep(FAULT_SECONDS)

    def _read_recorded(self, parcel: Parcel, attempt: int) -> dict[bytes, FileOutcome]:
        with contextlib.suppress(BrokerUnavailable):
            if attempt > 1:
                return self._context.progress.read(parcel.id)
        return {}

    def _start(self, parcel: Parcel, token: str) -> StartAnswer:
        """Request the lease; if its owner is known to be dead, take the lease over."""
        leases, seconds = self._context.leases, self._lease_seconds
        (first, *others) = parcel.files
        lone_file = b"" if others or parcel.unreadable else lone_file_to_bytes(first.filename, first.version)
        start = leases.start(parcel.id, token, seconds, lone_file=lone_file)
        if start.verdict is StartVerdict.BUSY and process_identity.liveness(start.owner) is Liveness.DEAD:
            start = leases.start(parcel.id, token, seconds, dead_owner=start.owner, lone_file=lone_file)
        return start

    def _finish(self, parcel: Parcel, token: str) -> None:
        """Mark the parcel finished. Wait while Redis is unavailable: Celery could not store the outcome, either."""
        deadline = time.monotonic() + self._context.settings.work.outage_seconds
        while True:
            try:
                self._context.leases.finish(parcel.id, token, self._lease_seconds)
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    return  # the parcel is processed again; the handler can detect that by file.id
                with contextlib.suppress(SoftTimeLimitExceeded):  # the limit is for handlers only
                    time.sleep(OUTAGE_CHECK_SECONDS)
            else:
                return

    def _raise_if_failed(self, task: Task[..., Any], inbox: Inbox, parcel: Parcel, token: str, outcome: FileOutcome) -> None:
        """Raise what makes Celery reject, retry or fail a lone file; return if the file was processed."""
        match outcome:
            case FileOutcome(verdict=Verdict.REJECTED, reason=reason):
                self._finish(parcel, token)
                raise RejectFile(reason)
            case FileOutcome(verdict=Verdict.RETRY_ISOLATED, reason=reason):
                retries = task.request.retries
                failure = HandlerTimedOut(reason) if outcome.kind is FailureKind.TIME_LIMIT else HandlerFailed(reason)
                if retries >= inbox.retries:
                    self._finish(parcel, token)
                    raise failure
                wait = inbox.retry_delay(retries, outcome.retry_after)
                _log.info(
                    events.FILE_RETRIED, inbox=inbox.name, file=outcome.path, parcel=parcel.id,
                    retry=retries + 1, of=inbox.retries, in_seconds=wait, why=reason,
                )  # fmt: skip
                self._context.leases.retry(parcel.id, token, wait + self._lease_seconds)
                labels: dict[str, Any] = {"argsrepr": parcel.id, "kwargsrepr": ""}  # as in the first message
                raise task.retry(exc=failure, countdown=wait, max_retries=inbox.retries, **labels)
            case _:
                return


def register(app: Celery, current: CurrentContext) -> None:
    """Register the task with the app; each run keeps the settings that were current at its start."""
    processor = ParcelProcessor(current.get())

    def run(self: Task[..., Any], wire: object) -> dict[str, Any]:
        return processor.with_context(current.get()).run(self, wire)

    app.task(name=PROCESS, bind=True, ignore_result=False, throws=(RejectFile, HandlerFailed), Request=RedactedRequest)(run)
