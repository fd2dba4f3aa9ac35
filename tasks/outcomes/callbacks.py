"""Celery's two callbacks, on the host that owns the folders. Either may come twice, late, together or never."""

import contextlib
from collections.abc import Iterator
from typing import Any

from celery import Celery, Task
from celery.states import SUCCESS

from inboxd.broker.leases import LeaseState
from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, InvalidMessage, TransientError
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.celery_app import FAILED, STALE, SUCCEEDED
from inboxd.messaging.outcome import from_wire
from inboxd.spool.layout import is_parcel_id, open_folders
from inboxd.tasks.hardening.redacted_request import Discreet
from inboxd.tasks.outcomes.apply import Filer, is_final
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.process_identity import Life, life
from inboxd.tasks.worker.shared_settings import CurrentContext

_log = get_logger(__name__)
_REMEDY = "the sweep tries again"


def succeeded(workshop: WorkerContext, wire: object) -> None:
    """Carry out a parcel's outcome. What can't be filed just now stays claimed, and the sweep tries again."""
    try:
        outcome = from_wire(wire)
        inbox = workshop.settings.inbox[outcome.inbox]
    except (InvalidMessage, KeyError) as error:
        _log.error(events.MESSAGE_REFUSED, task=SUCCEEDED, error=repr(error))
        return
    with _weather(workshop, inbox, outcome.parcel), open_folders(workshop.disk, inbox.root) as folders:
        Filer(workshop, inbox, folders).outcome(outcome)


def failed(workshop: WorkerContext, name: object, parcel: object) -> None:
    """Carry out a parcel's failure, by the record that Celery stored of it before it called us.

    Of a worker's death the record does not tell which attempt died (and a hard time limit calls us twice): the lease's owner
    decides. If it is not known to be dead, the parcel is left to the sweep.
    """
    inbox = workshop.settings.inbox.get(name) if isinstance(name, str) else None
    if inbox is None or not isinstance(parcel, str) or not is_parcel_id(parcel):
        _log.error(events.MESSAGE_REFUSED, task=FAILED, error=f"no parcel of an inbox: {name!r}, {parcel!r}")
        return
    with _weather(workshop, inbox, parcel), open_folders(workshop.disk, inbox.root) as folders:
        filer = Filer(workshop, inbox, folders)
        lease = workshop.leases.read([parcel])[parcel]
        stored = workshop.stored([parcel])[parcel]
        if stored["status"] == SUCCESS:  # a later attempt went well: this failure is an old one's
            filer.outcome(from_wire(stored["result"]))
        elif is_final(stored):
            filer.failure(parcel, stored, lease.attempt if lease else 1)
        elif lease and lease.state is LeaseState.RUNNING and life(lease.owner) is Life.DEAD:
            filer.crashed(parcel, lease)


@contextlib.contextmanager
def _weather(workshop: WorkerContext, inbox: Inbox, parcel: str) -> Iterator[None]:
    """Log what is away just now; the parcel stays claimed, its outcome stored, and the sweep tries again."""
    try:
        yield
    except BrokerUnavailable as error:
        _log.warning(events.BROKER_AWAY, inbox=inbox.name, parcel=parcel, error=str(error), remedy=_REMEDY)
    except (TransientError, OSError, InvalidMessage) as error:
        if workshop.is_in_trouble(inbox, error, STALE):
            return
        _log.warning(events.PARCEL_STUCK, inbox=inbox.name, parcel=parcel, error=str(error), remedy=_REMEDY)


def register(app: Celery, current: CurrentContext) -> None:
    """Make the callbacks known to the app. The error callback is bound, so that Celery sends it as a message."""

    def on_success(wire: object) -> None:
        succeeded(current.get(), wire)

    def on_error(_self: Task[..., Any], inbox: object, parcel: object) -> None:
        failed(current.get(), inbox, parcel)

    app.task(name=SUCCEEDED, ignore_result=True, Request=Discreet)(on_success)
    app.task(name=FAILED, bind=True, ignore_result=True, Request=Discreet)(on_error)
