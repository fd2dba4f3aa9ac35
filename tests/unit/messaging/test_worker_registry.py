"""Workers as they show themselves to a watcher through a real Valkey."""

import pytest
import redis

from inboxd.errors import BrokerUnavailable
from inboxd.messaging import worker_registry
from inboxd.messaging.queues import WORK_QUEUE, files_queue, host_queue
from inboxd.messaging.worker_registry import KEY, WorkerRegistry

OWN = [WORK_QUEUE, files_queue("here"), host_queue("here")]


@pytest.mark.parametrize(
    ("shown", "needed"),
    [
        ([], True),
        ([("here", OWN)], False),
        ([("here", [WORK_QUEUE, host_queue("here")])], True),
        ([("here", OWN), ("there", [WORK_QUEUE])], True),
        ([("there", [WORK_QUEUE])], True),
        ([("here", OWN), ("here", [WORK_QUEUE])], True),
        ([("there", [files_queue("here")])], False),
        ([("here", OWN), ("there", [files_queue("there"), host_queue("there")])], False),
    ],
    ids=[
        "nobody", "our own worker", "our own, which takes nothing by reference", "a helper beside it", "a helper alone",
        "a helper that was given our name", "a host that sees our disk", "a host that does not help",
    ],
)  # fmt: skip
def test_bytes_are_needed_elsewhere_or_where_nobody_sees_the_disk(
    shown: list[tuple[str, list[str]]], needed: bool, valkey: redis.Redis
) -> None:
    watcher = WorkerRegistry(valkey, "here")
    for host, queues in shown:
        WorkerRegistry(valkey, host).register(queues)

    watcher.refresh()

    assert watcher.needs_inline is needed


def test_who_was_not_heard_of_for_too_long_does_not_count(valkey: redis.Redis) -> None:
    watcher = WorkerRegistry(valkey, "here")
    WorkerRegistry(valkey, "there").register([WORK_QUEUE])
    (gone,) = valkey.zrange(KEY, 0, -1)
    valkey.zincrby(KEY, -worker_registry.REGISTRATION_SECONDS * 1000, gone)
    WorkerRegistry(valkey, "here").register(OWN)

    watcher.refresh()

    assert not watcher.needs_inline
    assert valkey.zcard(KEY) == 1


def test_a_worker_that_shows_itself_again_is_one(valkey: redis.Redis) -> None:
    worker = WorkerRegistry(valkey, "here")

    worker.register(OWN)
    worker.register(reversed(OWN))

    assert valkey.zcard(KEY) == 1


def test_what_was_seen_counts_until_the_next_look(valkey: redis.Redis) -> None:
    watcher = WorkerRegistry(valkey, "here")
    WorkerRegistry(valkey, "here").register(OWN)
    watcher.refresh()
    valkey.flushall()

    assert not watcher.needs_inline
    watcher.refresh()
    assert watcher.needs_inline


def test_an_absent_broker_is_an_error() -> None:
    away = WorkerRegistry(redis.Redis(unix_socket_path="/nowhere"), "here")

    with pytest.raises(BrokerUnavailable):
        away.refresh()
    with pytest.raises(BrokerUnavailable):
        away.register(OWN)
