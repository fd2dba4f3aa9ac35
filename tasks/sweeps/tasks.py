"""The three sweeps as Celery tasks, for beat to send."""

import contextlib
from collections.abc import Callable

from celery import Celery

from inboxd.errors import BrokerUnavailable
from inboxd.messaging.celery_app import SWEEP_EXPIRED, SWEEP_MISSED, SWEEP_STALE
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.shared_settings import CurrentContext
from inboxd.tasks.sweeps.expired import sweep_expired
from inboxd.tasks.sweeps.missed import sweep_missed
from inboxd.tasks.sweeps.stale import sweep_stale

SWEEPS = {SWEEP_MISSED: sweep_missed, SWEEP_STALE: sweep_stale, SWEEP_EXPIRED: sweep_expired}


def register(app: Celery, current: CurrentContext) -> None:
    """Register the sweeps with the app."""
    for name, sweep in SWEEPS.items():
        app.task(name=name, ignore_result=True)(_make_task(sweep, current))


def _make_task(sweep: Callable[[WorkerContext], None], current: CurrentContext) -> Callable[[], None]:
    def run() -> None:
        with contextlib.suppress(BrokerUnavailable):  # the next sweep tries again
            sweep(current.get())

    return run
