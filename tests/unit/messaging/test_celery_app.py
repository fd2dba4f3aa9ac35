"""Celery's configuration and publishing, on a real Valkey: a parcel's message, and outages of the broker."""

import base64
import inspect
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, cast

import celery.backends.redis
import msgpack
import pytest
import redis
from celery import Celery
from celery.app.defaults import DEFAULTS
from kombu import Queue
from kombu.exceptions import ContentDisallowed
from support.valkey import running_server, settings_for

from inboxd.broker.connection import celery_broker_url, make_client
from inboxd.broker.leases import Leases
from inboxd.config.rules import Inbox
from inboxd.config.settings import HARD_LIMIT_GRACE_SECONDS, Settings
from inboxd.errors import BrokerUnavailable
from inboxd.messaging.celery_app import FAILURE_CALLBACK, PROCESS, SUCCESS_CALLBACK, make_app
from inboxd.messaging.payload import FilePart, Parcel, parcel_from_wire
from inboxd.messaging.publishing import Publisher
from inboxd.messaging.queue_order import HostQueueFirst
from inboxd.messaging.queues import WORK_QUEUE, queued_task_ids
from inboxd.spool.layout import new_parcel_id

ROOT = PurePath("/srv/drop")
HOST_QUEUE, FILES_QUEUE = "inboxd.host.here", "inboxd.files.here"
CONTENT = b"the-secret-content"
TIMEOUT_SECONDS = 0.2

UNLISTED = {"redis_backend_health_check_interval"}
"""Settings that Celery reads but does not list among its defaults."""


def send_parcel(app: Celery, parcel: Parcel, inbox: Inbox, **options: Any) -> None:  # noqa: ANN401 - as Publisher.publish
    Publisher(app, cast("Leases", None)).publish(parcel, inbox, **options)


def make_parcel(*, by_reference: bool = False, host: str = "here") -> Parcel:
    stream = None if by_reference else CONTENT
    part = FilePart(b"secret-name.pdf", "application/pdf", len(CONTENT), {"id": "1"}, stream)
    return Parcel(new_parcel_id(), "drop", host, bytes(ROOT), (part,))


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return settings_for(valkey_url, Path(ROOT), time_limit_seconds=7)


@pytest.fixture
def app(valkey: redis.Redis, settings: Settings) -> Iterator[Celery]:
    del valkey  # it only has to be empty
    sender = make_app(settings)
    yield sender
    sender.close()


def read_message(valkey: redis.Redis, name: str = WORK_QUEUE) -> dict[str, Any]:
    """Return the one message in a queue."""
    (raw,) = valkey.lrange(name, 0, -1)
    parsed: dict[str, Any] = json.loads(raw)
    return parsed


def read_body(valkey: redis.Redis) -> Any:  # noqa: ANN401 - args, kwargs and embedded options
    return msgpack.unpackb(base64.b64decode(read_message(valkey)["body"]))


def unlisted_settings(app: Celery) -> set[str]:
    """Return the settings that Celery does not list."""
    return {key for key in app.conf.changes if key not in DEFAULTS} - {"deprecated_settings"}


@pytest.mark.parametrize("results", [False, True])
def test_celery_knows_every_setting(settings: Settings, results: bool) -> None:
    app = make_app(settings, results=results)
    source = inspect.getsource(celery.backends.redis)

    assert unlisted_settings(app) == UNLISTED
    assert all(f"'{key}'" in source for key in UNLISTED)


def test_a_misspelt_setting_is_detected(settings: Settings) -> None:
    app = make_app(settings)

    app.conf.update(task_acks_lat=True)

    assert unlisted_settings(app) == UNLISTED | {"task_acks_lat"}


def test_kombu_knows_every_transport_option(app: Celery) -> None:
    with app.connection_for_write() as connection, closing(connection.channel()) as channel:
        options = {*channel.from_transport_options, "visibility_timeout", *connection._extract_failover_opts()}  # noqa: SLF001 - kombu has no public list

    assert {*app.conf.broker_transport_options} - options == set()


def test_messages_and_results_are_msgpack_but_for_other_apps_callbacks(app: Celery) -> None:
    assert app.conf.accept_content == ["msgpack", "json"], "see message_check"
    assert app.conf.result_accept_content == ["msgpack"]
    assert {app.conf.task_serializer, app.conf.result_serializer, app.conf.event_serializer} == {"msgpack"}


def test_a_pickled_message_is_refused(app: Celery) -> None:
    with app.connection_for_write() as connection:
        connection.SimpleQueue("q", serializer="pickle").put({"a": 1})
        consumer = app.amqp.TaskConsumer(connection.default_channel, queues=[Queue("q")])
        received = consumer.queues[0].get()
        assert received is not None
        received.accept = consumer.accept

        with pytest.raises(ContentDisallowed):
            received.decode()


def test_a_worker_consumes_its_hosts_queues_and_the_work_queue(app: Celery) -> None:
    assert [*app.conf.task_queues] == [Queue(name) for name in (HOST_QUEUE, FILES_QUEUE, WORK_QUEUE)]


def test_the_hosts_own_queue_always_comes_first() -> None:
    order = HostQueueFirst([WORK_QUEUE, FILES_QUEUE, HOST_QUEUE])

    for last, others in [
        (WORK_QUEUE, [FILES_QUEUE, WORK_QUEUE]),
        (FILES_QUEUE, [WORK_QUEUE, FILES_QUEUE]),
        (HOST_QUEUE, [WORK_QUEUE, FILES_QUEUE]),
    ]:
        order.rotate(last)
        assert order.consume(3) == [HOST_QUEUE, *others]


def test_a_channel_polls_its_queues_in_that_order(app: Celery) -> None:
    with app.connection_for_write() as connection:
        assert isinstance(connection.default_channel._queue_cycle, HostQueueFirst)  # noqa: SLF001 - kombu's


def test_only_an_app_with_results_has_a_result_store(app: Celery, settings: Settings) -> None:
    worker = make_app(settings, results=True)

    assert app.conf.result_backend is None
    assert worker.conf.result_backend == celery_broker_url(settings)


def test_a_sent_parcel_is_found_by_its_id(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    sent = [make_parcel() for _ in range(3)]
    for each in sent:
        send_parcel(app, each, settings.inbox["drop"])

    assert queued_task_ids(valkey, [WORK_QUEUE]) == {each.id for each in sent}
    assert queued_task_ids(valkey, [FILES_QUEUE, HOST_QUEUE]) == set()


def test_a_parcel_by_reference_goes_to_its_hosts_files_queue(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    local, remote = make_parcel(by_reference=True), make_parcel(by_reference=True, host="there")
    for sent in (local, remote):
        send_parcel(app, sent, settings.inbox["drop"])

    assert queued_task_ids(valkey, [FILES_QUEUE]) == {local.id}
    assert queued_task_ids(valkey, ["inboxd.files.there"]) == {remote.id}
    assert queued_task_ids(valkey, [WORK_QUEUE]) == set()


def test_long_queues_are_read_to_the_end_and_invalid_messages_are_skipped(valkey: redis.Redis) -> None:
    for number in range(1001):
        valkey.rpush("long", json.dumps({"headers": {"id": f"id-{number}"}}))
    valkey.rpush("long", "nonsense", b"\xff\x00", json.dumps({"headers": {}}), '{"id":"tight"}')

    task_ids = queued_task_ids(valkey, ["long", "empty"])

    assert {f"id-{number}" for number in range(1001)} | {"tight"} <= task_ids
    assert len(task_ids - {""}) == 1002


def test_reading_the_queues_of_a_missing_server_raises_broker_unavailable(tmp_path: Path) -> None:
    unreachable = settings_for(f"unix://{tmp_path}/none.sock", tmp_path)

    with make_client(unreachable) as client, pytest.raises(BrokerUnavailable):
        queued_task_ids(client, [WORK_QUEUE])


def test_the_parcel_is_the_messages_only_argument(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    sent = make_parcel()
    send_parcel(app, sent, settings.inbox["drop"], retries=2)

    args, kwargs, _ = read_body(valkey)
    headers = read_message(valkey)["headers"]
    assert [parcel_from_wire(arg) for arg in args] == [sent]
    assert kwargs == {}
    assert (headers["task"], headers["id"], headers["retries"]) == (PROCESS, sent.id, 2)
    assert headers["timelimit"] == [7 + HARD_LIMIT_GRACE_SECONDS, 7]


def test_the_headers_contain_neither_content_nor_file_names(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    sent = make_parcel()
    send_parcel(app, sent, settings.inbox["drop"])

    headers = read_message(valkey)["headers"]
    text = json.dumps({**read_message(valkey), "body": None})
    assert headers["argsrepr"] == sent.id
    assert headers["kwargsrepr"] == ""
    assert "secret" not in text
    assert base64.b64encode(CONTENT).decode()[:16] not in text


@pytest.mark.parametrize("host", ["here", "there"])
def test_both_callbacks_go_to_the_host_that_owns_the_files(
    app: Celery, valkey: redis.Redis, settings: Settings, host: str
) -> None:
    sent = make_parcel(host=host)
    send_parcel(app, sent, settings.inbox["drop"])

    _, _, embedded = read_body(valkey)
    (link,), (link_error,) = embedded["callbacks"], embedded["errbacks"]
    assert (link["task"], link["options"]["queue"]) == (SUCCESS_CALLBACK, f"inboxd.host.{host}")
    assert (link_error["task"], link_error["options"]["queue"]) == (FAILURE_CALLBACK, f"inboxd.host.{host}")
    assert (tuple(link_error["args"]), link_error["immutable"]) == (("drop", sent.id), True)
    assert not link["immutable"]
    # the success callback's argument is the handlers' results, which must not appear either
    assert [(call["options"]["argsrepr"], call["options"]["kwargsrepr"]) for call in (link, link_error)] == [(sent.id, "")] * 2


def test_a_parcel_with_a_countdown_has_an_eta(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    send_parcel(app, make_parcel(), settings.inbox["drop"], countdown=1000.0)

    assert read_message(valkey)["headers"]["eta"]


def test_a_parcel_without_a_countdown_has_no_eta(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    send_parcel(app, make_parcel(), settings.inbox["drop"])

    assert read_message(valkey)["headers"]["eta"] is None


def test_unacknowledged_messages_are_kept_under_inboxds_own_keys(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    sent = make_parcel()
    send_parcel(app, sent, settings.inbox["drop"])

    with app.connection_for_write() as connection:
        received = Queue(WORK_QUEUE, channel=connection.default_channel).get(no_ack=False, accept=["msgpack"])

        assert received.headers["id"] == sent.id
        assert valkey.hlen("inboxd.unacked") == valkey.zcard("inboxd.unacked_index") == 1
        assert valkey.exists("unacked", "unacked_index") == 0
        received.ack()

    assert valkey.exists("inboxd.unacked") == 0


def quick_settings(port: int) -> Settings:
    """Return settings with short timeouts for a server on a port."""
    settings = settings_for(f"redis://127.0.0.1:{port}/0", Path(ROOT))
    limits = {"connect_timeout_seconds": TIMEOUT_SECONDS, "socket_timeout_seconds": TIMEOUT_SECONDS}
    return settings.model_copy(update={"redis": settings.redis.model_copy(update=limits)})


def assert_sending_fails_in_time(app: Celery, settings: Settings) -> None:
    started_at = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        send_parcel(app, make_parcel(), settings.inbox["drop"])

    assert time.monotonic() - started_at < 10 * TIMEOUT_SECONDS


def test_one_app_sends_before_and_after_outages() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = quick_settings(port)
    app = make_app(settings)

    for _ in range(2):
        assert_sending_fails_in_time(app, settings)
        with running_server(port), make_client(settings) as client:
            sent = make_parcel()
            send_parcel(app, sent, settings.inbox["drop"])
            assert queued_task_ids(client, [WORK_QUEUE]) == {sent.id}
    assert_sending_fails_in_time(app, settings)

    app.close()


def test_sending_to_a_silent_server_fails_within_the_timeouts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = quick_settings(listener.getsockname()[1])
        app = make_app(settings)

        assert_sending_fails_in_time(app, settings)
        assert_sending_fails_in_time(app, settings)

        app.close()


def test_a_full_server_raises_broker_unavailable(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    valkey.config_set("maxmemory", "1")
    try:
        with pytest.raises(BrokerUnavailable):
            send_parcel(app, make_parcel(), settings.inbox["drop"])
    finally:
        valkey.config_set("maxmemory", "0")

    send_parcel(app, make_parcel(), settings.inbox["drop"])
    assert len(queued_task_ids(valkey, [WORK_QUEUE])) == 1
