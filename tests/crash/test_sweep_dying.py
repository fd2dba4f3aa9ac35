"""Kill the sweep at each of its operations: the next one ends what it had begun, for every kind of help that a parcel needs."""

import itertools
from pathlib import Path

import pytest
from celery.states import FAILURE, SUCCESS
from support.crash.crash_points import walked
from support.crash.fuse import Blown, Fuse
from support.crash.spool_scenarios import away, is_begun, notes_found, notes_wanted, places
from support.disk.disks import LinkingDisk
from support.disk.spools import Spool
from support.parts.fake_context import make_worker_context
from support.parts.fakes import FakeLeases, Sent

from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.tasks.sweeps.repair import Repair

DEAD = "elsewhere/world/1/1/1"


class Scene:
    """An inbox with one parcel for each kind of help."""

    def __init__(self, root: Path) -> None:
        self.spool, self.leases, self.sent = Spool.make(root), FakeLeases(), Sent()
        self._parcels = 0
        self._outcome()
        failure = {"exc_type": "HandlerFailed", "exc_message": ["ValueError: no"]}
        self.sent.results[self._parcel("failure")] = {"status": FAILURE, "result": failure}
        self._parcel("unpublished")
        self._running(self._parcel("crashed", "in company"), crashes=0)
        self._running(self._parcel("sub/given up"), crashes=2)
        self.leases.mark_filed(self._parcel("left over"))
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
        lying = self.spool.files()
        assert {data: len(paths) for data, paths in places(lying).items()} == dict.fromkeys(self.contents, 1)

    def assert_every_file_was_helped(self) -> None:
        self.assert_nothing_is_lost()
        lying = self.spool.files()
        assert self.spool.files("done") == {b"good": b"good"}
        # its worker's death is counted before it fails, so it may get one more chance, and its note may wait for it
        maybe = {b"failed/sub/given up.error.txt"}
        assert self.spool.failed_files().keys() - {b"sub/given up"} == {b"bad", b"failure"}
        assert notes_found(lying) | maybe == notes_wanted(lying) | maybe
        claimed = {path for path, data in self.spool.files("claimed").items() if not is_begun(path, data)}
        assert claimed <= {parcel.id.encode() + b"/" + part.filename for parcel in self.sent.parcels for part in parcel.files}
        assert {path.partition(b"/")[2] for path in claimed} | {b"sub/given up"} == {
            b"alone", b"again", b"unpublished", b"crashed", b"in company", b"left over", b"sub/given up",
        }  # fmt: skip

    def _parcel(self, *names: str) -> str:
        self._parcels += 1
        parcel = f"{self._parcels:028x}"
        for name in names:
            self.spool.put(b"claimed/%s/%s" % (parcel.encode(), name.encode()), name.encode())
        return parcel

    def _outcome(self) -> None:
        parcel = self._parcel("good", "bad", "alone", "again")
        verdicts = {
            b"good": Verdict.DONE,
            b"bad": Verdict.REJECTED,
            b"alone": Verdict.RETRY_ISOLATED,
            b"again": Verdict.REQUEUE,
        }
        files = tuple(FileOutcome(path, verdict, "a reason") for path, verdict in verdicts.items())
        self.sent.results[parcel] = {"status": SUCCESS, "result": outcome_to_wire(Outcome(parcel, "drop", 1, files))}

    def _running(self, parcel: str, crashes: int) -> None:
        self.leases.start(parcel, DEAD, 1.0)
        self.leases.records[parcel].crashes = crashes


def test_a_sweep_that_dies_at_any_operation_on_the_disk_is_ended_by_the_next(tmp_path: Path) -> None:
    for point in itertools.count(1):
        scene = Scene(tmp_path / str(point))
        fuse = Fuse(Disk(), point)
        try:
            scene.sweep(fuse)
        except Blown:
            scene.sweep_twice(Disk())

        scene.assert_every_file_was_helped()
        if not fuse.blown:
            break
        walked("sweep: all kinds of help", "dies", point)

    assert point > 100


def test_a_sweep_that_dies_between_two_names_of_a_file_leaves_it_once_when_all_is_filed(tmp_path: Path) -> None:
    for point in itertools.count(1):
        scene = Scene(tmp_path / str(point))
        fuse = Fuse(LinkingDisk(), point)
        try:
            scene.sweep(fuse)
        except Blown:
            scene.sweep_twice(LinkingDisk())
        with scene.spool.folders() as folders:
            away(LinkingDisk(), folders, scene.spool.inbox())

        scene.assert_nothing_is_lost()
        if not fuse.blown:
            break
        walked("sweep: all kinds of help", "dies", point, "link")

    assert point > 100


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_sweep_that_dies_while_it_talks_to_redis_is_ended_by_the_next(after: bool, tmp_path: Path) -> None:
    for point in itertools.count(1):
        scene = Scene(tmp_path / str(point))
        fuse = Fuse(scene.leases, point, after=after)
        try:
            scene.sweep(Disk(), fuse)
        except Blown:
            scene.sweep_twice(Disk())

        scene.assert_every_file_was_helped()
        if not fuse.blown:
            break
        walked("sweep: all kinds of help, its Redis", "dies after" if after else "dies", point)

    assert point > 10


def test_two_sweeps_that_take_turns_at_any_point_file_everything_once(tmp_path: Path) -> None:
    for point in itertools.count(1):
        scene = Scene(tmp_path / str(point))
        first = Fuse(Disk(), point)
        try:
            scene.sweep(first)
        except Blown:
            scene.sweep(Disk())  # at once, with the leases as they are
        scene.assert_nothing_is_lost()
        scene.sweep_twice(Disk())

        scene.assert_every_file_was_helped()
        if not first.blown:
            break
        walked("two sweeps in turns", "dies", point)

    assert point > 100
