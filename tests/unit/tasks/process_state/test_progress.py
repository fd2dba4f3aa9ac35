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
from support.crash.fuse import Fuse, ProcessDied
from support.repository import REPOSITORY
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.broker.connection import make_client
from inboxd.broker.leases import PROGRESS_KEY
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.spool.failure import FailureKind
from inboxd.tasks.process_state import progress_journal
from inboxd.tasks.process_state.progress import PAUSE_SECONDS, Progress, unpack_records
from inboxd.tasks.process_state.progress_journal import ProgressJournal

PARCEL, OTHER = f"{1:028x}", f"{2:028x}"
DONE = FileOutcome(b"x/\xff.pdf", Verdict.DONE, None, {"sha256": "0", "parts": [1, b"\xff"]})
RAISED = FileOutcome(b"b", Verdict.RETRY_ISOLATED, "ValueError: no", kind=FailureKind.TIME_LIMIT)

TRIES_PER_SEND = 4
"""A stale connection is replaced once, and a client tries each connection twice."""


def refuse(**_: object) -> None:
    raise redis.ConnectionError("unavailable")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "progress"


@pytest.fixture
def make(valkey: redis.Redis, folder: Path) -> Iterator[Callable[[], Progress]]:
    """Return a function that makes the progress of another process, with the same folder."""
    created = []

    def make_progress() -> Progress:
        created.append(Progress(valkey, 60, Disk(), folder))
        return created[-1]

    yield make_progress
    for progress in created:
        progress.flush()  # not during the next test
        progress.close()


@pytest.fixture
def progress(make: Callable[[], Progress]) -> Progress:
    return make()


WORK_AND_DIE = """
import os, signal, sys
from pathlib import Path
import redis
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.tasks.process_state.progress import Progress
url, folder, parcel, work = sys.argv[1:]
progress = Progress(redis.Redis.from_url(url), 60, Disk(), Path(folder))
if work == "send":
    progress.send_orphaned()
else:
    for number in range(100):
        progress.record(parcel, FileOutcome(b"%d" % number, Verdict.DONE))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(valkey_url: str, folder: Path) -> Callable[[str], None]:
    """Return a function that runs a process which does some work, "record" or "send", and is killed right after."""

    def run(work: str) -> None:
        argv = [sys.executable, "-c", WORK_AND_DIE, valkey_url, str(folder), PARCEL, work]
        completed = subprocess.run(argv, cwd=REPOSITORY, check=False)
        assert completed.returncode == -signal.SIGKILL

    return run


def record_many(progress: Progress, count: int = 100) -> None:
    for number in range(count):
        progress.record(PARCEL, FileOutcome(b"%d" % number, Verdict.DONE))


def count_sent(valkey: redis.Redis, parcel: str = PARCEL) -> int:
    return valkey.hlen(PROGRESS_KEY + parcel)


def count_commands(valkey: redis.Redis) -> int:
    """Return how many commands with records the server has executed."""
    return int(valkey.info("commandstats").get("cmdstat_hset", {"calls": 0})["calls"])


def test_records_are_read_back_unchanged(progress: Progress, valkey: redis.Redis) -> None:
    progress.record(PARCEL, DONE)
    progress.record(PARCEL, RAISED)

    eventually(lambda: count_sent(valkey) == 2)
    assert progress.read(PARCEL) == {DONE.path: DONE, RAISED.path: RAISED}
    assert 0 < valkey.ttl(PROGRESS_KEY + PARCEL) <= 60
    assert progress.read(f"{2:028x}") == {}


def test_invalid_records_are_skipped(progress: Progress, valkey: redis.Redis) -> None:
    unknown, not_bytes = b"\x94\xc4\x01x\xa1x\xc0\xc0", b"\x94\xa1x\xa4done\xc0\xc0"
    valkey.hset(PROGRESS_KEY + PARCEL, mapping={"a": b"\xc1", "b": b"\x01", "c": unknown, "d": not_bytes, "e": b""})

    assert progress.read(PARCEL) == {}


def test_records_written_right_before_a_kill_are_readable_and_sent_by_the_next_process(
    killed: Callable[[str], None], make: Callable[[], Progress], valkey: redis.Redis, folder: Path
) -> None:
    killed("record")
    other = make()
    valkey.delete(PROGRESS_KEY + PARCEL)  # as if all processes had been killed before the thread sent anything

    assert list(other.read(PARCEL)) == [b"%d" % number for number in range(100)]
    assert other.read(OTHER) == {}
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())] == ["0o700", "0o600"]

    other.send_orphaned()

    eventually(lambda: count_sent(valkey) == 100)
    assert 0 < valkey.ttl(PROGRESS_KEY + PARCEL) <= 60
    assert list(folder.iterdir()) == []


def test_records_that_can_not_be_sent_stay_on_the_disk(
    killed: Callable[[str], None], make: Callable[[], Progress], folder: Path, valkey: redis.Redis
) -> None:
    killed("record")
    unsent = Progress(redis.Redis(unix_socket_path=f"/nowhere/{os.getpid()}"), 60, Disk(), folder)

    unsent.send_orphaned()

    assert len(list(folder.iterdir())) == 1
    valkey.delete(PROGRESS_KEY + PARCEL)
    assert len(make().read(PARCEL)) == 100


def test_the_journal_of_a_living_process_is_left_alone(
    killed: Callable[[str], None], make: Callable[[], Progress], folder: Path
) -> None:
    mine = make()
    record_many(mine)

    killed("send")

    assert len(list(folder.iterdir())) == 1


def test_records_are_sent_in_batches_without_a_flush(progress: Progress, valkey: redis.Redis) -> None:
    before = count_commands(valkey)

    record_many(progress)

    eventually(lambda: count_sent(valkey) == 100)
    assert 1 <= count_commands(valkey) - before < 100 / 4


def test_records_that_could_not_be_sent_are_sent_later(
    valkey: redis.Redis, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    progress = Progress(valkey, 60, Disk(), folder, lambda: now[0])
    monkeypatch.setattr(valkey.connection_pool, "connection_class", refuse)
    record_many(progress)
    progress.flush()
    monkeypatch.undo()
    assert len(progress.read(PARCEL)) == 100

    now[0] += PAUSE_SECONDS + 1.0
    progress.flush()
    eventually(lambda: count_sent(valkey) == 100)


def test_flushed_records_are_sent_once(progress: Progress, valkey: redis.Redis) -> None:
    record_many(progress)
    progress.flush()
    eventually(lambda: count_sent(valkey) == 100)
    valkey.delete(PROGRESS_KEY + PARCEL)

    progress.record(OTHER, DONE)
    progress.flush()

    eventually(lambda: count_sent(valkey, OTHER) == 1)
    assert count_sent(valkey) == 0


def test_a_truncated_record_and_the_previous_parcels_records_are_not_read(progress: Progress, folder: Path) -> None:
    record_many(progress)
    progress.flush()
    progress.record(OTHER, RAISED)
    progress.record(OTHER, DONE)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])

    assert progress_journal.read_records(Disk(), folder, PARCEL) == b""
    assert [record[0] for record in unpack_records(progress_journal.read_records(Disk(), folder, OTHER))] == [RAISED.path]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_operation_loses_no_record_of_the_current_parcel(after: bool, folder: Path) -> None:
    for point in itertools.count(1):
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        fuse, written = Fuse(Disk(), point, after=after), {PARCEL: 0, OTHER: 0}
        with contextlib.suppress(ProcessDied):
            journal = ProgressJournal(fuse, folder)
            for parcel in written:
                written = dict.fromkeys(written, 0)  # the previous parcel is finished
                journal.begin(parcel)
                for number in range(3):
                    journal.add(msgpack.packb([b"%d" % number, parcel]))
                    written[parcel] += 1
        found = {parcel: [*unpack_records(progress_journal.read_records(Disk(), folder, parcel))] for parcel in written}

        assert sum(map(bool, found.values())) <= 1
        for parcel, records in found.items():
            assert records == [[b"%d" % number, parcel] for number in range(len(records))]
            assert len(records) >= written[parcel]
        if not fuse.blown:
            break
    assert point > 10


def test_a_removed_journal_is_recreated_for_the_next_parcel(progress: Progress, folder: Path) -> None:
    record_many(progress)
    (file,) = folder.iterdir()
    file.unlink()

    progress.record(OTHER, DONE)

    assert progress_journal.read_records(Disk(), folder, OTHER)


def test_the_journal_of_a_process_of_unknown_liveness_is_kept_for_keep_seconds(
    killed: Callable[[str], None], make: Callable[[], Progress], folder: Path
) -> None:
    killed("record")
    (file,) = folder.iterdir()
    elsewhere = file.rename(folder / "another boot,1,2")

    make().send_orphaned()
    assert elsewhere.exists()
    os.utime(elsewhere, (time.time() - 61,) * 2)
    make().send_orphaned()

    assert not elsewhere.exists()


def test_unsent_records_of_a_parcel_are_sent_with_the_next_parcels(progress: Progress, valkey: redis.Redis) -> None:
    record_many(progress)
    progress.record(OTHER, DONE)

    eventually(lambda: (count_sent(valkey), count_sent(valkey, OTHER)) == (100, 1))


def test_each_record_is_sent_at_once_if_no_journal_can_be_written(valkey: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "var").write_bytes(b"no folder")
    progress = Progress(valkey, 60, Disk(), tmp_path / "var" / "progress")
    before = count_commands(valkey)

    record_many(progress, 20)

    eventually(lambda: count_sent(valkey) == 20)
    assert count_commands(valkey) - before == 20
    progress.close()


def test_records_from_another_thread_are_sent_at_once(progress: Progress, valkey: redis.Redis, folder: Path) -> None:
    thread = threading.Thread(target=record_many, args=(progress, 5))
    thread.start()
    thread.join()

    eventually(lambda: count_sent(valkey) == 5)
    assert not folder.exists()


def test_a_broken_connection_is_replaced_at_once(progress: Progress, valkey: redis.Redis) -> None:
    progress.record(PARCEL, DONE)
    eventually(lambda: count_sent(valkey) == 1)
    valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    progress.record(PARCEL, RAISED)

    eventually(lambda: count_sent(valkey) == 2)


def test_sending_is_retried_only_after_a_pause(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
def test_recording_does_not_wait_for_an_unavailable_redis(writable: bool, tmp_path: Path) -> None:
    """A refused connection is retried as often as the settings' client retries; then sending pauses for PAUSE_SECONDS."""
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

    record_many(progress, 1000)
    progress.flush()

    assert 1 <= len(attempts) <= TRIES_PER_SEND


def test_records_are_sent_under_the_namespace(valkey: redis.Redis, valkey_url: str, folder: Path, tmp_path: Path) -> None:
    settings = settings_for(valkey_url, tmp_path)
    client = make_client(settings.model_copy(update={"redis": settings.redis.model_copy(update={"namespace": "acme"})}))
    progress = Progress(client, 60, Disk(), folder)

    record_many(progress)

    eventually(lambda: valkey.hlen(f"acme:{PROGRESS_KEY}{PARCEL}") == 100)
    assert len(progress.read(PARCEL)) == 100
    assert count_sent(valkey) == 0
    progress.close()
    client.close()
