"""Orders of steps that matter only if a process dies in between."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.worker.request import Request
from kombu.message import Message
from support.disk.spools import NO_WAITS, Spool
from support.parts.fake_context import HOST, run_all_turns
from support.parts.fakes import FakeLeases, FakePublisher
from support.valkey import settings_for

from inboxd.config.rules import Inbox
from inboxd.fs.syscalls import Disk
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.payload import Parcel


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return an empty spool."""
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def app(valkey_url: str, valkey: redis.Redis, spool: Spool) -> Iterator[Celery]:
    """Return the workers' app on an empty server."""
    del valkey
    made = make_app(settings_for(valkey_url, spool.root), results=True)
    yield made
    made.close()


def test_a_parcel_is_claimed_and_leased_before_it_is_sent(spool: Spool) -> None:
    spool.put(b"inbox/small", b"inside the message")
    spool.put(b"inbox/large", b"x" * 65)
    leases, sent, found = FakeLeases(), FakePublisher(), []

    def send(parcel: Parcel, inbox: Inbox) -> None:
        sent.send(parcel, inbox)
        found.extend((parcel.id, path) for path in spool.files())
        assert parcel.id in leases.records

    deps = IntakeDeps(Disk(), leases, send, HOST, 1.0)  # type: ignore[arg-type]
    run_all_turns(Intake(deps, spool.inbox(), NO_WAITS, network=False))

    assert sorted(sent.paths()) == [b"large", b"small"]
    for parcel in sent.parcels:
        for part in parcel.files:
            assert (parcel.id, b"claimed/%s/%s" % (parcel.id.encode(), part.filename)) in found
            assert (parcel.id, b"inbox/" + part.filename) not in found


def test_a_message_is_acknowledged_when_its_task_has_ended_and_not_before(app: Celery) -> None:
    acknowledged: list[object] = []

    @app.task(name="tests.work", ignore_result=True)
    def task() -> None:
        raise AssertionError("must not be called")

    message = Message(headers={"id": "1", "task": task.name}, delivery_info={}, properties={"reply_to": None})
    request = Request(message, app=app, task=task, decoded=True, body=((), {}, {}), on_ack=lambda *_: acknowledged.append(1))

    request.on_accepted(pid=1, time_accepted=0.0)
    at_start = list(acknowledged)
    request.on_success((False, None, 0.1))

    assert (at_start, acknowledged) == ([], [1])
