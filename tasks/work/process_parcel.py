"""Working on a parcel: the task that the watcher sends by name."""

import contextlib
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded

from inboxd.broker.leases import StartAnswer, StartVerdict
from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, HandlerFailed, InvalidMessage, RejectFile, TransientError
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.celery_app import PROCESS
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import Parcel, parcel_from_wire
from inboxd.tasks.hardening.redacted_request import RedactedRequest
from inboxd.tasks.work.handler_runs import HandlerRuns
from inboxd.tasks.work.lease_renewer import LeaseRenewer
from inboxd.tasks.worker import process_identity
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.process_identity import Liveness
from inboxd.tasks.worker.shared_settings import CurrentContext

OUTAGE_CHECK_SECONDS = 0.5
"""How often an absent Redis is asked whether it is back."""

_log = get_logger(__name__)


class ParcelProcessor:
    """Works on one parcel after the other."""

    def __init__(self, context: WorkerContext, renewer: LeaseRenewer | None = None) -> None:
        self._context = context
        self._lease_seconds = context.settings.work.lease_seconds
        self._renewer = renewer or LeaseRenewer(context.leases, self._lease_seconds)

    def with_context(self, context: WorkerContext) -> "ParcelProcessor":
        """Return the process by this context, which may have newer settings; what keeps the leases is the same."""
        return self if context is self._context else ParcelProcessor(context, self._renewer)

    def run(self, task: Task[..., Any], wire: object) -> dict[str, Any]:
        """Work on a parcel and return its outcome, to be stored and handed to the success callback.

        A lone file that fails raises instead, for Celery's own retry and error callback: RejectFile, HandlerFailed or Retry.
        A copy of a message that somebody has worked on, or is working on, raises Ignore: neither callback is called.
        """
        parcel = self._read(task, wire)
        inbox = self._context.settings.inbox.get(parcel.inbox)
        if inbox is None:  # settings can be mended: the sweep sends the parcel again, until a worker knows its inbox
            raise TransientError(f"this worker's settings have no [inbox.{parcel.inbox}]")
        token = process_identity.process_token(self._context.host)
        start = self._start(parcel.id, token)
        if start.verdict is not StartVerdict.STARTED:
            _log.info(
                events.DUPLICATE_IGNORED, parcel=parcel.id, inbox=inbox.name, why=f"another copy of it is {start.verdict}"
            )
            raise Ignore
        # If we die here, or in the handler: the lease's owner is known to be dead, or it lapses; the sweep counts that, and
        # hands out again what is not noted as done.
        with self._renewer.renewing(parcel.id, token):
            try:
                outcomes = self._run_handlers(parcel, inbox, start.attempt)
            except SystemExit:  # this worker is told to stop: its message goes back, and nobody has died
                self._context.progress.flush()
                with contextlib.suppress(BrokerUnavailable):
                    self._context.leases.retry(parcel.id, token, self._context.settings.sweep.grace_seconds)
                raise
            if len(outcomes) == 1:
                self._raise_if_failed(task, inbox, parcel, token, outcomes[0])
            self._finish(parcel, token)
        # If we die here: finished, and no outcome is stored; the lease lapses, and the parcel is published again.
        return outcome_to_wire(Outcome(parcel.id, parcel.inbox, start.attempt, tuple(outcomes)))

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
        """Hand each file to the handler, but those whose outcome an earlier worker recorded before it died."""
        known = self._recorded(parcel, attempt)
        outcomes = []
        on_this_host = parcel.host == self._context.host
        with ParcelReader(self._context.disk, parcel, on_this_host=on_this_host, attempt=attempt) as reader:
            runs = HandlerRuns(parcel, inbox, attempt, reader)
            for part in parcel.files:
                outcome = known.get(part.filename) or runs.run(part)
                outcomes.append(outcome)
                if len(parcel.files) > 1 and outcome.is_from_handler and part.filename not in known:
                    self._context.progress.record(parcel.id, outcome)
        with contextlib.suppress(SoftTimeLimitExceeded):  # it is the handlers' time that may be up, not ours
            self._context.progress.flush()
        if runs.files:
            with contextlib.suppress(BrokerUnavailable):  # the outcomes are worth more than the statistics
                self._context.leases.report_seconds_per_file(parcel.inbox, runs.seconds / runs.files)
        return outcomes

    def _recorded(self, parcel: Parcel, attempt: int) -> dict[bytes, FileOutcome]:
        with contextlib.suppress(BrokerUnavailable):
            if attempt > 1:
                return self._context.progress.read(parcel.id)
        return {}

    def _start(self, parcel: str, token: str) -> StartAnswer:
        """Ask for the lease; that of a process which is known to be gone is not waited for."""
        start = self._context.leases.start(parcel, token, self._lease_seconds)
        if start.verdict is StartVerdict.BUSY and process_identity.liveness(start.owner) is Liveness.DEAD:
            start = self._context.leases.start(parcel, token, self._lease_seconds, dead_owner=start.owner)
        return start

    def _finish(self, parcel: Parcel, token: str) -> None:
        """Note that the work is over. While Redis is away Celery could not store the outcome: wait, rather than lose it."""
        deadline = time.monotonic() + self._context.settings.work.outage_seconds
        while True:
            try:
                self._context.leases.finish(parcel.id, token, self._lease_seconds)
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    return  # it is worked on again; the handler can tell by file.id
                with contextlib.suppress(SoftTimeLimitExceeded):  # it is the handlers' time that may be up, not ours
                    time.sleep(OUTAGE_CHECK_SECONDS)
            else:
                return

    def _raise_if_failed(self, task: Task[..., Any], inbox: Inbox, parcel: Parcel, token: str, outcome: FileOutcome) -> None:
        """Let Celery decide about a lone file: reject, retry or fail by raising; return if all is well."""
        match outcome:
            case FileOutcome(verdict=Verdict.REJECTED, reason=reason):
                self._finish(parcel, token)
                raise RejectFile(reason)
            case FileOutcome(verdict=Verdict.RETRY_ISOLATED, reason=reason):
                retries = task.request.retries
                failure = HandlerFailed(reason)
                if retries >= inbox.retries:
                    self._finish(parcel, token)
                    raise failure
                wait = inbox.retry_delay(retries)
                _log.info(
                    events.FILE_RETRIED, inbox=inbox.name, file=outcome.path, parcel=parcel.id,
                    retry=retries + 1, of=inbox.retries, in_seconds=wait,
                )  # fmt: skip
                self._context.leases.retry(parcel.id, token, wait + self._lease_seconds)
                shown: dict[str, Any] = {"argsrepr": parcel.id, "kwargsrepr": ""}  # as when it was first sent
                raise task.retry(exc=failure, countdown=wait, max_retries=inbox.retries, **shown)
            case _:
                return


def register(app: Celery, current: CurrentContext) -> None:
    """Make the task known to the app; it works by the settings of when it starts."""
    first = ParcelProcessor(current.get())

    def run(self: Task[..., Any], wire: object) -> dict[str, Any]:
        return first.with_context(current.get()).run(self, wire)

    app.task(name=PROCESS, bind=True, ignore_result=False, throws=(RejectFile, HandlerFailed), Request=RedactedRequest)(run)
