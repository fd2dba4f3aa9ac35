import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import redis
from support.crash.fuse import Blown, Fuse
from support.repository import REPOSITORY
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.broker.connection import make_client
from inboxd.broker.leases import PROGRESS_KEY
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.tasks.worker import progress_journal
from inboxd.tasks.worker.progress import PAUSE_SECONDS, Progress, unpack_records
from inboxd.tasks.worker.progress_journal import ProgressJournal

PARCEL, OTHER = f"{1:028x}", f"{2:028x}"
DONE = FileOutcome(b"x/\xff.pdf", Verdict.DONE, None, {"sha256": "0", "parts": [1, b"\xff"]})
ALONE = FileOutcome(b"b", Verdict.RETRY_ISOLATED, "ValueError: no")

TRIES_PER_SEND = 4
"""A stale connection is replaced once, and a client tries each connection twice."""


def refuse(**_: object) -> None:
    raise redis.ConnectionError("gone fishing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "progress"


@pytest.fixture
def make(valkey: redis.Redis, folder: Path) -> Iterator[Callable[[], Progress]]:
    """Return what makes a process's progress: all share the folder."""
    made = []

    def one() -> Progress:
        made.append(Progress(valkey, 60, Disk(), folder))
        return made[-1]

    yield one
    for progress in made:
        progress.flush()  # not into the next test
        progress.close()


@pytest.fixture
def progress(make: Callable[[], Progress]) -> Progress:
    return make()


DOES_AND_DIES = """
import os, signal, sys
from pathlib import Path
import redis
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.tasks.worker.progress import Progress
url, folder, parcel, work = sys.argv[1:]
progress = Progress(redis.Redis.from_url(url), 60, Disk(), Path(folder))
if work == "begin":
    progress.send_orphaned()
else:
    for number in range(100):
        progress.record(parcel, FileOutcome(b"%d" % number, Verdict.DONE))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(valkey_url: str, folder: Path) -> Callable[[str], None]:
    """Return what has another process do something, "note" or "begin", and be killed right after."""

    def run(work: str) -> None:
        argv = [sys.executable, "-c", DOES_AND_DIES, valkey_url, str(folder), PARCEL, work]
        ended = subprocess.run(argv, cwd=REPOSITORY, check=False)
        assert ended.returncode == -signal.SIGKILL

    return run


def note_many(progress: Progress, count: int = 100) -> None:
    for number in range(count):
        progress.record(PARCEL, FileOutcome(b"%d" % number, Verdict.DONE))


def noted(valkey: redis.Redis, parcel: str = PARCEL) -> int:
    return valkey.hlen(PROGRESS_KEY + parcel)


def calls(valkey: redis.Redis) -> int:
    """Return how many messages with notes the server has had."""
    return int(valkey.info("commandstats").get("cmdstat_hset", {"calls": 0})["calls"])


def test_what_is_noted_is_read_back_as_it_was(progress: Progress, valkey: redis.Redis) -> None:
    progress.record(PARCEL, DONE)
    progress.record(PARCEL, ALONE)

    eventually(lambda: noted(valkey) == 2)
    assert progress.read(PARCEL) == {DONE.path: DONE, ALONE.path: ALONE}
    assert 0 < valkey.ttl(PROGRESS_KEY + PARCEL) <= 60
    assert progress.read(f"{2:028x}") == {}


def test_what_makes_no_sense_is_passed_over(progress: Progress, valkey: redis.Redis) -> None:
    unknown, not_bytes = b"\x94\xc4\x01x\xa1x\xc0\xc0", b"\x94\xa1x\xa4done\xc0\xc0"
    valkey.hset(PROGRESS_KEY + PARCEL, mapping={"a": b"\xc1", "b": b"\x01", "c": unknown, "d": not_bytes, "e": b""})

    assert progress.read(PARCEL) == {}


def test_what_was_noted_right_before_a_kill_is_known_to_others_and_sent_by_the_next(
    killed: Callable[[str], None], make: Callable[[], Progress], valkey: redis.Redis, folder: Path
) -> None:
    killed("note")
    other = make()
    valkey.delete(PROGRESS_KEY + PARCEL)  # as if all had been killed before the thread came by

    assert list(other.read(PARCEL)) == [b"%d" % number for number in range(100)]
    assert other.read(OTHER) == {}
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())] == ["0o700", "0o600"]

    other.send_orphaned()

    eventually(lambda: noted(valkey) == 100)
    assert 0 < valkey.ttl(PROGRESS_KEY + PARCEL) <= 60
    assert list(folder.iterdir()) == []


def test_what_can_not_be_sent_stays_on_the_disk(
    killed: Callable[[str], None], make: Callable[[], Progress], folder: Path, valkey: redis.Redis
) -> None:
    killed("note")
    away = Progress(redis.Redis(unix_socket_path=f"/nowhere/{os.getpid()}"), 60, Disk(), folder)

    away.send_orphaned()

    assert len(list(folder.iterdir())) == 1
    valkey.delete(PROGRESS_KEY + PARCEL)
    assert len(make().read(PARCEL)) == 100


def test_what_a_living_process_has_noted_is_left_to_it(
    killed: Callable[[str], None], make: Callable[[], Progress], folder: Path
) -> None:
    mine = make()
    note_many(mine)

    killed("begin")

    assert len(list(folder.iterdir())) == 1


def test_notes_are_sent_together_and_without_waiting_for_another(progress: Progress, valkey: redis.Redis) -> None:
    before = calls(valkey)

    note_many(progress)

    eventually(lambda: noted(valkey) == 100)
    assert 1 <= calls(valkey) - before < 100 / 4


def test_what_could_not_be_sent_is_sent_later(valkey: redis.Redis, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    progress = Progress(valkey, 60, Disk(), folder, lambda: now[0])
    monkeypatch.setattr(valkey.connection_pool, "connection_class", refuse)
    note_many(progress)
    progress.flush()
    monkeypatch.undo()
    assert len(progress.read(PARCEL)) == 100

    now[0] += PAUSE_SECONDS + 1.0
    progress.flush()
    eventually(lambda: noted(valkey) == 100)


def test_what_is_flushed_is_sent_once(progress: Progress, valkey: redis.Redis) -> None:
    note_many(progress)
    progress.flush()
    eventually(lambda: noted(valkey) == 100)
    valkey.delete(PROGRESS_KEY + PARCEL)

    progress.record(OTHER, DONE)
    progress.flush()

    eventually(lambda: noted(valkey, OTHER) == 1)
    assert noted(valkey) == 0


def test_of_a_note_that_was_cut_short_and_of_the_parcel_before_nothing_is_known(progress: Progress, folder: Path) -> None:
    note_many(progress)
    progress.flush()
    progress.record(OTHER, ALONE)
    progress.record(OTHER, DONE)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])

    assert progress_journal.read_records(Disk(), folder, PARCEL) == b""
    assert [note[0] for note in unpack_records(progress_journal.read_records(Disk(), folder, OTHER))] == [ALONE.path]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_who_dies_at_any_operation_leaves_notes_of_one_parcel_none_of_them_lost(after: bool, folder: Path) -> None:
    for point in itertools.count(1):
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        fuse, known = Fuse(Disk(), point, after=after), {PARCEL: 0, OTHER: 0}
        with contextlib.suppress(Blown):
            book = ProgressJournal(fuse, folder)
            for parcel in known:
                known = dict.fromkeys(known, 0)  # the one before is settled
                book.begin(parcel)
                for number in range(3):
                    book.add(msgpack.packb([b"%d" % number, parcel]))
                    known[parcel] += 1
        found = {parcel: [*unpack_records(progress_journal.read_records(Disk(), folder, parcel))] for parcel in known}

        assert sum(map(bool, found.values())) <= 1
        for parcel, notes in found.items():
            assert notes == [[b"%d" % number, parcel] for number in range(len(notes))]
            assert len(notes) >= known[parcel]
        if not fuse.blown:
            break
    assert point > 10


def test_a_file_that_was_removed_is_made_anew_for_the_next_parcel(progress: Progress, folder: Path) -> None:
    note_many(progress)
    (file,) = folder.iterdir()
    file.unlink()

    progress.record(OTHER, DONE)

    assert progress_journal.read_records(Disk(), folder, OTHER)


def test_of_processes_that_nobody_can_look_for_notes_are_kept_for_a_while(
    killed: Callable[[str], None], make: Callable[[], Progress], folder: Path
) -> None:
    killed("note")
    (file,) = folder.iterdir()
    elsewhere = file.rename(folder / "another boot,1,2")

    make().send_orphaned()
    assert elsewhere.exists()
    os.utime(elsewhere, (time.time() - 61,) * 2)
    make().send_orphaned()

    assert not elsewhere.exists()


def test_what_a_time_limit_has_left_is_sent_before_the_next_parcel_is_noted(progress: Progress, valkey: redis.Redis) -> None:
    note_many(progress)
    progress.record(OTHER, DONE)

    eventually(lambda: (noted(valkey), noted(valkey, OTHER)) == (100, 1))


def test_where_nothing_can_be_written_each_note_is_sent_at_once(valkey: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "var").write_bytes(b"no folder")
    progress = Progress(valkey, 60, Disk(), tmp_path / "var" / "progress")
    before = calls(valkey)

    note_many(progress, 20)

    eventually(lambda: noted(valkey) == 20)
    assert calls(valkey) - before == 20
    progress.close()


def test_a_thread_beside_the_main_one_sends_its_notes_at_once(progress: Progress, valkey: redis.Redis, folder: Path) -> None:
    thread = threading.Thread(target=note_many, args=(progress, 5))
    thread.start()
    thread.join()

    eventually(lambda: noted(valkey) == 5)
    assert not folder.exists()


def test_a_line_that_breaks_is_made_anew_at_once(progress: Progress, valkey: redis.Redis) -> None:
    progress.record(PARCEL, DONE)
    eventually(lambda: noted(valkey) == 1)
    valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    progress.record(PARCEL, ALONE)

    eventually(lambda: noted(valkey) == 2)


def test_a_redis_that_was_away_is_asked_again_after_a_rest(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 100.0
    progress = Progress(valkey, 60, Disk(), tmp_path / "file" / "progress", lambda: now)
    (tmp_path / "file").write_bytes(b"nothing can be written here")
    monkeypatch.setattr(valkey.connection_pool, "connection_class", refuse)
    progress.record(PARCEL, DONE)
    monkeypatch.undo()

    progress.record(PARCEL, DONE)
    assert progress.read(PARCEL) == {}
    now += PAUSE_SECONDS
    progress.record(PARCEL, DONE)

    eventually(lambda: progress.read(PARCEL) != {})
    progress.close()


@pytest.mark.parametrize("writable", [True, False])
def test_without_a_redis_nobody_is_kept_waiting(writable: bool, tmp_path: Path) -> None:
    """A refused connection is tried as often as the settings' client does; then Redis is left alone for PAUSE_SECONDS."""
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / ("var" if writable else "file") / "progress"
    client = make_client(settings_for(f"unix://{tmp_path}/nowhere.sock", tmp_path))
    attempts = []

    class Refused(redis.UnixDomainSocketConnection):
        def _connect(self) -> socket.socket:
            attempts.append(1)
            return super()._connect()

    client.connection_pool.connection_class = Refused
    progress = Progress(client, 60, Disk(), folder, lambda: 0.0)

    note_many(progress, 1000)
    progress.flush()

    assert 1 <= len(attempts) <= TRIES_PER_SEND
