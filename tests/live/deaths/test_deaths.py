"""Deaths among many files, and with the settings that an installation has."""

import os
from collections.abc import Callable

import pytest
from support.live.stand import Stand

from inboxd.config.settings import Redis, Sweep, Work
from inboxd.messaging.queues import host_queue

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


def test_one_file_that_kills_its_worker_among_five_hundred_fails_alone(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    main = stand.worker.pid
    deadly = b"load/250 deadly.txt"

    files = {b"%d.txt" % number: b"good %d" % number for number in range(500)}
    good = stand.drop_folder(b"load", {**files, b"250 deadly.txt": b"die"})
    del good[deadly]
    stand.wait_until(lambda: stand.is_at_rest() and len(stand.names("done")) == len(good), 60)

    assert stand.tree("done") == good
    assert stand.names("failed") == {deadly, deadly + b".error.txt"}
    assert "the worker process died" in stand.note(deadly)
    calls = stand.duplicates()
    assert calls.pop(deadly) <= 1 + Work().crashes_max, "once in company, then alone"
    assert calls == {}, "what was done before is noted"
    assert stand.worker.pid == main


def test_with_default_settings_a_killed_worker_is_made_up_for_within_a_minute(make_stand: MakeStand) -> None:
    redis, work, sweep = Redis(), Work(), Sweep()
    stand = make_stand(
        redis=redis.model_dump(exclude={"url"}), work=work.model_dump(), sweep=sweep.model_dump(),
    ).start()  # fmt: skip

    stand.drop(b"large/by reference.bin", b"sleep 2\n" + bytes(100_000))
    stand.drop(b"inline.txt", b"sleep 2")
    stand.wait_until(lambda: len(stand.seen()) == 2)
    stand.worker.kill9()
    stand.worker.start()
    stand.wait_until(stand.is_at_rest, 60)

    assert stand.names("done") == {b"large/by reference.bin", b"inline.txt"}
    assert stand.names("failed") == set()
    assert stand.duplicates() == {b"large/by reference.bin": 2, b"inline.txt": 2}


def test_a_beat_starts_beside_a_pid_file_whose_number_is_another_programs(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.beat.argv = stand.beat.argv[:-1]  # as the README starts it: without --pidfile=
    pid_file = stand.folder / "celerybeat.pid"
    pid_file.write_text(f"{os.getpid()}\n", "ascii")
    stand.redis.start()

    stand.beat.start()
    stand.wait_until(lambda: stand.client.llen(host_queue("stand")))

    assert stand.beat.running
    assert pid_file.read_text("ascii") == f"{os.getpid()}\n"
