"""The three sweeps as Celery tasks, for beat to send."""

import contextlib
import time
from collections.abc import Callable

from celery import Celery

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.heartbeat import record_sweep
from inboxd.errors import BrokerUnavailable
from inboxd.messaging.celery_app import SWEEP_EXPIRED, SWEEP_MISSED, SWEEP_STALE
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.shared_settings import CurrentContext
from inboxd.tasks.sweeps.expired import sweep_expired
from inboxd.tasks.sweeps.missed import sweep_missed
from inboxd.tasks.sweeps.stale import sweep_stale

REST_KEY = "inboxd:sweep_rest:"
SHORT_SECONDS, REST_SHARE = 0.5, 4.0
"""A sweep that took longer than half a second is followed by a rest of four times that."""

SWEEPS = {SWEEP_MISSED: sweep_missed, SWEEP_STALE: sweep_stale, SWEEP_EXPIRED: sweep_expired}


def register(app: Celery, current: CurrentContext) -> None:
    """Register the sweeps with the app."""
    for name, sweep in SWEEPS.items():
        app.task(name=name, ignore_result=True)(_make_task(name, sweep, current))


def _make_task(name: str, sweep: Callable[[WorkerContext], None], current: CurrentContext) -> Callable[[], None]:
    def run() -> None:
        with contextlib.suppress(BrokerUnavailable):  # the next sweep tries again
            run_with_rests(current.get(), name, sweep)

    return run


def run_with_rests(context: WorkerContext, name: str, sweep: Callable[[WorkerContext], None]) -> None:
    """Run a sweep, unless the last one was long and has just ended: with thousands of parcels, handlers would get no slot.

    Raises BrokerUnavailable.
    """
    key = f"{REST_KEY}{name}:{context.host}"
    with translate_redis_errors():
        is_resting = bool(context.client.exists(key))
    if is_resting:
        record_sweep(context.client, context.settings)
        return
    began = time.monotonic()
    sweep(context)
    seconds = time.monotonic() - began
    if seconds > SHORT_SECONDS:
        with translate_redis_errors():
            context.client.set(key, "", px=int(seconds * REST_SHARE * 1000))
