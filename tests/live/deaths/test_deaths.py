"""Workers that die among many files, or with default settings, and a beat beside another program's pid file."""

import os
from collections.abc import Callable

import pytest
from support.live.stand import Stand

from inboxd.config.tables import Redis, Sweep, Work
from inboxd.messaging.queues import host_queue

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


def test_of_500_files_only_the_one_that_kills_its_worker_fails(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    worker_pid = stand.worker.pid
    deadly = b"load/250 deadly.txt"

    files = {b"%d.txt" % number: b"good %d" % number for number in range(500)}
    digests = stand.drop_folder(b"load", {**files, b"250 deadly.txt": b"die"})
    del digests[deadly]
    stand.wait_until(lambda: stand.has_no_pending_files() and len(stand.names("done")) == len(digests))

    assert stand.tree("done") == digests
    assert stand.names("failed") == {deadly, deadly + b".error.txt"}
    assert "the worker process died" in stand.note(deadly)
    duplicates = stand.duplicates()
    assert duplicates.pop(deadly) <= 1 + Work().crashes_max, "called once in its first parcel, then only alone"
    assert duplicates == {}, "a recorded outcome must not be handled again"
    assert stand.worker.pid == worker_pid


def test_with_default_settings_a_killed_workers_files_are_filed_within_a_minute(make_stand: MakeStand) -> None:
    redis, work, sweep = Redis(), Work(), Sweep()
    stand = make_stand(
        redis=redis.model_dump(exclude={"url"}), work=work.model_dump(), sweep=sweep.model_dump(),
    ).start()  # fmt: skip

    stand.drop(b"large/by reference.bin", b"sleep 2\n" + bytes(100_000))
    stand.drop(b"inline.txt", b"sleep 2")
    stand.wait_until(lambda: len(stand.calls()) == 2)
    stand.worker.kill9()
    stand.worker.start()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"large/by reference.bin", b"inline.txt"}
    assert stand.names("failed") == set()
    assert stand.duplicates() == {b"large/by reference.bin": 2, b"inline.txt": 2}


def test_beat_starts_despite_a_pid_file_with_another_programs_process_id(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.beat.argv = stand.beat.argv[:-1]  # as the README starts it: without --pidfile=
    pid_file = stand.folder / "celerybeat.pid"
    pid_file.write_text(f"{os.getpid()}\n", "ascii")
    stand.redis.start()

    stand.beat.start()
    stand.wait_until(lambda: stand.client.llen(host_queue("stand")))

    assert stand.beat.running
    assert pid_file.read_text("ascii") == f"{os.getpid()}\n"
