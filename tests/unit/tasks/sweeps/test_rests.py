"""A sweep that took long is followed by a rest, in which handlers get the slots; the queues are read once for all inboxes."""

import time

import pytest
from support.parts.real_context import context, spool

from inboxd.broker.heartbeat import seconds_since_sweep
from inboxd.messaging.celery_app import SWEEP_STALE
from inboxd.messaging.queues import WORK_QUEUE
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.sweeps import repair, tasks
from inboxd.tasks.sweeps.repair import QueuedIds
from inboxd.tasks.sweeps.tasks import run_with_rests

__all__ = ["context", "spool"]  # fixtures


@pytest.mark.parametrize(("seconds", "runs"), [(0.0, 3), (0.2, 1)])
def test_a_long_sweep_is_followed_by_a_rest(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch, seconds: float, runs: int
) -> None:
    monkeypatch.setattr(tasks, "SHORT_SECONDS", 0.1)
    swept = []

    def sweep(_context: WorkerContext) -> None:
        time.sleep(seconds)
        swept.append(time.monotonic())

    for _ in range(3):
        run_with_rests(context, SWEEP_STALE, sweep)
    assert len(swept) == runs
    if runs > 1:
        return
    assert seconds_since_sweep(context.client, context.settings) is not None  # beat and worker are alive

    while len(swept) == 1:
        run_with_rests(context, SWEEP_STALE, sweep)
        time.sleep(0.01)

    assert swept[1] - swept[0] > tasks.REST_SHARE * seconds


def test_the_queues_are_read_once_for_inboxes_that_follow_each_other(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(repair.time, "monotonic", lambda: now)
    queued = QueuedIds(context)
    context.client.lpush(WORK_QUEUE, '{"headers": {"id": "first"}}')
    assert queued.read() == {"first"}
    context.client.lpush(WORK_QUEUE, '{"headers": {"id": "second"}}')

    assert queued.read() == {"first"}
    now += context.settings.sweep.grace_seconds

    assert queued.read() == {"first", "second"}
