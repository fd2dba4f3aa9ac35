"""Applying an outcome: each file by itself, so that an error with one keeps no other from being filed."""

import errno
from pathlib import Path

import pytest
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool
from support.parts.fake_context import make_worker_context
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.broker.leases import LeaseState
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.outcomes.apply import OutcomeApplier

NAMES = (b"a", b"b", b"c")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def apply(spool: Spool, parcel: str, leases: FakeLeases, disk: Disk) -> None:
    context = make_worker_context(spool.inbox(), leases, FakePublisher(), disk)
    files = tuple(FileOutcome(name, Verdict.DONE) for name in NAMES)
    with spool.folders() as folders:
        OutcomeApplier(context, spool.inbox(), folders).apply(Outcome(parcel, "drop", 1, files))


def make_parcel(spool: Spool) -> str:
    parcel = new_parcel_id()
    for name in NAMES:
        spool.put(b"claimed/%s/%s" % (parcel.encode(), name))
    return parcel


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
def test_a_file_that_can_not_be_moved_keeps_its_parcel_open_and_no_other_file_claimed(code: int, spool: Spool) -> None:
    leases, parcel = FakeLeases(), make_parcel(spool)

    with pytest.raises(OSError, match="refused"):
        apply(spool, parcel, leases, RefusingDisk("rename", b"b", code))

    assert spool.files("done").keys() == {b"a", b"c"}
    assert spool.files("claimed").keys() == {b"%s/b" % parcel.encode()}
    assert parcel not in leases.records
    apply(spool, parcel, leases, Disk())
    assert spool.files("done").keys() == set(NAMES)
    assert leases.records[parcel].held is LeaseState.FILED


def test_a_full_disk_ends_the_application_at_once(spool: Spool) -> None:
    parcel = make_parcel(spool)

    with pytest.raises(OSError, match="refused"):
        apply(spool, parcel, FakeLeases(), RefusingDisk("rename", b"a", errno.ENOSPC))

    assert spool.files("done") == {}
