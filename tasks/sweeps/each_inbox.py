"""Runs a sweep on one inbox after the other: each under its own lock, and despite errors in other inboxes."""

from collections.abc import Callable, Iterable

from inboxd.broker.inbox_outages import clear_inbox_outage
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, FolderUnavailable, TransientError
from inboxd.fs.bounded import run_detached
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.tasks.process_state.context import WorkerContext

WAIT_SECONDS, HUNG_SECONDS = 0.5, 60.0
"""How long a sweep waits for an inbox on a network or FUSE mount before it goes on to the next one, and how long that inbox's
sweep may run in its own thread before the mount counts as hung."""

_REMEDY = "the next sweep tries again"

_log = get_logger(__name__)


def sweep_each(context: WorkerContext, sweep: str, inboxes: Iterable[Inbox], action: Callable[[Inbox], None]) -> None:
    """Call ``action`` with each inbox on which no other process runs this sweep.

    An error that affects a whole inbox is recorded as its outage, any other error is logged, and the next inbox follows.
    Raises BrokerUnavailable, which ends the sweep.
    """
    try:
        for inbox in inboxes:
            with context.sweep_locks.acquire(sweep, inbox.name) as acquired:
                if acquired:
                    _sweep_apart(context, sweep, inbox, action)
    finally:
        context.sweep_locks.flush()


def _sweep_apart(context: WorkerContext, sweep: str, inbox: Inbox, action: Callable[[Inbox], None]) -> None:
    """Sweep an inbox; one on a network or FUSE mount in a thread, which delays no other inbox."""
    mount = context.foreign_mount(inbox)
    if not mount:
        _sweep_one(context, sweep, inbox, action)
        return
    try:
        run_detached(context.disk, mount, lambda: _sweep_one(context, sweep, inbox, action), WAIT_SECONDS, HUNG_SECONDS)
    except FolderUnavailable as error:
        context.record_if_outage(inbox, error, sweep)


def _sweep_one(context: WorkerContext, sweep: str, inbox: Inbox, action: Callable[[Inbox], None]) -> None:
    try:
        action(inbox)
    except BrokerUnavailable:
        raise
    except (TransientError, OSError) as error:
        if not context.record_if_outage(inbox, error, sweep):
            _log.warning(events.SWEEP_FAILED, inbox=inbox.name, sweep=sweep, error=str(error), remedy=_REMEDY)


def active_inboxes(context: WorkerContext) -> list[Inbox]:
    """Return the inboxes whose files are claimed: all but those that were removed from the settings."""
    return [inbox for name, inbox in context.settings.inbox.items() if name not in context.retiring]


def end_outage(context: WorkerContext, inbox: Inbox, *sweeps: str) -> None:
    """Clear an inbox's outage as recorded by these sweeps (see ``outages``), and log its end."""
    if clear_inbox_outage(context.client, context.host, inbox.name, *sweeps):
        _log.info(events.FOLDER_AVAILABLE, inbox=inbox.name)
