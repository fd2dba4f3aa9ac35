"""A worker on another host, which shares only Redis with the host of the folders."""

import sys
from collections.abc import Callable

import pytest
from support.live.stand import Program, Stand

from inboxd.messaging.queues import host_queue

pytestmark = pytest.mark.live

FILES = 200

MakeStand = Callable[..., Stand]


def add_remote_worker(stand: Stand) -> Program:
    """Add a worker with another host name, which consumes only parcels that carry their bytes."""
    argv = (sys.executable, "-m", "celery", "-A", "inboxd", "worker", "-c", "1", "-n", "remote@%h", "-Q", "inboxd.work")
    environment = stand.environment(INBOXD_HOST="elsewhere")
    return stand.program(
        "remote", argv, lambda start: " ready." in stand.programs["remote"].text(start), environment=environment
    )


def test_a_remote_worker_handles_parcels_of_many_files_which_carry_their_bytes(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.worker.argv = (*stand.worker.argv, "-Q", host_queue("stand"))  # the local worker only files
    stand.start()
    add_remote_worker(stand).start()
    stand.drop(b"first.txt", b"this file sets the handler's measured rate")
    stand.wait_until(lambda: stand.path("done", b"first.txt").exists())
    names = [b"%d.txt" % number for number in range(FILES)]

    for name in names:
        stand.drop(name, name)

    stand.wait_until(lambda: set(stand.names("done")) >= set(names))
    handled = stand.log_events("file_handled")
    assert len({line["parcel"] for line in handled}) < FILES / 2, "the files did not share parcels"
    assert {call.path for call in stand.calls()} == {b"first.txt", *names}


def test_without_a_remote_worker_parcels_go_to_the_queue_of_those_read_from_disk(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    stand.drop(b"first.txt", b"this file sets the handler's measured rate")
    stand.wait_until(lambda: stand.path("done", b"first.txt").exists())
    stand.worker.stop()
    names = [b"%d.txt" % number for number in range(FILES)]

    for name in names:
        stand.drop(name, name)

    stand.wait_until(lambda: stand.client.llen("inboxd.files.stand") > 0)
    stand.worker.start()
    stand.wait_until(lambda: set(stand.names("done")) >= set(names))
