"""A live worker that has stopped consuming exits, so that its service manager starts a new one."""

import time
from collections.abc import Callable

import pytest
from support.live.stand import Stand

from inboxd.tasks.hardening.consumer_watchdog import EXIT_CODE

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

NON_CONSUMING = """
from celery import signals
from kombu.transport.redis import MultiChannelPoller
from inboxd.celery import app

@signals.worker_ready.connect
def stop_consuming(**_):
    MultiChannelPoller._register_BRPOP = lambda *_: None
"""


def test_a_worker_that_has_stopped_consuming_exits_and_the_next_one_continues(make_stand: MakeStand) -> None:
    stand = make_stand(work={"silent_seconds": 3.0})
    (stand.folder / "non_consuming.py").write_text(NON_CONSUMING)
    original_argv = stand.worker.argv
    stand.worker.argv = tuple("non_consuming" if word == "inboxd" else word for word in original_argv)
    stand.start()

    stand.drop(b"waiting.txt", b"content")
    stand.wait_until(lambda: not stand.worker.running, awaited="the exit of the worker that does not consume")
    assert (len(stand.log_events("worker_silent")), stand.worker.code) == (1, EXIT_CODE)
    assert stand.names("done") == set()
    stand.worker.argv = original_argv
    stand.worker.start()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"waiting.txt"}


def test_a_worker_without_broker_or_free_slot_keeps_running(make_stand: MakeStand) -> None:
    stand = make_stand(work={"silent_seconds": 8.0}).start()
    worker_pid = stand.worker.pid

    for name in (b"1.txt", b"2.txt"):  # one per slot
        stand.drop(name, b"sleep 10")
    stand.wait_until(lambda: len(stand.names("done")) == 2)
    stand.redis.kill9()
    time.sleep(5)
    stand.redis.start()
    stand.drop(b"3.txt", b"content")
    stand.wait_until(lambda: len(stand.names("done")) == 3)

    assert stand.worker.running
    assert stand.worker.pid == worker_pid
    assert stand.log_events("worker_silent") == []
