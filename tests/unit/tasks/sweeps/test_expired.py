"""The retention sweep: it deletes what is old by the folders' clock, and nothing after a jump of the system's."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool
from support.parts import fake_context
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.fs.syscalls import Disk
from inboxd.service import clock_guard
from inboxd.service.clock_guard import RECORD, ClockReading
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.sweep_locks import SweepLocks
from inboxd.tasks.sweeps import expired
from inboxd.tasks.sweeps.expired import sweep_expired


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


class FreeLocks(SweepLocks):
    """Locks that nobody else holds."""

    def __init__(self) -> None:
        """Need no Redis."""

    @contextlib.contextmanager
    def acquire(self, _sweep: str, _inbox: str) -> Iterator[bool]:
        yield True

    def flush(self) -> None:
        """Do nothing."""


def _context(spool: Spool, disk: Disk | None = None) -> WorkerContext:
    context = fake_context.make_worker_context(spool.inbox(keep_done_days=30), FakeLeases(), FakePublisher(), disk)
    return dataclasses.replace(context, sweep_locks=FreeLocks())


def _set_clock(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Have every later reading of the clock show this many days more."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + days * 86_400)


def test_files_older_than_their_retention_are_deleted(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.put(b"done/a")
    _set_clock(monkeypatch, 31)

    sweep_expired(_context(spool))

    assert spool.files("done") == {}


def test_after_the_clock_was_set_forty_days_ahead_nothing_is_deleted(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.put(b"done/a")
    context = _context(spool)
    sweep_expired(context)
    _set_clock(monkeypatch, 40)

    with capture_logs() as lines:
        for _ in range(3):
            sweep_expired(context)

    assert spool.files("done").keys() == {b"a"}
    assert [(line["event"], line["by_seconds"]) for line in lines] == [("clock_jumped", 40 * 86_400)]


def test_once_the_pause_is_over_the_clock_counts_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.put(b"done/a")
    context = _context(spool)
    sweep_expired(context)
    _set_clock(monkeypatch, 40)
    sweep_expired(context)
    _set_clock(monkeypatch, 1.1)
    real = clock_guard.read_clock

    def read_a_day_later(disk: Disk) -> ClockReading:
        reading = real(disk)
        return dataclasses.replace(reading, uptime=reading.uptime + 1.1 * 86_400)

    monkeypatch.setattr(clock_guard, "read_clock", read_a_day_later)

    sweep_expired(context)

    assert spool.files("done") == {}


def test_without_a_record_of_the_clock_nothing_is_deleted(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.put(b"done/a")
    _set_clock(monkeypatch, 31)

    with capture_logs() as lines:
        sweep_expired(_context(spool, RefusingDisk("create", b".inboxd-" + RECORD, 30)))

    assert spool.files("done").keys() == {b"a"}
    assert [line["event"] for line in lines] == ["sweep_failed"]
    assert "state_dir" in lines[0]["remedy"]


def test_ages_on_a_network_mount_are_by_its_servers_clock(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local clock is a month ahead, and always was: the server's own shows that the file is new."""
    monkeypatch.setattr("inboxd.fs.mounts.LOCAL_FILE_SYSTEMS", frozenset())
    spool.put(b"done/a")
    _set_clock(monkeypatch, 31)

    sweep_expired(_context(spool))

    assert spool.files("done").keys() == {b"a"}


@pytest.mark.parametrize(("new", "says_so"), [(0, True), (20, False)])
def test_a_sweep_that_deletes_most_files_says_so(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, new: int, says_so: bool
) -> None:
    monkeypatch.setattr(expired, "MANY_FILES", 9)
    for number in range(10):
        spool.put(b"done/old %d" % number)
    _set_clock(monkeypatch, 31)
    disk = Disk()
    real = disk.stat

    def stat_new(at: int, name: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a stat of the future
        stat = real(at, name)
        return stat._replace(ctime_ns=int(time.time() * 1e9)) if name.startswith(b"new") else stat

    monkeypatch.setattr(disk, "stat", stat_new)
    for number in range(new):
        spool.put(b"done/new %d" % number)

    with capture_logs() as lines:
        sweep_expired(_context(spool, disk))

    assert ("many_expired" in [line["event"] for line in lines]) is says_so
    assert len(os.listdir(spool.root / "done")) == new  # noqa: PTH208
