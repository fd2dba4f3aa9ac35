"""Processing a parcel if the disk is slow, or if the time limit is exceeded while a file is read."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from support.crash.handler import calls
from support.descriptors import open_descriptors
from support.disk.spools import Spool
from support.parts.fake_context import HOST, make_worker_context
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.fs.syscalls import Disk, Fd
from inboxd.messaging.outcome import FileOutcome, Verdict, outcome_from_wire
from inboxd.messaging.payload import FilePart, Parcel, parcel_to_wire
from inboxd.tasks.processing.process_parcel import ParcelProcessor

READ_SECONDS = 0.02
PATHS = (b"a", b"b", b"c")


class SlowDisk(Disk):
    """A disk that reads slowly; the read number ``limit_at`` exceeds the time limit."""

    def __init__(self, limit_at: int = 0) -> None:
        super().__init__()
        self._limit_at = limit_at
        self._reads = 0

    def read(self, fd: Fd, size: int) -> bytes:
        self._reads += 1
        if self._reads == self._limit_at:
            raise SoftTimeLimitExceeded
        time.sleep(READ_SECONDS)
        return super().read(fd, size)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def process(
    spool: Spool,
    leases: FakeLeases,
    disk: Disk,
    handler: str = "support.crash.handler:handle",
    *,
    root: Path | None = None,
    parcel_id: str = "",
    **rules: object,
) -> dict[bytes, FileOutcome]:
    """Process a parcel by reference, and return each file's outcome by path; the message names ``root``."""
    parcel_id = parcel_id or spool.claimed(*PATHS)
    parts = tuple(FilePart(path, "text/plain", 7, {"id": "x", "mtime": 1.5, "claimed-at": 2.5}, None) for path in PATHS)
    parcel = Parcel(parcel_id, "drop", HOST, bytes(root or spool.root), parts)
    context = make_worker_context(spool.inbox(handler=handler, **rules), leases, FakePublisher(), disk)
    task: Any = SimpleNamespace(request=SimpleNamespace(id=parcel_id, retries=0))
    outcome = outcome_from_wire(ParcelProcessor(context).run(task, parcel_to_wire(parcel)))
    return {file.path: file for file in outcome.files}


def test_the_seconds_per_file_include_reading(spool: Spool) -> None:
    leases = FakeLeases()

    outcomes = process(spool, leases, SlowDisk())

    assert {file.verdict for file in outcomes.values()} == {Verdict.DONE}
    assert leases.paces["drop"] >= READ_SECONDS


def test_a_time_limit_used_up_by_earlier_files_is_not_blamed_on_the_file_being_read(spool: Spool) -> None:
    outcomes = process(spool, FakeLeases(), SlowDisk(limit_at=2))

    assert [outcomes[path].verdict for path in PATHS] == [Verdict.DONE, Verdict.REQUEUE, Verdict.REQUEUE]


def test_an_unreadable_file_leaks_no_descriptor(spool: Spool) -> None:
    class Broken(Disk):
        def read(self, fd: Fd, size: int) -> bytes:
            del fd, size
            raise OSError(5, "Input/output error")

    process(spool, FakeLeases(), Broken())  # opens what a process opens only once
    before = open_descriptors()

    outcomes = process(spool, FakeLeases(), Broken())

    assert {file.reason for file in outcomes.values()} == {"[Errno 5] Input/output error"}
    assert open_descriptors() == before


def test_a_time_limit_exceeded_by_the_handlers_import_is_blamed_on_the_file(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the file would be requeued again and again."""
    (tmp_path / "slow_import.py").write_text(
        "import time\nfrom billiard.exceptions import SoftTimeLimitExceeded\ntime.sleep(1)\nraise SoftTimeLimitExceeded\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    outcomes = process(spool, FakeLeases(), Disk(), "slow_import:handle", time_limit_seconds=1)

    assert [outcomes[path].verdict for path in PATHS] == [Verdict.RETRY_ISOLATED, Verdict.REQUEUE, Verdict.REQUEUE]
    assert outcomes[b"a"].reason == "processing took longer than 1 s"


def test_the_root_in_a_message_of_this_host_is_not_believed(spool: Spool, tmp_path: Path) -> None:
    parcel_id = spool.claimed(*PATHS)
    elsewhere = Spool.make(tmp_path / "elsewhere")
    for path in PATHS:
        elsewhere.put(b"claimed/%s/%s" % (parcel_id.encode(), path), b"another folder's file")

    process(spool, FakeLeases(), Disk(), root=elsewhere.root, parcel_id=parcel_id)

    assert b"another folder's file" not in calls


def test_only_regular_files_are_opened_for_handlers(spool: Spool) -> None:
    parcel_id = spool.claimed(*PATHS)
    place = spool.where(b"claimed/%s/b" % parcel_id.encode())
    place.unlink()
    os.mkfifo(place)

    outcomes = process(spool, FakeLeases(), Disk(), parcel_id=parcel_id)

    assert outcomes[b"b"].verdict is Verdict.RETRY_ISOLATED
    assert outcomes[b"b"].reason == "[Errno 22] not a regular file, but a named pipe"
    assert outcomes[b"a"].verdict is Verdict.DONE
