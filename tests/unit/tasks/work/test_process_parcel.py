"""What a worker makes of a parcel, where the disk is slow or the time is up while a file is read."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from support.disk.spools import Spool
from support.parts.fake_context import HOST, make_worker_context
from support.parts.fakes import FakeLeases, Sent

from inboxd.fs.syscalls import Disk, Fd
from inboxd.messaging.outcome import FileOutcome, Verdict, outcome_from_wire
from inboxd.messaging.payload import FilePart, Parcel, parcel_to_wire
from inboxd.tasks.work.process_parcel import ParcelProcessor

READ_SECONDS = 0.02
PATHS = (b"a", b"b", b"c")


class SlowDisk(Disk):
    """Takes its time to read; at one of the reads the time limit strikes."""

    def __init__(self, strikes_at: int = 0) -> None:
        super().__init__()
        self._strikes_at = strikes_at
        self._reads = 0

    def read(self, fd: Fd, size: int) -> bytes:
        self._reads += 1
        if self._reads == self._strikes_at:
            raise SoftTimeLimitExceeded
        time.sleep(READ_SECONDS)
        return super().read(fd, size)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def work_on(
    spool: Spool, leases: FakeLeases, disk: Disk, handler: str = "support.crash.handler:handle", **rules: object
) -> dict[bytes, FileOutcome]:
    """Have a parcel by reference worked on, and return what became of each file."""
    parcel_id = spool.claimed(*PATHS)
    parts = tuple(FilePart(path, "text/plain", 7, {"id": "x", "mtime": 1.5, "claimed-at": 2.5}, None) for path in PATHS)
    parcel = Parcel(parcel_id, "drop", HOST, bytes(spool.root), parts)
    context = make_worker_context(spool.inbox(handler=handler, **rules), leases, Sent(), disk)
    task: Any = SimpleNamespace(request=SimpleNamespace(id=parcel_id, retries=0))
    outcome = outcome_from_wire(ParcelProcessor(context).run(task, parcel_to_wire(parcel)))
    return {file.path: file for file in outcome.files}


def test_to_read_a_file_is_part_of_the_handlers_pace(spool: Spool) -> None:
    leases = FakeLeases()

    done = work_on(spool, leases, SlowDisk())

    assert {file.verdict for file in done.values()} == {Verdict.DONE}
    assert leases.paces["drop"] >= READ_SECONDS


def test_nobody_is_to_blame_for_a_parcels_time_that_is_up_while_a_file_is_read(spool: Spool) -> None:
    became = work_on(spool, FakeLeases(), SlowDisk(strikes_at=2))

    assert [became[path].verdict for path in PATHS] == [Verdict.DONE, Verdict.REQUEUE, Verdict.REQUEUE]


def test_a_file_that_can_not_be_read_leaves_no_descriptor_behind(spool: Spool) -> None:
    class Broken(Disk):
        def read(self, fd: Fd, size: int) -> bytes:
            del fd, size
            raise OSError(5, "Input/output error")

    work_on(spool, FakeLeases(), Broken())  # what is opened once for all is open now
    before = len(list(Path("/proc/self/fd").iterdir()))

    became = work_on(spool, FakeLeases(), Broken())

    assert {file.reason for file in became.values()} == {"[Errno 5] Input/output error"}
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_module_that_takes_all_the_time_to_be_imported_is_to_blame(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its file would be handed out again and again."""
    (tmp_path / "takes_long.py").write_text(
        "import time\nfrom billiard.exceptions import SoftTimeLimitExceeded\ntime.sleep(1)\nraise SoftTimeLimitExceeded\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    became = work_on(spool, FakeLeases(), Disk(), "takes_long:handle", time_limit_seconds=1)

    assert [became[path].verdict for path in PATHS] == [Verdict.RETRY_ISOLATED, Verdict.REQUEUE, Verdict.REQUEUE]
    assert became[b"a"].reason == "it took longer than 1 s"
