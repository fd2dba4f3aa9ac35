"""Crashes at each operation of the stale sweep: the next sweep completes it, for each recovery action of a parcel."""

import itertools
from pathlib import Path

import pytest
from celery.states import FAILURE, SUCCESS
from support.crash.crash_points import record_crash_point
from support.crash.fuse import Fuse, ProcessDied
from support.crash.spool_scenarios import away, existing_notes, expected_notes, is_begun, places
from support.disk.disks import LinkingDisk
from support.disk.spools import Spool
from support.parts.fake_context import make_worker_context
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.tasks.sweeps.repair import Repair

DEAD_PROCESS = "elsewhere/world/1/1/1"


class StaleInbox:
    """An inbox with one parcel for each recovery action."""

    def __init__(self, root: Path) -> None:
        self.spool, self.leases, self.sent = Spool.make(root), FakeLeases(), FakePublisher()
        self._parcels = 0
        self._add_outcome()
        failure = {"exc_type": "HandlerFailed", "exc_message": ["ValueError: no"]}
        self.sent.results[self._add_parcel("failure")] = {"status": FAILURE, "result": failure}
        self._add_parcel("unpublished")
        self._mark_running(self._add_parcel("crashed", "in a multi-file parcel"), crashes=0)
        self._mark_running(self._add_parcel("sub/out of attempts"), crashes=2)
        self.leases.mark_filed(self._add_parcel("leftover"))
        self.spool.where(b"claimed/" + b"e" * 28).mkdir()
        self.contents = set(self.spool.files().values())
        self.leases.now += 1000.0

    def sweep(self, disk: Disk, leases: FakeLeases | None = None) -> None:
        inbox = self.spool.inbox(retry_backoff_seconds=0.0)
        with self.spool.folders() as folders:
            Repair(make_worker_context(inbox, leases or self.leases, self.sent, disk), inbox, folders).run()

    def sweep_twice(self, disk: Disk) -> None:
        for _ in range(2):
            self.leases.now += 1000.0
            self.sweep(disk)

    def assert_nothing_is_lost(self) -> None:
        files = self.spool.files()
        assert {data: len(paths) for data, paths in places(files).items()} == dict.fromkeys(self.contents, 1)

    def assert_each_parcel_recovered(self) -> None:
        self.assert_nothing_is_lost()
        files = self.spool.files()
        assert self.spool.files("done") == {b"good": b"good"}
        # the crash is counted before the file fails, so it may get another attempt, and its note may precede it
        optional_notes = {b"failed/sub/out of attempts.error.txt"}
        assert self.spool.failed_files().keys() - {b"sub/out of attempts"} == {b"bad", b"failure"}
        assert existing_notes(files) | optional_notes == expected_notes(files) | optional_notes
        claimed = {path for path, data in self.spool.files("claimed").items() if not is_begun(path, data)}
        assert claimed <= {parcel.id.encode() + b"/" + part.filename for parcel in self.sent.parcels for part in parcel.files}
        assert {path.partition(b"/")[2] for path in claimed} | {b"sub/out of attempts"} == {
            b"alone", b"again", b"unpublished", b"crashed", b"in a multi-file parcel", b"leftover", b"sub/out of attempts",
        }  # fmt: skip

    def _add_parcel(self, *names: str) -> str:
        self._parcels += 1
        parcel = f"{self._parcels:028x}"
        for name in names:
            self.spool.put(b"claimed/%s/%s" % (parcel.encode(), name.encode()), name.encode())
        return parcel

    def _add_outcome(self) -> None:
        parcel = self._add_parcel("good", "bad", "alone", "again")
        verdicts = {
            b"good": Verdict.DONE,
            b"bad": Verdict.REJECTED,
            b"alone": Verdict.RETRY_ISOLATED,
            b"again": Verdict.REQUEUE,
        }
        outcomes = tuple(FileOutcome(path, verdict, "a reason") for path, verdict in verdicts.items())
        self.sent.results[parcel] = {"status": SUCCESS, "result": outcome_to_wire(Outcome(parcel, "drop", 1, outcomes))}

    def _mark_running(self, parcel: str, crashes: int) -> None:
        self.leases.start(parcel, DEAD_PROCESS, 1.0)
        self.leases.records[parcel].crashes = crashes


def test_a_sweep_that_dies_at_any_disk_operation_is_completed_by_the_next(tmp_path: Path) -> None:
    for point in itertools.count(1):
        stale_inbox = StaleInbox(tmp_path / str(point))
        fuse = Fuse(Disk(), point)
        try:
            stale_inbox.sweep(fuse)
        except ProcessDied:
            stale_inbox.sweep_twice(Disk())

        stale_inbox.assert_each_parcel_recovered()
        if not fuse.blown:
            break
        record_crash_point("sweep: all recovery actions", "dies", point)

    assert point > 100


def test_a_sweep_that_dies_between_two_links_of_a_file_leaves_one_after_filing(tmp_path: Path) -> None:
    for point in itertools.count(1):
        stale_inbox = StaleInbox(tmp_path / str(point))
        fuse = Fuse(LinkingDisk(), point)
        try:
            stale_inbox.sweep(fuse)
        except ProcessDied:
            stale_inbox.sweep_twice(LinkingDisk())
        with stale_inbox.spool.folders() as folders:
            away(LinkingDisk(), folders, stale_inbox.spool.inbox())

        stale_inbox.assert_nothing_is_lost()
        if not fuse.blown:
            break
        record_crash_point("sweep: all recovery actions", "dies", point, "link")

    assert point > 100


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_sweep_that_dies_at_any_redis_operation_is_completed_by_the_next(after: bool, tmp_path: Path) -> None:
    for point in itertools.count(1):
        stale_inbox = StaleInbox(tmp_path / str(point))
        fuse = Fuse(stale_inbox.leases, point, after=after)
        try:
            stale_inbox.sweep(Disk(), fuse)
        except ProcessDied:
            stale_inbox.sweep_twice(Disk())

        stale_inbox.assert_each_parcel_recovered()
        if not fuse.blown:
            break
        record_crash_point("sweep: all recovery actions, Redis", "dies after" if after else "dies", point)

    assert point > 10


def test_two_sweeps_interleaved_at_any_operation_file_each_file_once(tmp_path: Path) -> None:
    for point in itertools.count(1):
        stale_inbox = StaleInbox(tmp_path / str(point))
        first = Fuse(Disk(), point)
        try:
            stale_inbox.sweep(first)
        except ProcessDied:
            stale_inbox.sweep(Disk())  # at once, while the leases are unchanged
        stale_inbox.assert_nothing_is_lost()
        stale_inbox.sweep_twice(Disk())

        stale_inbox.assert_each_parcel_recovered()
        if not first.blown:
            break
        record_crash_point("two interleaved sweeps", "dies", point)

    assert point > 100
