"""A worker that lives, and has stopped to ask its queues: it ends itself, so that a fresh one takes its place."""

import time
from collections.abc import Callable

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

DEAF = """
from celery import signals
from kombu.transport.redis import MultiChannelPoller
from inboxd.celery import app

@signals.worker_ready.connect
def lose_the_queues(**_):
    MultiChannelPoller._register_BRPOP = lambda *_: None
"""


def test_a_worker_that_has_stopped_consuming_ends_and_the_next_one_works_on(make_stand: MakeStand) -> None:
    stand = make_stand(work={"silent_seconds": 3.0})
    (stand.folder / "deaf.py").write_text(DEAF)
    sound = stand.worker.argv
    stand.worker.argv = tuple("deaf" if word == "inboxd" else word for word in sound)
    stand.start()

    stand.drop(b"waiting.txt", b"content")
    stand.wait_until(lambda: not stand.worker.running, 20, awaited="the deaf worker to end")
    assert len(stand.log_events("worker_silent")) == 1
    assert stand.names("done") == set()
    stand.worker.argv = sound
    stand.worker.start()
    stand.wait_until(stand.is_at_rest)

    assert stand.names("done") == {b"waiting.txt"}


def test_a_worker_without_a_broker_or_without_a_free_slot_is_left_alone(make_stand: MakeStand) -> None:
    stand = make_stand(work={"silent_seconds": 8.0}).start()
    main = stand.worker.pid

    for name in (b"1.txt", b"2.txt"):  # as many as it has slots
        stand.drop(name, b"sleep 10")
    stand.wait_until(lambda: len(stand.names("done")) == 2)
    stand.redis.kill9()
    time.sleep(5)
    stand.redis.start()
    stand.drop(b"3.txt", b"content")
    stand.wait_until(lambda: len(stand.names("done")) == 3)

    assert stand.worker.running
    assert stand.worker.pid == main
    assert stand.log_events("worker_silent") == []
