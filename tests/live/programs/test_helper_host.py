"""A worker on another host, which has nothing but Redis in common with the owner of the folders."""

import sys
from collections.abc import Callable

import pytest
from support.live.stand import Program, Stand

from inboxd.messaging.queues import host_queue

pytestmark = pytest.mark.live

FILES = 200

MakeStand = Callable[..., Stand]


def helper(stand: Stand) -> Program:
    """Add a worker that takes parcels which carry their bytes, and only these."""
    argv = (sys.executable, "-m", "celery", "-A", "inboxd", "worker", "-c", "1", "-n", "helper@%h", "-Q", "inboxd.work")
    environment = stand.environment(INBOXD_HOST="elsewhere")
    return stand.program(
        "helper", argv, lambda start: " ready." in stand.programs["helper"].text(start), environment=environment
    )


def test_while_it_is_there_parcels_of_many_carry_their_bytes_to_it(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.worker.argv = (*stand.worker.argv, "-Q", host_queue("stand"))  # the owner's own worker only files away
    stand.start()
    helper(stand).start()
    stand.drop(b"first.txt", b"the handler's pace is learnt with it")
    stand.wait_until(lambda: stand.path("done", b"first.txt").exists())
    names = [b"%d.txt" % number for number in range(FILES)]

    for name in names:
        stand.drop(name, name)

    stand.wait_until(lambda: set(stand.names("done")) >= set(names))
    handled = stand.log_events("file_handled")
    assert len({line["parcel"] for line in handled}) < FILES / 2, "they did not travel together"
    assert {call.path for call in stand.calls()} == {b"first.txt", *names}


def test_without_one_they_are_read_from_the_disk(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    stand.drop(b"first.txt", b"the handler's pace is learnt with it")
    stand.wait_until(lambda: stand.path("done", b"first.txt").exists())
    stand.worker.stop()
    names = [b"%d.txt" % number for number in range(FILES)]

    for name in names:
        stand.drop(name, name)

    stand.wait_until(lambda: stand.client.llen("inboxd.files.stand") > 0)
    stand.worker.start()
    stand.wait_until(lambda: set(stand.names("done")) >= set(names))
