"""Taking files in: what is ready is claimed, packed and sent, as far as the limits allow; what can't be accepted is refused."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.parts.fake_context import HOST, intake, means, take_all
from support.parts.fakes import FakeLeases, Sent

from inboxd.broker.leases import LeaseState
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.intake import intake as intake_room
from inboxd.intake import ready_files
from inboxd.intake.batching import UNKNOWN_RATE_PARCELS_MAX
from inboxd.intake.intake import Intake
from inboxd.intake.readiness import BUSY_RECHECK_SECONDS, WaitTimes
from inboxd.intake.watch_mode import WatchMode
from inboxd.logs import events
from inboxd.spool.layout import is_parcel_id
from inboxd.watcher.watched_inbox import WatchedInbox


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def drop(spool: Spool, count: int, size: int = 1) -> None:
    for number in range(count):
        spool.put(b"inbox/%04d" % number, b"%d" % (number % 10) * size)


class Clock:
    """A clock by which each question takes a second."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        self.passed += 1.0
        return self.passed

    time = monotonic


class SlowDisk(Disk):
    """Takes its time to look at an entry."""

    SECONDS = 0.001

    def stat(self, at: Fd, name: bytes) -> Stat:
        time.sleep(self.SECONDS)
        return super().stat(at, name)


def quick(pace: float = 0.001) -> FakeLeases:
    return FakeLeases(paces={"drop": pace})


def test_a_ready_file_is_claimed_leased_and_sent_with_its_bytes(spool: Spool) -> None:
    spool.put(b"inbox/x/a.txt", b"hello")
    leases, sent = FakeLeases(), Sent()

    taken = intake(spool, leases, sent).run_turn("event")

    (parcel,) = sent.parcels
    (part,) = parcel.files
    assert (taken.claimed, taken.refused, taken.has_more, taken.is_waiting) == (1, 0, False, False)
    assert (parcel.inbox, parcel.host, parcel.root) == ("drop", HOST, os.fsencode(spool.root))
    assert (part.filename, part.stream, part.content_length) == (b"x/a.txt", b"hello", 5)
    assert is_parcel_id(parcel.id)
    assert leases.records[parcel.id].held is LeaseState.QUEUED
    assert spool.files() == {b"claimed/" + parcel.id.encode() + b"/x/a.txt": b"hello"}


@pytest.mark.parametrize(
    ("needed", "files", "carried"), [(None, 3, True), (True, 3, True), (False, 3, False), (False, 1, True)]
)
def test_a_parcel_of_many_carries_their_bytes_where_that_is_needed(
    needed: bool | None, files: int, carried: bool, spool: Spool
) -> None:
    sent = Sent()
    registry = None if needed is None else SimpleNamespace(needs_inline=needed)
    way_in = intake(spool, quick(), sent, registry=registry)
    spool.put(b"inbox/first")
    way_in.run_turn("event")  # tells how long a file takes
    drop(spool, files)

    way_in.run_turn("event")

    _, parcel = sent.parcels
    assert [part.stream is not None for part in parcel.files] == [carried] * files
    assert all("sha256" in part.headers for part in parcel.files)


def test_a_large_file_goes_by_reference(spool: Spool) -> None:
    spool.put(b"inbox/a", b"x" * 65)
    sent = Sent()

    intake(spool, FakeLeases(), sent, inline_bytes_max=64).run_turn("event")

    assert [part.stream for parcel in sent.parcels for part in parcel.files] == [None]


def test_an_empty_inbox_takes_nothing(spool: Spool) -> None:
    sent = Sent()

    taken = intake(spool, FakeLeases(), sent).run_turn("scan")

    assert (taken.claimed, taken.has_more, taken.is_waiting, taken.scan.ready_in) == (0, False, False, None)
    assert sent.parcels == []
    assert list((spool.root / "claimed").iterdir()) == []


def test_a_file_that_is_not_complete_is_looked_at_when_it_can_be(spool: Spool) -> None:
    spool.put(b"inbox/a")
    sent = Sent()
    slow = Intake(means(Disk(), FakeLeases(), sent), spool.inbox(), WaitTimes(100.0, 100.0, 100.0), network=False)

    taken = slow.run_turn("event")

    assert taken.claimed == 0
    assert taken.scan.ready_in == pytest.approx(100.0, abs=5.0)


def test_a_look_costs_what_it_took_to_look_at_what_stays(spool: Spool) -> None:
    drop(spool, 30)
    patience, slow_disk = WaitTimes(1e6, 1e6, 1e6), SlowDisk()
    patient = Intake(means(slow_disk, quick(pace=10.0), Sent()), spool.inbox(), patience, network=False)

    assert patient.run_turn("scan").scan.rescan_seconds > 30 * SlowDisk.SECONDS

    assert intake(spool, quick(pace=10.0), Sent(), slow_disk).run_turn("scan").scan.rescan_seconds < 30 * SlowDisk.SECONDS


def test_a_look_in_several_turns_costs_all_of_them_and_the_next_none_of_that(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "ENTRIES_PER_TURN", 10)
    clock = Clock()
    monkeypatch.setattr(ready_files, "time", clock)
    drop(spool, 25)
    way_in = Intake(means(Disk(), quick(), Sent()), spool.inbox(), WaitTimes(1e6, 1e6, 1e6), network=False)
    costs = [way_in.run_turn("scan").scan.rescan_seconds for _ in range(3)]

    for number in range(24):
        spool.where(b"inbox/%04d" % number).unlink()
    before = clock.passed
    again = way_in.run_turn("scan").scan.rescan_seconds

    assert costs == sorted(costs)
    assert costs[2] == pytest.approx(before, rel=0.1)
    assert again <= clock.passed - before


class SlowToList(Disk):
    """Takes its time for each entry, and for there being no more."""

    SECONDS = 0.005

    def entries(self, at: Fd) -> Iterator[tuple[bytes, bool]]:
        for entry in super().entries(at):
            time.sleep(self.SECONDS)
            yield entry
        time.sleep(self.SECONDS)


def test_what_is_refused_does_not_stay_and_sub_folders_do(spool: Spool) -> None:
    for number in range(9):
        spool.where(b"inbox/link%d" % number).symlink_to("nowhere")
    refused = intake(spool, quick(), Sent(), SlowToList()).run_turn("scan").scan.rescan_seconds
    for number in range(9):
        spool.where(b"inbox/folder%d" % number).mkdir()
    kept = intake(spool, quick(), Sent(), SlowToList(), empty_folders="keep").run_turn("scan").scan.rescan_seconds

    assert refused * 2 < kept
    assert kept > 9 * SlowToList.SECONDS


def test_a_folder_that_takes_long_to_be_listed_costs_that_though_nothing_is_in_it(spool: Spool) -> None:
    assert intake(spool, quick(), Sent(), SlowToList()).run_turn("scan").scan.rescan_seconds >= SlowToList.SECONDS


def test_a_parcel_is_smaller_where_it_takes_long_to_be_packed(spool: Spool) -> None:
    class SlowToOpen(Disk):
        def open_file(self, at: Fd, name: bytes) -> Fd:
            time.sleep(0.02)
            return super().open_file(at, name)

    drop(spool, 60)
    sent = Sent()

    take_all(intake(spool, quick(), sent, SlowToOpen()))

    assert 1 < max(len(parcel.files) for parcel in sent.parcels) <= 25


def test_what_a_lost_claim_took_tells_nothing_of_how_long_packing_takes(spool: Spool) -> None:
    class Robbed(Disk):
        def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
            if src == b"0000":
                raise FileNotFoundError(2, "gone")
            super().rename(src_at, src, dst_at, dst)

        rename_over = rename

    drop(spool, 1)
    sent = Sent()
    way_in = intake(spool, quick(), sent, Robbed())
    way_in.run_turn("event")
    drop(spool, 60)

    take_all(way_in)

    assert [len(parcel.files) for parcel in sent.parcels][:1] == [1]


def test_a_file_that_somebody_has_open_is_looked_at_again_and_not_known_to_be_complete(spool: Spool) -> None:
    with spool.put(b"inbox/a").open("ab"):
        looked = intake(spool, quick(), Sent()).run_turn("scan").scan

    assert looked.ready_in is None
    assert looked.recheck_in == pytest.approx(BUSY_RECHECK_SECONDS, abs=0.5)


def test_before_the_pace_is_known_each_file_travels_alone_and_only_so_many_leave(spool: Spool) -> None:
    drop(spool, UNKNOWN_RATE_PARCELS_MAX + 5)
    sent = Sent()

    taken = intake(spool, FakeLeases(), sent).run_turn("event")

    assert [len(parcel.files) for parcel in sent.parcels] == [1] * UNKNOWN_RATE_PARCELS_MAX
    assert taken.is_waiting


def test_files_for_a_quick_handler_travel_together(spool: Spool) -> None:
    drop(spool, 251)
    sent = Sent()

    way_in = intake(spool, quick(), sent, parcel_files_max=100)
    take_all(way_in)
    way_in.run_turn("returned", scan=False)

    sizes = [len(parcel.files) for parcel in sent.parcels]
    assert sizes[0] == 1  # the pace is learnt with the first
    assert max(sizes) == 100
    assert sorted(sent.paths()) == [b"%04d" % number for number in range(251)]


def test_files_for_a_slow_handler_travel_alone(spool: Spool) -> None:
    drop(spool, 5)
    sent = Sent()

    take_all(intake(spool, quick(pace=10.0), sent))

    assert [len(parcel.files) for parcel in sent.parcels] == [1] * 5


def test_no_parcel_has_more_bytes_than_the_settings_allow(spool: Spool) -> None:
    drop(spool, 60, size=60)
    sent = Sent()

    take_all(intake(spool, quick(), sent, parcel_bytes_max=1024))

    assert max(parcel.inline_bytes for parcel in sent.parcels) <= 1024
    assert max(len(parcel.files) for parcel in sent.parcels) == 1024 // 60


def test_where_bytes_are_not_carried_a_parcel_has_as_many_files_as_it_may(spool: Spool) -> None:
    drop(spool, 60, size=60)
    sent = Sent()

    take_all(intake(spool, quick(), sent, registry=SimpleNamespace(needs_inline=False), parcel_bytes_max=1024))

    assert [len(parcel.files) for parcel in sent.parcels] == [1, 59]  # the first tells the pace


def test_no_more_files_are_claimed_than_may_be_in_flight(spool: Spool) -> None:
    drop(spool, 30)
    sent = Sent()
    way_in = intake(spool, quick(), sent, in_flight_files_max=10)

    held = [way_in.run_turn("event").is_waiting for _ in range(3)]

    assert len(spool.files("claimed")) == 10
    assert len(spool.files("inbox")) == 20
    assert held == [True] * 3


def test_no_more_bytes_are_claimed_than_may_be_in_flight(spool: Spool) -> None:
    drop(spool, 60, size=64)
    sent = Sent()

    take_all(intake(spool, quick(pace=0.05), sent, in_flight_bytes_max=1024))

    assert 1024 <= sum(parcel.inline_bytes for parcel in sent.parcels) < 2 * 1024


def test_when_a_parcel_has_returned_the_next_one_leaves(spool: Spool) -> None:
    drop(spool, 3)
    sent = Sent()
    way_in = intake(spool, quick(), sent, in_flight_files_max=1)
    way_in.run_turn("event")
    for place in (spool.root / "claimed").iterdir():
        (place / os.fsdecode(sent.paths()[0])).unlink()
        place.rmdir()

    taken = way_in.run_turn("returned")

    assert taken.claimed == 1
    assert len(set(sent.paths())) == 2


def test_what_another_has_in_flight_counts(spool: Spool) -> None:
    spool.claimed(*[b"%d" % number for number in range(10)])
    drop(spool, 1)
    sent = Sent()

    taken = intake(spool, quick(), sent, in_flight_files_max=10).run_turn("event")

    assert (taken.claimed, taken.is_waiting) == (0, True)


def test_a_large_inbox_gives_way_to_the_others(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_files, "ENTRIES_PER_TURN", 4)
    drop(spool, 10)
    sent = Sent()
    way_in = intake(spool, quick(pace=10.0), sent)

    first = way_in.run_turn("event")

    assert first.has_more
    assert not way_in.is_between_scans
    take_all(way_in)
    assert way_in.is_between_scans
    way_in.run_turn("returned", scan=False)
    assert len(sent.paths()) == 10


def test_an_inbox_that_has_sent_for_long_enough_gives_way_with_files_in_hand(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_room, "TURN_SECONDS", -1.0)
    drop(spool, 3)
    sent = Sent()
    way_in = intake(spool, quick(pace=10.0), sent)

    turns = [(way_in.run_turn("event").has_more, len(sent.parcels)) for _ in range(3)]

    assert turns == [(True, 1), (True, 2), (False, 3)]


def test_what_a_cut_turn_has_in_hand_goes_before_another_look(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_room, "TURN_SECONDS", -1.0)
    drop(spool, 3)
    way_in = intake(spool, quick(pace=10.0), Sent())
    mode = WatchMode(uses_events=True, reason="")
    watched = WatchedInbox(spool.inbox(), way_in, Mount(1, "ext4", "/"), mode, (0, 0, 0, 0), requested=None)

    scans = []
    for _ in range(3):
        look = watched.next_turn
        watched.on_turn_end(look, way_in.run_turn(look.reason, scan=look.scan), 0.0)
        scans.append(watched.next_turn.scan)

    assert scans == [False, False, True]


@pytest.mark.parametrize(("hold", "sent_at_once"), [(True, 31), (False, 33)])
def test_who_does_not_come_back_soon_holds_nothing_for_company(hold: bool, sent_at_once: int, spool: Spool) -> None:
    drop(spool, 33)
    sent = Sent()

    taken = intake(spool, quick(), sent, parcel_files_max=10).run_turn("sweep", wait_for_more=hold)

    assert len(sent.paths()) == sent_at_once
    assert taken.is_waiting is hold


def test_sub_folders_are_tidied_a_few_at_a_time_and_the_scan_ends_with_the_last(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "PRUNED_PER_TURN", 2)
    names = [b"x/%d" % number for number in range(4)]
    for name in names:
        spool.where(b"inbox/" + name).mkdir(parents=True)
        spool.put(b"done/%s/a" % name)
    way_in = intake(spool, quick(), Sent(), empty_folder_seconds=0.0)

    turns = [(way_in.run_turn("scan").has_more, len(spool.folders_in("inbox")), way_in.is_between_scans) for _ in range(3)]

    assert turns == [(True, 3, False), (True, 1, False), (False, 0, True)]


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_scan_goes_on_in_the_same_inbox_whatever_was_opened_in_between(
    shift: int, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "ENTRIES_PER_TURN", 2)
    for path in (b"a", b"b", b"c", b"x/d", b"x/y/e"):
        spool.put(b"inbox/" + path)
    sent = Sent()
    way_in = intake(spool, FakeLeases(), sent)
    way_in.run_turn("event")

    opened = [os.open("/", os.O_RDONLY) for _ in range(shift)]
    take_all(way_in)

    for number in opened:
        os.close(number)
    assert sorted(sent.paths()) == [b"a", b"b", b"c", b"x/d", b"x/y/e"]


def test_the_log_tells_of_every_file_that_is_claimed(spool: Spool) -> None:
    spool.put(b"inbox/\xff\n", b"hello")
    sent = Sent()

    with capture_logs() as lines:
        intake(spool, FakeLeases(), sent).run_turn("event")

    (line,) = [line for line in lines if line["event"] == events.FILE_CLAIMED]
    assert line["file"] == b"\xff\n"
    assert (line["inbox"], line["parcel"], line["size"], line["found_by"]) == ("drop", sent.parcels[0].id, 5, "event")
    assert line["sha256"].startswith("2cf24dba")
