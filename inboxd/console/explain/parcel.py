"""Explain why a claimed file is still in claimed/: the state of its parcel, its worker, and the next step."""

import time
from dataclasses import dataclass, field

from inboxd.broker.leases import Lease, Leases, LeaseState
from inboxd.broker.recovery import parcel_state
from inboxd.config.rules import Inbox
from inboxd.console.explain.context import ExplainContext
from inboxd.errors import BrokerUnavailable
from inboxd.logs.text import escape
from inboxd.messaging.other_app.answers import Answer, read_answers
from inboxd.messaging.other_app.task_faults import FaultKind, TaskFault, find_fault
from inboxd.messaging.other_app.waiting import queued_tasks, received_tasks
from inboxd.messaging.queues import WORK_QUEUE, MessageLocation, files_queue, locate_message, stage_queue
from inboxd.messaging.stored_result import FAILURE, RETRY, SUCCESS, StoredResult, read_stored_result
from inboxd.spool.claims import list_files
from inboxd.spool.layout import Folders, created_at

RESULT_CHARS_MAX = 500
"""Maximum characters shown of a stored result."""


@dataclass(frozen=True, slots=True)
class ParcelExplanation:
    """Why a parcel is in claimed/: a fixed word for programs, sentences for people, unix times, and facts for programs."""

    state: str
    sentences: list[str]
    since: float
    until: float | None = None
    facts: dict[str, object] = field(default_factory=dict)


def explain_parcel(context: ExplainContext, inbox: Inbox, folders: Folders, parcel: str) -> ParcelExplanation:
    """Return why a parcel's files are in claimed/. Raises OSError."""
    files = len(list_files(context.disk, folders, parcel))
    since = created_at(parcel)
    sentences = [f"in parcel {parcel}, created {time.time() - since:.1f} s ago; files in the parcel: {files}"]
    facts: dict[str, object] = {"parcel": parcel, "files": files}
    if outage := context.outages.get(inbox.name):
        sentences.append(f"finished files can't be filed now: {outage}")
    if context.broker_error:
        sentences.append(f"the broker is unavailable: {context.broker_error}; work continues when it answers again")
        return ParcelExplanation("claimed", sentences, since, facts=facts)
    try:
        if inbox.task:
            return _explain_task(context, inbox, parcel, sentences, since, facts)
        return _explain_by_redis(context, parcel, sentences, since, facts)
    except BrokerUnavailable as error:
        return ParcelExplanation("claimed", [*sentences, f"no details: the broker is unavailable: {error}"], since, facts=facts)


def _explain_by_redis(
    context: ExplainContext, parcel: str, sentences: list[str], since: float, facts: dict[str, object]
) -> ParcelExplanation:
    lease = Leases(context.client, keep_seconds=1.0).read([parcel])[parcel]
    result = read_stored_result(context.client, parcel)
    state = parcel_state(lease, has_outcome=result.status in (SUCCESS, FAILURE))
    message = MessageLocation()
    if lease is None or lease.state is LeaseState.QUEUED:
        host = context.settings.host
        queues = (WORK_QUEUE, files_queue(host), stage_queue(host))
        message = locate_message(context.client, queues, parcel)
    facts |= {"outcome": result.status.lower(), "queue": message.queue or None, "retry_at": message.retry_at}
    if lease:
        facts |= {
            "attempt": lease.attempt,
            "crashes": lease.crashes,
            "worker": lease.owner or None,
            "lease_left": lease.seconds_left,
        }
    sentences = [*sentences, *_describe(context, lease, result, message)]
    return ParcelExplanation(state.value, sentences, since, message.retry_at, facts)


def _explain_task(
    context: ExplainContext, inbox: Inbox, parcel: str, sentences: list[str], since: float, facts: dict[str, object]
) -> ParcelExplanation:
    """Return where the message for another app's task is, and until when its answer is awaited."""
    lease = Leases(context.client, keep_seconds=1.0).read([parcel])[parcel]
    answer = read_answers(context.client, [parcel])[parcel].answer
    is_queued = parcel in queued_tasks(context.client, inbox.queue)
    is_received = not is_queued and parcel in received_tasks(context.client, inbox.answer_seconds)
    copies = lease.crashes + 1 if lease else 1
    queue = inbox.queue if is_queued or is_received else None
    facts |= {"task": inbox.task, "queue": queue, "answer": answer.value, "copies": copies}
    fault = find_fault(context.client, context.settings.host, inbox.name, inbox.queue)
    if fault and (is_queued or fault.kind is FaultKind.UNKNOWN):
        sentences.append(_describe_fault(fault, inbox))
    elif answer in (Answer.DONE, Answer.FAILED):
        sentences.append(f"the task {inbox.task} has ended ({answer.value}); a callback or the next sweep files the parcel")
    else:
        sentences.append(_describe_task(inbox, is_queued=is_queued, is_received=is_received))
    if lease and lease.state is LeaseState.QUEUED:
        left = f"in {max(lease.seconds_left, 0.0):.0f} s"
        # each sweep that finds the message in the queue grants the time anew
        when = f"{inbox.answer_seconds:g} s after a worker has taken this one" if is_queued else left
        sentences.append(f"copies sent: {copies} of {inbox.copies_max}; without an answer, the next follows {when}")
    state = parcel_state(lease, has_outcome=answer in (Answer.DONE, Answer.FAILED))
    return ParcelExplanation(state.value, sentences, since, facts=facts)


def _describe_fault(fault: TaskFault, inbox: Inbox) -> str:
    if fault.kind is FaultKind.UNKNOWN:
        return f"the worker {fault.where} has no task {inbox.task}: correct the name, or let its app import the module"
    return f"no worker consumes the queue {inbox.queue}: start the app's worker with -Q {inbox.queue}, or correct queue"


def _describe_task(inbox: Inbox, *, is_queued: bool, is_received: bool) -> str:
    if is_queued:
        return f"the message for the task {inbox.task} is in the queue {inbox.queue}, for a worker to take it"
    if is_received:
        return f"a worker has just received the message for the task {inbox.task} from the queue {inbox.queue}"
    return f"the task {inbox.task} has taken the message from the queue {inbox.queue}, and has not answered yet"


def _describe(context: ExplainContext, lease: Lease | None, result: StoredResult, message: MessageLocation) -> list[str]:
    sentences = list(_describe_lease(context, lease, message))
    if lease and lease.crashes:
        crashes_max = context.settings.work.crashes_max
        sentences.append(f"workers that died on this parcel: {lease.crashes}; at {crashes_max} the file is moved to failed/")
    if result.status == SUCCESS:
        sentences.append("the outcome is stored; a callback or the next sweep files the parcel")
    elif result.status == FAILURE:
        sentences.append(f"a failure is stored: {escape(result.error)[:RESULT_CHARS_MAX]}")
    elif result.status == RETRY:
        sentences.append(f"the last attempt raised: {escape(result.error)[:RESULT_CHARS_MAX]}")
    return sentences


def _describe_lease(context: ExplainContext, lease: Lease | None, message: MessageLocation) -> list[str]:
    sweep = f"every {context.settings.sweep.stale_seconds:g} s a sweep repairs parcels without a valid lease"
    if lease is None:
        location = _describe_message(message)
        return [f"Redis has no lease for the parcel (the parcel is new, or Redis lost its data); {location}", sweep]
    left = lease.seconds_left
    expiry = f"the lease expires in {left:.1f} s" if left >= 0 else f"the lease expired {-left:.1f} s ago"
    match lease.state:
        case LeaseState.QUEUED:
            attempts = f"attempts so far: {lease.attempt}" if lease.attempt else "no worker has started the parcel yet"
            return [_describe_message(message), attempts, f"{expiry}; {sweep}"]
        case LeaseState.RUNNING:
            worker = f"{_describe_owner(lease.owner)} works on the parcel, attempt {lease.attempt}"
            return [worker, f"{expiry}; the worker renews it while it runs" if left >= 0 else f"{expiry}; {sweep}"]
        case LeaseState.FINISHED:
            return [f"the handler has finished, and the file waits to be filed; {sweep}"]
        case LeaseState.FILED:
            return ["the parcel's other files were filed; the next sweep moves this file to a parcel of its own"]


def _describe_message(message: MessageLocation) -> str:
    if message.queue:
        return f"the message waits in the queue {message.queue} for a worker"
    if message.retry_at is not None:
        return f"a worker holds the message until the next attempt, in {max(message.retry_at - time.time(), 0.0):.1f} s"
    return "a worker has just received the message" if message.is_unacked else "no queue holds the message"


def _describe_owner(token: str) -> str:
    """Return the process and host that a lease's token names: HOST/PID_NAMESPACE/PID/START_TIME/ATTEMPT."""
    host, _, rest = token.partition("/")
    fields = rest.split("/")
    return f"process {fields[1]} on {host}" if len(fields) > 1 else (token or "a worker")
