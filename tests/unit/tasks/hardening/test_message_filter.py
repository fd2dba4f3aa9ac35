"""The message filter, beyond the live tests: real messages are accepted, and parcels of quarantined messages recover."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs
from support.valkey import settings_for

from inboxd.broker.leases import Leases, LeaseState
from inboxd.errors import InvalidMessage
from inboxd.logs import events
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.other_app.task_message import JSON_TASKS
from inboxd.messaging.queues import QUARANTINE_KEY
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.hardening.message_check import JSON_BYTES_MAX, parse_headers
from inboxd.tasks.hardening.message_filter import (
    QUARANTINED_BYTES_MAX,
    QUARANTINED_MESSAGES_MAX,
    REDELIVERIES_MAX,
    MessageFilter,
)

TASK = "inboxd.process"


@pytest.fixture
def leases(valkey: redis.Redis) -> Leases:
    return Leases(valkey, 60.0)


@pytest.fixture
def message_filter(valkey: redis.Redis, leases: Leases) -> MessageFilter:
    return MessageFilter(valkey, leases, lambda: [TASK])


@pytest.fixture
def sent(valkey: redis.Redis, valkey_url: str, tmp_path) -> Iterator[tuple[str, bytes]]:  # noqa: ANN001
    """Send a message with every header that inboxd uses; return its id, and the raw message from the queue."""
    parcel = new_parcel_id()
    with make_app(settings_for(valkey_url, tmp_path)) as app:
        app.send_task(
            TASK, args=[{"files": [b"\xff\x00"]}], task_id=parcel, queue="q", retries=2, countdown=5, expires=60,
            soft_time_limit=5, time_limit=10.5, argsrepr=parcel,
        )  # fmt: skip
        yield parcel, valkey.rpop("q")


def redelivered(raw: bytes) -> bytes:
    """Return a message as Kombu requeues it."""
    message = json.loads(raw)
    message["headers"]["redelivered"] = True
    return json.dumps(message).encode()


def test_a_message_as_celery_sends_it_is_accepted(message_filter: MessageFilter, sent: tuple[str, bytes]) -> None:
    parcel, raw = sent

    assert parse_headers(raw, [TASK])["id"] == parcel
    assert message_filter.accepts("inboxd.work", raw)
    assert message_filter.accepts("inboxd.work", redelivered(raw))


def send_json(valkey: redis.Redis, valkey_url: str, folder: Path, task: str, *args: object) -> bytes:
    """Return a message in JSON, as an app without msgpack sends it."""
    with make_app(settings_for(valkey_url, folder)) as app:
        app.send_task(task, args=args, task_id=new_parcel_id(), queue="q", serializer="json")
    raw: bytes = valkey.rpop("q")
    return raw


@pytest.mark.parametrize("task", JSON_TASKS)
def test_a_callback_of_another_app_may_be_json(task: str, valkey: redis.Redis, valkey_url: str, tmp_path: Path) -> None:
    raw = send_json(valkey, valkey_url, tmp_path, task, "drop", "x")

    assert parse_headers(raw, [task])["task"] == task


def test_no_other_message_may_be_json_and_no_large_one(valkey: redis.Redis, valkey_url: str, tmp_path: Path) -> None:
    raw = send_json(valkey, valkey_url, tmp_path, TASK, "drop", "x")
    large = send_json(valkey, valkey_url, tmp_path, JSON_TASKS[0], "x" * JSON_BYTES_MAX)

    with pytest.raises(InvalidMessage, match="the content is not application/x-msgpack"):
        parse_headers(raw, [TASK])
    with pytest.raises(InvalidMessage, match="the content is not application/x-msgpack"):
        parse_headers(large, [JSON_TASKS[0]])


@pytest.mark.parametrize("body", ["e30=", "WyJ4Il0=", "eyI=", "/w==", "Ww==" * 2000])
def test_a_body_in_json_of_another_form_is_refused(body: str, valkey: redis.Redis, valkey_url: str, tmp_path: Path) -> None:
    message = json.loads(send_json(valkey, valkey_url, tmp_path, JSON_TASKS[0], "x"))

    with pytest.raises(InvalidMessage):
        parse_headers(json.dumps({**message, "body": body}).encode(), [JSON_TASKS[0]])


@pytest.mark.parametrize("header", ["eta", "expires", "retries", "timelimit", "id", "task"])
@pytest.mark.parametrize("value", [["x"], {"x": 1}, 1.5], ids=str)
def test_a_header_of_the_wrong_type_is_refused(header: str, value: object, sent: tuple[str, bytes]) -> None:
    message = json.loads(sent[1])
    message["headers"][header] = value

    with pytest.raises(InvalidMessage):
        parse_headers(json.dumps(message).encode(), [TASK])


@pytest.mark.parametrize("part", ["headers", "properties", "body", "content-type", "content-encoding"])
def test_a_message_that_lacks_a_part_is_refused(part: str, sent: tuple[str, bytes]) -> None:
    message = json.loads(sent[1])
    del message[part]

    with pytest.raises(InvalidMessage):
        parse_headers(json.dumps(message).encode(), [TASK])


def test_the_lease_of_a_bad_messages_parcel_expires_at_once(
    message_filter: MessageFilter, leases: Leases, sent: tuple[str, bytes]
) -> None:
    parcel, raw = sent
    leases.queue(parcel, "drop", 60.0)

    with capture_logs() as lines:
        assert not message_filter.accepts("inboxd.work", raw.replace(b"base64", b"base63"))

    lease = leases.read([parcel])[parcel]
    assert (lease.state, lease.seconds_left < 0) == (LeaseState.QUEUED, True)
    (line,) = lines
    assert (line["event"], line["parcel"], line["queue"]) == (events.MESSAGE_QUARANTINED, parcel, "inboxd.work")


def test_a_bad_copy_of_its_message_does_not_end_a_running_parcels_lease(
    message_filter: MessageFilter, leases: Leases, sent: tuple[str, bytes]
) -> None:
    parcel, raw = sent
    leases.start(parcel, "me", 60.0)

    assert not message_filter.accepts("inboxd.work", raw.replace(b"base64", b"base63"))

    assert leases.read([parcel])[parcel].seconds_left > 0


def test_a_message_redelivered_to_too_many_workers_counts_as_a_crash(
    message_filter: MessageFilter, valkey: redis.Redis, leases: Leases, sent: tuple[str, bytes]
) -> None:
    parcel, raw = sent
    leases.queue(parcel, "drop", 60.0)

    workers = [MessageFilter(valkey, leases, lambda: [TASK]) for _ in range(REDELIVERIES_MAX)]
    accepted = [worker.accepts("inboxd.work", redelivered(raw)) for worker in workers]

    assert accepted == [True] * (REDELIVERIES_MAX - 1) + [False]
    lease = leases.read([parcel])[parcel]
    assert (lease.state, lease.seconds_left < 0) == (LeaseState.RUNNING, True)
    assert message_filter.accepts("inboxd.work", redelivered(raw)), "the count is reset"


def test_redeliveries_to_the_same_worker_do_not_count(message_filter: MessageFilter, sent: tuple[str, bytes]) -> None:
    assert all(message_filter.accepts("inboxd.work", redelivered(sent[1])) for _ in range(3 * REDELIVERIES_MAX))


def test_redeliveries_to_a_stopping_worker_do_not_count(valkey: redis.Redis, leases: Leases, sent: tuple[str, bytes]) -> None:
    for _ in range(3 * REDELIVERIES_MAX):
        worker = MessageFilter(valkey, leases, lambda: [TASK])
        assert worker.accepts("inboxd.work", redelivered(sent[1]))
        worker.reset_redeliveries()


@pytest.mark.parametrize(
    "headers",
    [{"eta": ""}, {"expires": "soon"}, {"id": "\ud800"}, {"id": ""}, {"id": "a\nb"}, {"stamps": [[[[[[[[[[]]]]]]]]]]}],
    ids=str,
)
def test_a_header_that_would_crash_the_worker_is_refused(headers: dict[str, object], sent: tuple[str, bytes]) -> None:
    message = json.loads(sent[1])
    message["headers"].update(headers)

    with pytest.raises(InvalidMessage):
        parse_headers(json.dumps(message).encode(), [TASK])


def test_a_message_from_a_queue_without_tasks_is_accepted(message_filter: MessageFilter) -> None:
    assert message_filter.accepts("0b1c.reply.inboxd.pidbox", b"an answer to inspect")


def test_the_quarantine_is_bounded(message_filter: MessageFilter, valkey: redis.Redis) -> None:
    for _ in range(QUARANTINED_MESSAGES_MAX + 5):
        message_filter.accepts("inboxd.work", b"x" * (QUARANTINED_BYTES_MAX + 5))

    assert valkey.llen(QUARANTINE_KEY) == QUARANTINED_MESSAGES_MAX
    assert valkey.lindex(QUARANTINE_KEY, 0) == b"x" * QUARANTINED_BYTES_MAX


def test_a_bad_message_is_refused_even_if_redis_is_unavailable(leases: Leases) -> None:
    message_filter = MessageFilter(redis.Redis(unix_socket_path="/nowhere"), leases, lambda: [TASK])

    with capture_logs() as lines:
        assert not message_filter.accepts("inboxd.work", b"not JSON")

    assert [line["event"] for line in lines] == [events.MESSAGE_QUARANTINED, events.BROKER_UNAVAILABLE]
