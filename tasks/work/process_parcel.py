"""Working on a parcel: the task that the watcher sends by name."""

import contextlib
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded

from inboxd.broker.leases import StartAnswer
from inboxd.broker.leases import StartVerdict as LeaseVerdict
from inboxd.config.handler_import import import_handler
from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, HandlerFailed, InvalidMessage, RejectFile, TransientError
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.celery_app import PROCESS
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import FilePart, Parcel, parcel_from_wire
from inboxd.tasks.hardening.redacted_request import RedactedRequest
from inboxd.tasks.work import run_handler
from inboxd.tasks.work.lease_renewer import LeaseRenewer
from inboxd.tasks.worker import process_identity
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.process_identity import Liveness
from inboxd.tasks.worker.shared_settings import CurrentContext

OWN_TIME_SHARE = 0.9
"""A file that was stopped before it had so much of the time limit for itself is not to blame."""

OUTAGE_CHECK_SECONDS = 0.5
"""How often an absent Redis is asked whether it is back."""

_log = get_logger(__name__)

_Answer = run_handler.Answer | Verdict | FileOutcome
"""What became of a file: the handler's answer; a verdict, if it was not asked; or what an earlier worker has left word of."""


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
        if start.verdict is not LeaseVerdict.STARTED:
            _log.info(events.PARCEL_DROPPED, parcel=parcel.id, inbox=inbox.name, why=f"another copy of it is {start.verdict}")
            raise Ignore
        # If we die here, or in the handler: the lease's owner is known to be dead, or it lapses; the sweep counts that, and
        # hands out again what is not noted as done.
        with self._renewer.renewing(parcel.id, token):
            try:
                answers = self._work(parcel, inbox, start.attempt)
            except SystemExit:  # this worker is told to stop: its message goes back, and nobody has died
                self._context.progress.flush()
                with contextlib.suppress(BrokerUnavailable):
                    self._context.leases.retry(parcel.id, token, self._context.settings.sweep.grace_seconds)
                raise
            if len(parcel.files) == 1:
                self._settle_alone(task, inbox, parcel, token, answers[0])
            self._finish(parcel, token)
        # If we die here: finished, and no outcome is stored; the lease lapses, and the parcel is published again.
        files = tuple(_outcome(part, answer) for part, answer in zip(parcel.files, answers, strict=True))
        return outcome_to_wire(Outcome(parcel.id, parcel.inbox, start.attempt, files))

    def _read(self, task: Task[..., Any], wire: object) -> Parcel:
        try:
            parcel = parcel_from_wire(wire)
        except InvalidMessage as error:
            _log.error(events.MESSAGE_REFUSED, parcel=escape(str(task.request.id)), error=str(error))
            raise
        if parcel.id != task.request.id:
            raise InvalidMessage("the parcel's id is not the task's")
        return parcel

    def _work(self, parcel: Parcel, inbox: Inbox, attempt: int) -> list[_Answer]:
        """Hand each file to the handler, but those of which an earlier worker has left word before it died."""
        here = parcel.host == self._context.host
        with ParcelReader(self._context.disk, parcel, on_this_host=here, attempt=attempt) as unpacking:
            answers, seconds, worked = self._answers(parcel, inbox, attempt, unpacking)
        with contextlib.suppress(SoftTimeLimitExceeded):  # the handlers' time may be up: it is not them that send
            self._context.progress.flush()
        if worked:
            with contextlib.suppress(BrokerUnavailable):  # the answers are worth more than the statistics
                self._context.leases.report_seconds_per_file(parcel.inbox, seconds / worked)
        return answers

    def _answers(self, parcel: Parcel, inbox: Inbox, attempt: int, unpacking: ParcelReader) -> tuple[list[_Answer], float, int]:
        """Return the answers about all files; and how many seconds the handler took, for how many of them."""
        known = self._known(parcel, attempt)
        answers: list[_Answer] = []
        seconds, worked, out_of_time = 0.0, 0, False
        for part in parcel.files:
            if part.filename in known:
                answers.append(known[part.filename])
                continue
            answer = Verdict.REQUEUE if out_of_time else self._one(part, inbox, unpacking)
            answers.append(answer)
            if isinstance(answer, Verdict):
                continue
            worked, seconds = worked + 1, seconds + answer.seconds
            out_of_time = isinstance(answer, run_handler.Raised) and answer.timed_out
            if out_of_time and answer.seconds < inbox.time_limit_seconds * OWN_TIME_SHARE:
                answers[-1] = Verdict.REQUEUE  # its neighbours have used the parcel's time up
                continue
            self._tell(parcel, part, answer, attempt)
            if len(parcel.files) > 1:
                self._context.progress.record(parcel.id, _outcome(part, answer))
        return answers, seconds, worked

    def _known(self, parcel: Parcel, attempt: int) -> dict[bytes, FileOutcome]:
        with contextlib.suppress(BrokerUnavailable):
            if attempt > 1:
                return self._context.progress.read(parcel.id)
        return {}

    def _start(self, parcel: str, token: str) -> StartAnswer:
        """Ask for the lease; that of a process which is known to be gone is not waited for."""
        start = self._context.leases.start(parcel, token, self._lease_seconds)
        if start.verdict is LeaseVerdict.BUSY and process_identity.liveness(start.owner) is Liveness.DEAD:
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
                with contextlib.suppress(
                    SoftTimeLimitExceeded
                ):  # the handler's time may be up: it is not the handler that waits
                    time.sleep(OUTAGE_CHECK_SECONDS)
            else:
                return

    def _one(self, part: FilePart, inbox: Inbox, unpacking: ParcelReader) -> run_handler.Answer | Verdict:
        begun = time.monotonic()
        try:
            file = unpacking.open(part)
        except FileNotFoundError:
            return Verdict.MISSING
        except SoftTimeLimitExceeded as error:
            return run_handler.out_of_time(error, inbox.time_limit_seconds, begun)
        except Exception as error:  # noqa: BLE001 - a file that can't be opened is tried again like one whose handler raised
            return run_handler.Raised(escape(str(error)), time.monotonic() - begun, error)
        return run_handler.run_handler(_handler(inbox), file, inbox.time_limit_seconds, begun)

    def _settle_alone(self, task: Task[..., Any], inbox: Inbox, parcel: Parcel, token: str, answer: _Answer) -> None:
        """Let Celery decide about a lone file: reject, retry or fail by raising; return if all is well."""
        match answer:
            case run_handler.Rejected(reason=reason):
                self._finish(parcel, token)
                raise RejectFile(reason)
            case run_handler.Raised(reason=reason):
                retries = task.request.retries
                failure = HandlerFailed(reason)
                if retries >= inbox.retries:
                    self._finish(parcel, token)
                    raise failure
                wait = self._context.backoff(inbox, retries)
                _log.info(
                    events.FILE_RETRIED, inbox=inbox.name, file=parcel.files[0].filename, parcel=parcel.id,
                    retry=retries + 1, of=inbox.retries, in_seconds=wait,
                )  # fmt: skip
                self._context.leases.retry(parcel.id, token, wait + self._lease_seconds)
                shown: dict[str, Any] = {"argsrepr": parcel.id, "kwargsrepr": ""}  # as when it was first sent
                raise task.retry(exc=failure, countdown=wait, max_retries=inbox.retries, **shown)
            case _:
                return

    def _tell(self, parcel: Parcel, part: FilePart, answer: run_handler.Answer, attempt: int) -> None:
        known = {
            "inbox": parcel.inbox,
            "file": part.filename,
            "parcel": parcel.id,
            "attempt": attempt,
            "took_ms": round(answer.seconds * 1000, 1),
        }
        match answer:
            case run_handler.Handled(result=result):
                _log.info(events.FILE_HANDLED, **known, result=result)
            case run_handler.Rejected(reason=reason):
                _log.warning(events.FILE_HANDLED, **known, rejected=reason)
            case run_handler.Raised(reason=reason, error=error):
                _log.warning(events.FILE_HANDLED, **known, raised=reason, exc_info=error)


def _handler(inbox: Inbox) -> run_handler.Handler:
    try:
        return import_handler(inbox.handler)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module that can't be imported fails its files, not the worker
        broken = error

        def fails(_file: object) -> None:
            raise broken

        return fails


def _outcome(part: FilePart, answer: _Answer) -> FileOutcome:
    match answer:
        case FileOutcome():
            return answer
        case run_handler.Handled(result=result):
            return FileOutcome(part.filename, Verdict.DONE, None, result)
        case run_handler.Rejected(reason=reason):
            return FileOutcome(part.filename, Verdict.REJECTED, reason)
        case run_handler.Raised(reason=reason):
            return FileOutcome(part.filename, Verdict.RETRY_ISOLATED, reason)
        case verdict:
            return FileOutcome(part.filename, verdict)


def register(app: Celery, current: CurrentContext) -> None:
    """Make the task known to the app; it works by the settings of when it starts."""
    first = ParcelProcessor(current.get())

    def run(self: Task[..., Any], wire: object) -> dict[str, Any]:
        return first.with_context(current.get()).run(self, wire)

    app.task(name=PROCESS, bind=True, ignore_result=False, throws=(RejectFile, HandlerFailed), Request=RedactedRequest)(run)
