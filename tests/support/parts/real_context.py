"""A worker context on a real Valkey, and helpers to read what its sweeps leave there."""

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery.states import SUCCESS
from support.disk.spools import Spool
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.broker.leases import Lease
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.messaging.queues import WORK_QUEUE, files_queue, queued_task_ids
from inboxd.tasks.process_state.context import WorkerContext, make_context
from inboxd.tasks.sweeps.repair import Repair


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return an empty spool."""
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def context(valkey_url: str, valkey: redis.Redis, spool: Spool) -> Iterator[WorkerContext]:
    """Return a context on an empty server whose dataset is so old that the sweep grants no extra time."""
    settings = settings_for(valkey_url, spool.root, retry_backoff_seconds=0.0)
    valkey.set("inboxd:dataset", 0)
    made = make_context(settings, make_app(settings, results=True))
    yield made
    made.app.backend.client.close()
    made.app.close()
    made.client.close()


def sweep(context: WorkerContext, spool: Spool) -> Counter[str]:
    inbox = context.settings.inbox["drop"]
    with spool.folders() as folders:
        return Repair(context, inbox, folders).run()


def store(context: WorkerContext, parcel: str, result: object, status: str = SUCCESS) -> None:
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # Celery calls redis-py by an old name
        context.app.backend.store_result(parcel, result, status)


def outcome(parcel: str, **verdicts: Verdict) -> dict[str, object]:
    files = tuple(FileOutcome(path.encode(), verdict, "a reason") for path, verdict in verdicts.items())
    return outcome_to_wire(Outcome(parcel, "drop", 1, files))


def lease(context: WorkerContext, parcel: str) -> Lease | None:
    return context.leases.read([parcel])[parcel]


def lapse(context: WorkerContext, parcel: str) -> None:
    eventually(lambda: (found := lease(context, parcel)) is not None and found.seconds_left < 0)


def queued(context: WorkerContext) -> set[str]:
    return queued_task_ids(context.client, (WORK_QUEUE, files_queue(context.host)))
