"""Which messages of another app wait, as Kombu keeps them, and what else may stand under its keys."""

import json
import time
from datetime import UTC, datetime

import pytest
import redis

from inboxd.messaging.other_app.waiting import UNACKED_INDEX_KEY, UNACKED_KEY, queue_keys, queued_tasks, received_tasks


def message(task_id: str, eta: str | None = None) -> str:
    return json.dumps({"body": "e30=", "headers": {"lang": "py", "task": "a.b", "id": task_id, "eta": eta}})


def receive(valkey: redis.Redis, task_id: str, seconds_ago: float, eta: str | None = None) -> None:
    valkey.hset(UNACKED_KEY, task_id, json.dumps([json.loads(message(task_id, eta)), "", "celery"]))
    valkey.zadd(UNACKED_INDEX_KEY, {task_id: time.time() - seconds_ago})


def test_what_is_in_a_queue_waits_whatever_its_priority(valkey: redis.Redis) -> None:
    for number, key in enumerate(queue_keys("celery")):
        valkey.lpush(key, message(f"task{number}"))
    valkey.lpush("other", message("other"))

    assert queued_tasks(valkey, "celery") == {"task0", "task1", "task2", "task3"}


def test_what_was_received_waits_for_the_rest_of_its_time(valkey: redis.Redis) -> None:
    receive(valkey, "new", 10.0)
    receive(valkey, "old", 70.0)
    receive(valkey, "later", 70.0, datetime.fromtimestamp(time.time() + 100, UTC).isoformat())
    receive(valkey, "undated", 10.0, "tomorrow")

    waiting = received_tasks(valkey, 60.0)

    assert {task_id: round(seconds) for task_id, seconds in waiting.items()} == {"new": 50, "later": 160, "undated": 50}


@pytest.mark.parametrize("key", ["celery", UNACKED_KEY, UNACKED_INDEX_KEY])
def test_a_key_of_another_type_is_none_of_kombus_and_stays(valkey: redis.Redis, key: str) -> None:
    valkey.lpush("celery", message("queued"))
    receive(valkey, "received", 10.0)
    valkey.delete(key)
    valkey.set(key, "another program's")

    waiting = queued_tasks(valkey, "celery") | received_tasks(valkey, 60.0).keys()

    assert waiting == ({"received"} if key == "celery" else {"queued"})
    assert valkey.get(key) == b"another program's"


def test_junk_among_the_messages_is_skipped(valkey: redis.Redis) -> None:
    valkey.lpush("celery", b"\xff\x00", message("queued"))
    valkey.hset(UNACKED_KEY, "junk", b"\xff")
    valkey.zadd(UNACKED_INDEX_KEY, {"junk": time.time(), "gone": time.time()})

    assert queued_tasks(valkey, "celery") - {""} == {"queued"}
    assert received_tasks(valkey, 60.0) == {}
