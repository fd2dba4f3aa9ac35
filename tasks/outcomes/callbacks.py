"""Celery's two callbacks, run on the host that has the folders. Either may run twice, late, concurrently or never."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery, Task

from inboxd.broker.leases import LeaseState
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, InvalidMessage, TransientError
from inboxd.fs.bounded import run_detached
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.celery_app import FAILURE_CALLBACK, SUCCESS_CALLBACK, SWEEP_STALE
from inboxd.messaging.other_app.answers import Answer, read_answers
from inboxd.messaging.other_app.task_message import TASK_FAILURE_CALLBACK, TASK_SUCCESS_CALLBACK, unpack_outcome
from inboxd.messaging.outcome import outcome_from_wire
from inboxd.messaging.results import read_results
from inboxd.spool.layout import is_parcel_id, open_folders
from inboxd.tasks.hardening.redacted_request import RedactedRequest
from inboxd.tasks.outcomes.apply import OutcomeApplier
from inboxd.tasks.outcomes.stored_result import is_final_result
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.process_identity import Liveness, liveness
from inboxd.tasks.process_state.shared_settings import CurrentContext

_log = get_logger(__name__)
WAIT_SECONDS, HUNG_SECONDS = 1.0, 60.0
"""How long a callback waits for an inbox on a network or FUSE mount; it goes on in its thread, where it may take a minute."""
_REMEDY = "the next sweep tries again"


def succeeded(context: WorkerContext, wire: object) -> None:
    """Apply a parcel's outcome. Files that can't be moved now stay claimed, and the sweep tries again."""
    try:
        outcome = outcome_from_wire(wire)
        inbox = context.settings.inbox[outcome.inbox]
    except (InvalidMessage, KeyError) as error:
        _log.error(events.MESSAGE_INVALID, task=SUCCESS_CALLBACK, error=repr(error))
        return

    def apply() -> None:
        with _log_if_unavailable(context, inbox, outcome.parcel), open_folders(context.disk, inbox.root) as folders:
            OutcomeApplier(context, inbox, folders).apply(outcome)

    _apply_apart(context, inbox, outcome.parcel, apply)


def failed(context: WorkerContext, name: object, parcel: object, copy: str = "") -> None:
    """Apply a parcel's failure, as read from the result that Celery stored before it sent this callback.

    After a worker's death the result does not say which attempt died (and a hard time limit sends two callbacks), so the
    liveness of the lease's owner decides. Unless the owner is known to be dead, the parcel is left to the sweep.
    ``copy`` is the number of the copy that another app's task has failed on.
    """
    inbox = context.settings.inbox.get(name) if isinstance(name, str) else None
    if inbox is None or not isinstance(parcel, str) or not is_parcel_id(parcel):
        _log.error(
            events.MESSAGE_INVALID, task=FAILURE_CALLBACK, error=f"unknown inbox or invalid parcel id: {name!r}, {parcel!r}"
        )
        return

    def apply() -> None:
        with _log_if_unavailable(context, inbox, parcel), open_folders(context.disk, inbox.root) as folders:
            applier = OutcomeApplier(context, inbox, folders)
            if copy:
                _apply_task_failure(context, applier, inbox, parcel, copy)
            else:
                _apply_failure(context, applier, parcel)

    _apply_apart(context, inbox, parcel, apply)


def _apply_failure(context: WorkerContext, applier: OutcomeApplier, parcel: str) -> None:
    lease = context.leases.read([parcel])[parcel]
    stored = read_results(context.app, [parcel])[parcel]
    if is_final_result(stored):  # perhaps a success, of an attempt after the one that failed
        applier.apply_result(parcel, stored, lease)
    elif lease and lease.state is LeaseState.RUNNING and liveness(lease.owner) is Liveness.DEAD:
        applier.apply_crash(parcel, lease, stored)


def _apply_task_failure(context: WorkerContext, applier: OutcomeApplier, inbox: Inbox, parcel: str, copy: str) -> None:
    """Apply the failure of another app's task, unless a later copy may still succeed, or something else handles the file now.

    If the task's worker has died, let the sweep send it again.
    """
    lease = context.leases.read([parcel])[parcel]
    answer = read_answers(context.client, [parcel])[parcel]
    is_outdated = lease is not None and (lease.state is not LeaseState.QUEUED or copy != str(lease.crashes + 1))
    if not inbox.task or is_outdated:
        why = "another copy was sent since, or another handler has the file now"
        _log.info(events.DUPLICATE_IGNORED, parcel=parcel, inbox=inbox.name, why=why)
    elif answer.answer in (Answer.LOST, Answer.UNKNOWN):
        context.leases.expire(parcel, crashed=False)
    elif answer.answer is not Answer.DONE:  # else the success callback, or a sweep, files it
        applier.apply_task_failure(parcel, lease, answer.failure)


def _apply_apart(context: WorkerContext, inbox: Inbox, parcel: str, apply: Callable[[], None]) -> None:
    """Apply a result; for an inbox on a network or FUSE mount in a thread, since the mount may hang."""
    mount = context.foreign_mount(inbox)
    if not mount:
        apply()
        return
    with _log_if_unavailable(context, inbox, parcel):
        run_detached(context.disk, mount, apply, WAIT_SECONDS, HUNG_SECONDS)


@contextlib.contextmanager
def _log_if_unavailable(context: WorkerContext, inbox: Inbox, parcel: str) -> Iterator[None]:
    """Log an error that prevents filing; the parcel stays claimed, its result stored, and the sweep tries again."""
    try:
        yield
    except BrokerUnavailable as error:
        _log.warning(events.BROKER_UNAVAILABLE, inbox=inbox.name, parcel=parcel, error=str(error), remedy=_REMEDY)
    except (TransientError, OSError, InvalidMessage) as error:
        if context.record_if_outage(inbox, error, SWEEP_STALE):
            return
        _log.warning(events.PARCEL_BLOCKED, inbox=inbox.name, parcel=parcel, error=str(error), remedy=_REMEDY)


def register(app: Celery, current: CurrentContext) -> None:
    """Register the callbacks with the app. The error callback is bound: Celery calls an unbound one in the worker itself."""

    def on_success(wire: object) -> None:
        succeeded(current.get(), wire)

    def on_error(_self: Task[..., Any], inbox: object, parcel: object) -> None:
        failed(current.get(), inbox, parcel)

    def on_task_success(packed: object) -> None:
        try:
            succeeded(current.get(), unpack_outcome(packed))
        except InvalidMessage as error:
            _log.error(events.MESSAGE_INVALID, task=TASK_SUCCESS_CALLBACK, error=str(error))

    def on_task_error(_self: Task[..., Any], inbox: object, parcel: object, copy: object) -> None:
        failed(current.get(), inbox, parcel, str(copy) or "?")

    app.task(name=TASK_SUCCESS_CALLBACK, ignore_result=True, Request=RedactedRequest)(on_task_success)
    app.task(name=TASK_FAILURE_CALLBACK, bind=True, ignore_result=True, Request=RedactedRequest)(on_task_error)
    app.task(name=SUCCESS_CALLBACK, ignore_result=True, Request=RedactedRequest)(on_success)
    app.task(name=FAILURE_CALLBACK, bind=True, ignore_result=True, Request=RedactedRequest)(on_error)
