import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from support.waiting import eventually

from spool.lease import PROGRESS_KEY
from spool.outcome import FileOutcome, Verdict
from tasks import pages
from tasks.pages import Page, Pages
from tasks.progress import REST_SECONDS, SEND_SECONDS, Progress

PARCEL = f"{1:028x}"
DONE = FileOutcome(b"x/\xff.pdf", Verdict.DONE, None, {"sha256": "0", "parts": [1, b"\xff"]})
ALONE = FileOutcome(b"b", Verdict.ALONE, "ValueError: no")


def refuse(**_: object) -> None:
    raise redis.ConnectionError("gone fishing")


NOTES_AND_DIES = """
import os, signal, sys
import redis
from spool.outcome import FileOutcome, Verdict
from tasks.progress import Progress
progress = Progress(redis.Redis.from_url(sys.argv[1]), 60)
for number in range(1000):
    progress.note(sys.argv[2], FileOutcome(b"%d" % number, Verdict.DONE))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def progress(valkey: redis.Redis) -> Iterator[Progress]:
    made = Progress(valkey, 60)
    yield made
    made._hang_up()


def test_what_is_noted_is_read_back_as_it_was(progress: Progress, valkey: redis.Redis) -> None:
    progress.note(PARCEL, DONE)
    progress.note(PARCEL, ALONE)

    eventually(lambda: progress.read(PARCEL) == {DONE.path: DONE, ALONE.path: ALONE})
    assert 0 < valkey.ttl(PROGRESS_KEY + PARCEL) <= 60
    assert progress.read(f"{2:028x}") == {}


def test_what_makes_no_sense_is_passed_over(progress: Progress, valkey: redis.Redis) -> None:
    valkey.hset(PROGRESS_KEY + PARCEL, mapping={"a": b"\xc1", "b": b"\x01", "c": b"\x94\xa1x\xa1x\xc0\xc0", "d": b""})

    assert progress.read(PARCEL) == {}


def test_what_was_noted_right_before_a_kill_is_known(progress: Progress, valkey_url: str) -> None:
    argv = [sys.executable, "-c", NOTES_AND_DIES, valkey_url, PARCEL]
    ended = subprocess.run(argv, cwd=Path(__file__).parents[2], check=False)

    assert ended.returncode == -signal.SIGKILL
    eventually(lambda: len(progress.read(PARCEL)) == 1000)


def test_a_line_that_breaks_is_made_anew_at_once(progress: Progress, valkey: redis.Redis) -> None:
    progress.note(PARCEL, DONE)
    eventually(lambda: progress.read(PARCEL) != {})
    valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    progress.note(PARCEL, ALONE)

    eventually(lambda: ALONE.path in progress.read(PARCEL))


def test_a_redis_that_was_away_is_asked_again_after_a_rest(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    progress = Progress(valkey, 60, clock=lambda: now)
    monkeypatch.setattr(valkey.connection_pool, "connection_class", refuse)
    progress.note(PARCEL, DONE)
    monkeypatch.undo()

    progress.note(PARCEL, DONE)
    assert progress.read(PARCEL) == {}
    now += REST_SECONDS
    progress.note(PARCEL, DONE)

    eventually(lambda: progress.read(PARCEL) != {})
    progress._hang_up()


def test_without_a_redis_nothing_is_noted_and_nobody_is_kept_waiting() -> None:
    progress = Progress(redis.Redis(unix_socket_path=f"/nowhere/{os.getpid()}"), 60)

    begun = time.monotonic()
    for _ in range(1000):
        progress.note(PARCEL, DONE)

    assert time.monotonic() - begun < REST_SECONDS


class Place:
    """Stands for a process of a pool: its place there."""

    def __init__(self, index: int) -> None:
        self.index = index


@pytest.fixture
def of_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "current_process", lambda: Place(0))


def killed_after(work: Callable[[], object]) -> None:
    """Do something in a child of ours, which is killed right after."""
    if (child := os.fork()) == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.usefixtures("of_a_pool")
def test_what_a_killed_child_has_noted_is_known_to_its_siblings_and_to_its_successor(valkey: redis.Redis) -> None:
    shared, now = Pages(2), 100.0
    ours, sibling = (Progress(valkey, 60, shared, clock=lambda: now) for _ in range(2))

    killed_after(lambda: [ours.note(PARCEL, FileOutcome(b"%d" % number, Verdict.DONE)) for number in range(100)])

    eventually(lambda: valkey.hlen(PROGRESS_KEY + PARCEL) == 1)  # the clock stands still: the first was sent
    assert list(sibling.read(PARCEL)) == [b"%d" % number for number in range(100)]
    valkey.flushall()
    assert len(sibling.read(PARCEL)) == 100

    ours.note(f"{2:028x}", DONE)  # by the one that has taken its place

    eventually(lambda: valkey.hlen(PROGRESS_KEY + PARCEL) == 99)  # what was not sent yet
    ours._hang_up()


@pytest.mark.usefixtures("of_a_pool")
def test_notes_are_sent_together_but_not_late(valkey: redis.Redis) -> None:
    now = 100.0
    progress = Progress(valkey, 60, Pages(1), clock=lambda: now)
    for step in range(4):
        progress.note(PARCEL, FileOutcome(b"%d" % step, Verdict.DONE))
        now += SEND_SECONDS / 2

    eventually(lambda: set(valkey.hkeys(PROGRESS_KEY + PARCEL)) == {b"0", b"1", b"2"})
    assert 0 < valkey.ttl(PROGRESS_KEY + PARCEL) <= 60
    progress._hang_up()


@pytest.mark.usefixtures("of_a_pool")
def test_more_than_a_page_holds_is_sent(valkey: redis.Redis) -> None:
    progress = Progress(valkey, 60, Pages(1), clock=lambda: 100.0)
    result = "x" * (pages.ROOM_BYTES // 2)
    for number in range(5):
        progress.note(PARCEL, FileOutcome(b"%d" % number, Verdict.DONE, None, result))

    eventually(lambda: len(progress.read(PARCEL)) == 5)
    progress._hang_up()


def test_a_page_has_room_for_so_much_and_is_about_one_thing() -> None:
    page = Page(memoryview(bytearray(48 + 5)))
    assert page.title == ""

    page.begin(PARCEL)
    assert page.add(b"123")
    assert not page.add(b"456")
    assert page.read(PARCEL) == page.unsent() == b"123"
    page.sent()
    assert page.add(b"45")
    assert (page.unsent(), page.read(PARCEL), page.read("other")) == (b"45", b"12345", b"")

    page.begin("other")
    assert (page.unsent(), page.read(PARCEL), page.title) == (b"", b"", "other")


def test_a_process_beside_a_pool_and_one_beyond_the_last_page_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Pages(2)
    assert shared.mine() is None
    mine = []
    for index in range(3):
        monkeypatch.setattr(pages, "current_process", lambda index=index: Place(index))
        mine.append(shared.mine())

    assert mine[0] is not None
    assert mine[1] is not None
    assert mine[0] is not mine[1]
    assert mine[2] is None
