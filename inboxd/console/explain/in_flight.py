"""Why a claimed file is still claimed: where its parcel stands, who has it, and what comes next."""

import time
from dataclasses import dataclass, field

from celery.states import FAILURE, PENDING, RETRY, SUCCESS

from inboxd.broker.leases import Lease, Leases, LeaseState
from inboxd.broker.recovery import parcel_state
from inboxd.config.settings import Inbox
from inboxd.console.explain.context import ExplainContext
from inboxd.errors import BrokerUnavailable
from inboxd.logs.text import escape
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.queues import WORK_QUEUE, MessageLocation, files_queue, locate_message
from inboxd.messaging.results import ResultRecord, read_results
from inboxd.spool.claims import list_files
from inboxd.spool.layout import Folders, created_at


@dataclass(frozen=True, slots=True)
class ParcelExplanation:
    """What is known of a parcel: its state in one word, sentences for people, times in unix seconds, facts for programs."""

    state: str
    sentences: list[str]
    since: float
    until: float | None = None
    facts: dict[str, object] = field(default_factory=dict)


def explain_parcel(surroundings: ExplainContext, inbox: Inbox, folders: Folders, parcel: str) -> ParcelExplanation:
    """Tell what keeps a parcel's files in claimed/. Raises OSError."""
    company = len(list_files(surroundings.disk, folders, parcel)) - 1
    since = created_at(parcel)
    begin = f"in parcel {parcel}, made {time.time() - since:.1f} s ago" + (f", with {company} others" if company > 0 else "")
    facts: dict[str, object] = {"parcel": parcel, "files": company + 1}
    trouble = surroundings.outages.get(inbox.name)
    why = [begin, *([f"what is finished can't be filed just now: {trouble}"] if trouble else [])]
    if not surroundings.broker_error:
        try:
            return _explain_by_redis(surroundings, parcel, why, since, facts)
        except BrokerUnavailable as error:
            return ParcelExplanation("claimed", [*why, f"the broker does not say more: {error}"], since, facts=facts)
    away = f"the broker is away: {surroundings.broker_error}; it goes on when that is back"
    return ParcelExplanation("claimed", [*why, away], since, facts=facts)


def _explain_by_redis(
    surroundings: ExplainContext, parcel: str, why: list[str], since: float, facts: dict[str, object]
) -> ParcelExplanation:
    lease = Leases(surroundings.client, keep_seconds=1.0).read([parcel])[parcel]
    with make_app(surroundings.settings, results=True) as app:
        result = read_results(app, [parcel])[parcel]
    state = parcel_state(lease, has_outcome=result["status"] in (SUCCESS, FAILURE))
    message = MessageLocation()
    if lease is None or lease.state is LeaseState.QUEUED:
        queues = (WORK_QUEUE, files_queue(surroundings.settings.host))
        message = locate_message(surroundings.client, queues, parcel)
    facts |= {"outcome": result["status"].lower(), "queue": message.queue or None, "retry_at": message.retry_at}
    if lease:
        facts |= {
            "attempt": lease.attempt,
            "crashes": lease.crashes,
            "worker": lease.owner or None,
            "lease_left": lease.seconds_left,
        }
    return ParcelExplanation(
        state.value, [*why, *_describe(surroundings, lease, result, message)], since, message.retry_at, facts
    )


def _describe(surroundings: ExplainContext, lease: Lease | None, result: ResultRecord, message: MessageLocation) -> list[str]:
    found = list(_describe_lease(surroundings, lease, message))
    if lease and lease.crashes:
        found.append(
            f"{lease.crashes} workers have died over it; at {surroundings.settings.work.crashes_max} it goes to failed/"
        )
    match result["status"]:
        case status if status == SUCCESS:
            found.append("its outcome is stored: a callback, or else the sweep, files it away")
        case status if status == FAILURE:
            found.append(f"a failure is stored: {escape(str(result['result']))[:500]}")
        case status if status == RETRY:
            found.append(f"its last attempt raised: {escape(str(result['result']))[:500]}")
        case status if status == PENDING:
            pass
    return found


def _describe_lease(surroundings: ExplainContext, lease: Lease | None, message: MessageLocation) -> list[str]:
    sweep = f"every {surroundings.settings.sweep.stale_seconds:g} s a sweep looks for parcels that nobody looks after"
    if lease is None:
        where = _describe_message(message)
        return [f"Redis knows nothing of it (it is new, or Redis has lost its memory); {where}", sweep]
    lapses = f"in {lease.seconds_left:.1f} s" if lease.seconds_left >= 0 else f"since {-lease.seconds_left:.1f} s"
    match lease.state:
        case LeaseState.QUEUED:
            tries = f"it was begun {lease.attempt} times" if lease.attempt else "no worker has begun with it yet"
            return [_describe_message(message), tries, f"its lease lapses {lapses}; then {sweep}"]
        case LeaseState.RUNNING:
            worker = f"{_describe_owner(lease.owner)} works on it, attempt {lease.attempt}"
            alive = f"its lease is renewed while that worker lives; it lapses {lapses}"
            return [worker, alive if lease.seconds_left >= 0 else f"but its lease has lapsed {lapses}: {sweep}"]
        case LeaseState.FINISHED:
            return [f"it was worked on, and waits to be filed away; {sweep}"]
        case LeaseState.FILED:
            return [
                "others of its parcel were filed away; this one is left over, and the next sweep gives it a parcel of its own"
            ]


def _describe_message(message: MessageLocation) -> str:
    if message.queue:
        return f"its message waits in the queue {message.queue} for a worker"
    if message.retry_at is not None:
        return f"a worker holds it back until its next attempt, in {max(message.retry_at - time.time(), 0.0):.1f} s"
    return "a worker has just taken its message" if message.is_unacked else "no queue has its message"


def _describe_owner(token: str) -> str:
    """Name a worker by its token: host, world, process, birth, attempt."""
    host, _, rest = token.partition("/")
    fields = rest.split("/")
    return f"process {fields[1]} on {host}" if len(fields) > 1 else (token or "a worker")
