import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.waiting import eventually

from spool.lease import PROGRESS_KEY
from spool.outcome import FileOutcome, Verdict
from spool.progress import EXPIRE_SECONDS, REST_SECONDS, Progress

PARCEL, OTHER = f"{1:028x}", f"{2:028x}"
DONE = FileOutcome(b"x/\xff.pdf", Verdict.DONE, None, {"sha256": "0", "parts": [1, b"\xff"]})
ALONE = FileOutcome(b"b", Verdict.ALONE, "ValueError: no")


def refuse(**_: object) -> None:
    raise redis.ConnectionError("gone fishing")


NOTES_AND_DIES = """
import os, signal, sys
import redis
from spool.outcome import FileOutcome, Verdict
from spool.progress import Progress
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


def test_how_long_notes_are_kept_is_told_for_each_parcel_and_again_after_a_while(valkey: redis.Redis) -> None:
    now = 100.0
    progress = Progress(valkey, 60, lambda: now)
    for parcel in (PARCEL, OTHER):
        progress.note(parcel, DONE)
        eventually(lambda parcel=parcel: 0 < valkey.ttl(PROGRESS_KEY + parcel) <= 60)

    valkey.flushall()
    progress.note(OTHER, DONE)
    now += EXPIRE_SECONDS
    progress.note(OTHER, ALONE)

    eventually(lambda: valkey.hlen(PROGRESS_KEY + OTHER) == 2)
    assert 0 < valkey.ttl(PROGRESS_KEY + OTHER) <= 60
    progress._hang_up()


def test_what_makes_no_sense_is_passed_over(progress: Progress, valkey: redis.Redis) -> None:
    valkey.hset(PROGRESS_KEY + PARCEL, mapping={"a": b"\xc1", "b": b"\x01", "c": b"\x93\xa1x\xc0\xc0"})

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
    progress = Progress(valkey, 60, lambda: now)
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
