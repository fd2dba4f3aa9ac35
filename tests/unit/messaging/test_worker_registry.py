"""Workers' registrations on a real Valkey, as a watcher reads them."""

import pytest
import redis

from inboxd.errors import BrokerUnavailable
from inboxd.messaging import worker_registry
from inboxd.messaging.queues import WORK_QUEUE, files_queue, host_queue
from inboxd.messaging.worker_registry import KEY, WorkerRegistry

OWN = [WORK_QUEUE, files_queue("here"), host_queue("here")]


@pytest.mark.parametrize(
    ("registered", "needs_inline"),
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
        "no worker", "a local worker", "a local worker for inline parcels", "a local and a remote worker", "a remote worker",
        "a remote worker with this host's name", "a remote worker that shares the folders", "a worker of another host only",
    ],
)  # fmt: skip
def test_bytes_are_needed_unless_all_consumers_can_open_the_folders(
    registered: list[tuple[str, list[str]]], needs_inline: bool, valkey: redis.Redis
) -> None:
    watcher = WorkerRegistry(valkey, "here")
    for host, queues in registered:
        WorkerRegistry(valkey, host).register(queues)

    watcher.refresh()

    assert watcher.needs_inline is needs_inline


def test_an_expired_registration_does_not_count(valkey: redis.Redis) -> None:
    watcher = WorkerRegistry(valkey, "here")
    WorkerRegistry(valkey, "there").register([WORK_QUEUE])
    (name,) = valkey.zrange(KEY, 0, -1)
    valkey.zincrby(KEY, -worker_registry.REGISTRATION_SECONDS * 1000, name)
    WorkerRegistry(valkey, "here").register(OWN)

    watcher.refresh()

    assert not watcher.needs_inline
    assert valkey.zcard(KEY) == 1


def test_a_worker_that_registers_again_counts_once(valkey: redis.Redis) -> None:
    worker = WorkerRegistry(valkey, "here")

    worker.register(OWN)
    worker.register(reversed(OWN))

    assert valkey.zcard(KEY) == 1


def test_the_registrations_are_cached_until_the_next_refresh(valkey: redis.Redis) -> None:
    watcher = WorkerRegistry(valkey, "here")
    WorkerRegistry(valkey, "here").register(OWN)
    watcher.refresh()
    valkey.flushall()

    assert not watcher.needs_inline
    watcher.refresh()
    assert watcher.needs_inline


def test_a_missing_server_raises_broker_unavailable() -> None:
    unreachable = WorkerRegistry(redis.Redis(unix_socket_path="/nowhere"), "here")

    with pytest.raises(BrokerUnavailable):
        unreachable.refresh()
    with pytest.raises(BrokerUnavailable):
        unreachable.register(OWN)
