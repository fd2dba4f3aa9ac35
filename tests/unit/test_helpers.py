"""Workers as they show themselves to a watcher through a real Valkey."""

import pytest
import redis

from inboxd.errors import BrokerUnavailable
from inboxd.messaging import worker_registry
from inboxd.messaging.queues import WORK_QUEUE, files_queue, host_queue
from inboxd.messaging.worker_registry import KEY, Helpers

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
    watcher = Helpers(valkey, "here")
    for host, queues in shown:
        Helpers(valkey, host).show(queues)

    watcher.look()

    assert watcher.needed is needed


def test_who_was_not_heard_of_for_too_long_does_not_count(valkey: redis.Redis) -> None:
    watcher = Helpers(valkey, "here")
    Helpers(valkey, "there").show([WORK_QUEUE])
    (gone,) = valkey.zrange(KEY, 0, -1)
    valkey.zincrby(KEY, -worker_registry.FRESH_SECONDS * 1000, gone)
    Helpers(valkey, "here").show(OWN)

    watcher.look()

    assert not watcher.needed
    assert valkey.zcard(KEY) == 1


def test_a_worker_that_shows_itself_again_is_one(valkey: redis.Redis) -> None:
    worker = Helpers(valkey, "here")

    worker.show(OWN)
    worker.show(reversed(OWN))

    assert valkey.zcard(KEY) == 1


def test_what_was_seen_counts_until_the_next_look(valkey: redis.Redis) -> None:
    watcher = Helpers(valkey, "here")
    Helpers(valkey, "here").show(OWN)
    watcher.look()
    valkey.flushall()

    assert not watcher.needed
    watcher.look()
    assert watcher.needed


def test_an_absent_broker_is_an_error() -> None:
    away = Helpers(redis.Redis(unix_socket_path="/nowhere"), "here")

    with pytest.raises(BrokerUnavailable):
        away.look()
    with pytest.raises(BrokerUnavailable):
        away.show(OWN)
