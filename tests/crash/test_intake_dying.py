"""Crashes at each disk and Redis operation of the intake: a new watcher and the sweep lose nothing."""

import errno
import itertools
from collections import Counter
from pathlib import Path

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.fuse import Fuse, ProcessDied
from support.disk.spools import Spool
from support.parts.fake_context import intake, make_worker_context, run_all_turns
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.tasks.sweeps.repair import Repair

GOOD = {b"a.txt": b"A", b"sub/b": b"B", b"sub/deep/c": b"C" * 99, b"\xff\n": b"D"}
REFUSED = {b"link": b"-> /etc/passwd"}


def arrange(root: Path) -> Spool:
    spool = Spool.make(root)
    for path, data in GOOD.items():
        spool.put(b"inbox/" + path, data)
    spool.where(b"inbox/link").symlink_to("/etc/passwd")
    return spool


def recover(spool: Spool, leases: FakeLeases, sent: FakePublisher) -> None:
    """Restart after the old leases have lapsed: a new watcher scans inbox/, and the sweep checks claimed/."""
    leases.now += 1000.0
    run_all_turns(intake(spool, leases, sent))
    leases.now += 1000.0
    with spool.folders() as folders:
        Repair(make_worker_context(spool.inbox(), leases, sent), spool.inbox(), folders).run()


def assert_nothing_is_lost(spool: Spool, sent: FakePublisher) -> None:
    """Assert that each good file is claimed in a published parcel, and that the refused one is in failed/ with its note."""
    claimed = spool.files("claimed")
    in_flight = Counter(path.partition(b"/")[2] for path in claimed)
    assert in_flight == Counter(GOOD.keys())
    assert {path.partition(b"/")[2]: data for path, data in claimed.items()} == GOOD
    published = {parcel.id.encode() + b"/" + part.filename for parcel in sent.parcels for part in parcel.files}
    assert claimed.keys() <= published
    assert spool.failed_files() == REFUSED
    assert spool.notes().keys() == {b"link.error.txt"}
    assert spool.files("inbox") == {}
    assert spool.files("done") == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_watcher_that_dies_at_any_disk_operation_loses_no_file(after: bool, tmp_path: Path) -> None:
    for point in itertools.count(1):
        spool, leases, sent = arrange(tmp_path / str(point)), FakeLeases(), FakePublisher()
        fuse = Fuse(Disk(), point, after=after)
        try:
            run_all_turns(intake(spool, leases, sent, fuse))
        except ProcessDied:
            recover(spool, leases, sent)

        assert_nothing_is_lost(spool, sent)
        if not fuse.blown:
            break
        record_crash_point("intake", "dies after" if after else "dies", point)

    assert point > 100


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_watcher_that_dies_at_any_redis_operation_loses_no_file(after: bool, tmp_path: Path) -> None:
    for point in itertools.count(1):
        spool, leases, sent = arrange(tmp_path / str(point)), FakeLeases(), FakePublisher()
        fuse, send = Fuse(leases, point, after=after), Fuse(sent, point, after=after)
        try:
            run_all_turns(intake(spool, fuse, send))
        except ProcessDied:
            recover(spool, leases, sent)

        assert_nothing_is_lost(spool, sent)
        if not fuse.blown:
            break
        record_crash_point("intake: Redis", "dies after" if after else "dies", point)

    assert point > len(GOOD)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_after_a_disk_error_the_next_turn_continues(code: int, tmp_path: Path) -> None:
    for point in itertools.count(1):
        spool, leases, sent = arrange(tmp_path / str(point)), FakeLeases(), FakePublisher()
        fuse = Fuse(Disk(), point, error=OSError(code, "on purpose"))
        watcher_intake = intake(spool, leases, sent, fuse)
        try:
            run_all_turns(watcher_intake)
        except FolderUnavailable:
            run_all_turns(watcher_intake)
        recover(spool, leases, sent)

        assert_nothing_is_lost(spool, sent)
        if not fuse.blown:
            break
        record_crash_point("intake", errno.errorcode[code], point)

    assert point > 100


def test_a_flushed_redis_at_any_operation_loses_no_file(tmp_path: Path) -> None:
    for point in itertools.count(1):
        spool, leases, sent = arrange(tmp_path / str(point)), FakeLeases(), FakePublisher()
        fuse = Fuse(Disk(), point)
        try:
            run_all_turns(intake(spool, leases, sent, fuse))
        except ProcessDied:
            leases.flush()
            sent.parcels.clear()  # the queues are in the same Redis
            recover(spool, leases, sent)

            assert_nothing_is_lost(spool, sent)
        if not fuse.blown:
            break
        record_crash_point("intake", "a flushed Redis", point)

    assert point > 100
