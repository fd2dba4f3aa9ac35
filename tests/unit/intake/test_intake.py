"""Intake: ready files are claimed, packed and sent within the limits."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.parts.fake_context import HOST, intake, make_intake_deps, run_all_turns
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.broker.leases import LeaseState
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.intake import batching, ready_files
from inboxd.intake import intake as intake_module
from inboxd.intake.batching import UNKNOWN_RATE_PARCELS_MAX
from inboxd.intake.intake import Intake
from inboxd.intake.readiness import BUSY_RECHECK_SECONDS, WaitTimes
from inboxd.intake.watch_mode import WatchMode
from inboxd.logs import events
from inboxd.spool.layout import is_parcel_id
from inboxd.watcher.watched_inbox import WatchedInbox


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def drop(spool: Spool, count: int, size: int = 1) -> None:
    for number in range(count):
        spool.put(b"inbox/%04d" % number, b"%d" % (number % 10) * size)


class Clock:
    """A fake clock on which a second passes with each call."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1.0
        return self.seconds

    time = monotonic


class SlowDisk(Disk):
    """A disk with a slow stat()."""

    SECONDS = 0.001

    def stat(self, at: Fd, name: bytes) -> Stat:
        time.sleep(self.SECONDS)
        return super().stat(at, name)


def known_rate(seconds_per_file: float = 0.001) -> FakeLeases:
    return FakeLeases(paces={"drop": seconds_per_file})


def test_a_ready_file_is_claimed_leased_and_sent_with_its_content(spool: Spool) -> None:
    spool.put(b"inbox/x/a.txt", b"hello")
    leases, sent = FakeLeases(), FakePublisher()

    result = intake(spool, leases, sent).run_turn("event")

    (parcel,) = sent.parcels
    (part,) = parcel.files
    assert (result.claimed, result.refused, result.has_more, result.is_waiting) == (1, 0, False, False)
    assert (parcel.inbox, parcel.host, parcel.root) == ("drop", HOST, os.fsencode(spool.root))
    assert (part.filename, part.stream, part.content_length) == (b"x/a.txt", b"hello", 5)
    assert is_parcel_id(parcel.id)
    assert leases.records[parcel.id].held is LeaseState.QUEUED
    assert spool.files() == {b"claimed/" + parcel.id.encode() + b"/x/a.txt": b"hello"}


@pytest.mark.parametrize(
    ("needs_inline", "files", "is_inline"), [(None, 3, True), (True, 3, True), (False, 3, False), (False, 1, True)]
)
def test_a_multi_file_parcel_carries_content_only_if_a_worker_needs_it(
    needs_inline: bool | None, files: int, is_inline: bool, spool: Spool
) -> None:
    sent = FakePublisher()
    registry = None if needs_inline is None else SimpleNamespace(needs_inline=needs_inline)
    drop_intake = intake(spool, known_rate(), sent, registry=registry)
    spool.put(b"inbox/first")
    drop_intake.run_turn("event")  # determines the seconds per file
    drop(spool, files)

    drop_intake.run_turn("event")

    _, parcel = sent.parcels
    assert [part.stream is not None for part in parcel.files] == [is_inline] * files
    assert all("sha256" in part.headers for part in parcel.files)


def test_a_large_file_is_sent_by_reference(spool: Spool) -> None:
    spool.put(b"inbox/a", b"x" * 65)
    sent = FakePublisher()

    intake(spool, FakeLeases(), sent, inline_bytes_max=64).run_turn("event")

    assert [part.stream for parcel in sent.parcels for part in parcel.files] == [None]


def test_from_an_empty_inbox_nothing_is_claimed(spool: Spool) -> None:
    sent = FakePublisher()

    result = intake(spool, FakeLeases(), sent).run_turn("scan")

    assert (result.claimed, result.has_more, result.is_waiting, result.scan.ready_in) == (0, False, False, None)
    assert sent.parcels == []
    assert list((spool.root / "claimed").iterdir()) == []


def test_ready_in_is_the_time_until_an_incomplete_file_is_complete(spool: Spool) -> None:
    spool.put(b"inbox/a")
    sent = FakePublisher()
    waiting = Intake(make_intake_deps(Disk(), FakeLeases(), sent), spool.inbox(), WaitTimes(100.0, 100.0, 100.0), network=False)

    result = waiting.run_turn("event")

    assert result.claimed == 0
    assert result.scan.ready_in == pytest.approx(100.0, abs=5.0)


def test_rescan_seconds_is_the_time_spent_on_entries_that_stay(spool: Spool) -> None:
    drop(spool, 30)
    waits, disk = WaitTimes(1e6, 1e6, 1e6), SlowDisk()
    waiting = Intake(make_intake_deps(disk, known_rate(10.0), FakePublisher()), spool.inbox(), waits, network=False)

    assert waiting.run_turn("scan").scan.rescan_seconds > 30 * SlowDisk.SECONDS

    assert intake(spool, known_rate(10.0), FakePublisher(), disk).run_turn("scan").scan.rescan_seconds < 30 * SlowDisk.SECONDS


def test_rescan_seconds_covers_all_turns_of_one_scan_only(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_files, "ENTRIES_PER_TURN", 10)
    clock = Clock()
    monkeypatch.setattr(ready_files, "time", clock)
    drop(spool, 25)
    drop_intake = Intake(
        make_intake_deps(Disk(), known_rate(), FakePublisher()), spool.inbox(), WaitTimes(1e6, 1e6, 1e6), network=False
    )
    durations = [drop_intake.run_turn("scan").scan.rescan_seconds for _ in range(3)]

    for number in range(24):
        spool.where(b"inbox/%04d" % number).unlink()
    before = clock.seconds
    next_duration = drop_intake.run_turn("scan").scan.rescan_seconds

    assert durations == sorted(durations)
    assert durations[2] == pytest.approx(before, rel=0.1)
    assert next_duration <= clock.seconds - before


class SlowListDisk(Disk):
    """A disk that is slow to list each entry, and the end of a folder."""

    SECONDS = 0.005

    def entries(self, at: Fd) -> Iterator[tuple[bytes, bool]]:
        for entry in super().entries(at):
            time.sleep(self.SECONDS)
            yield entry
        time.sleep(self.SECONDS)


def test_rescan_seconds_excludes_refused_entries_and_includes_sub_folders(spool: Spool) -> None:
    for number in range(9):
        spool.where(b"inbox/link%d" % number).symlink_to("nowhere")
    refused = intake(spool, known_rate(), FakePublisher(), SlowListDisk()).run_turn("scan").scan.rescan_seconds
    for number in range(9):
        spool.where(b"inbox/folder%d" % number).mkdir()
    kept = (
        intake(spool, known_rate(), FakePublisher(), SlowListDisk(), empty_folders="keep").run_turn("scan").scan.rescan_seconds
    )

    assert refused * 2 < kept
    assert kept > 9 * SlowListDisk.SECONDS


def test_rescan_seconds_includes_the_listing_of_an_empty_folder(spool: Spool) -> None:
    assert (
        intake(spool, known_rate(), FakePublisher(), SlowListDisk()).run_turn("scan").scan.rescan_seconds
        >= SlowListDisk.SECONDS
    )


def test_a_parcel_is_smaller_if_packing_is_slow(spool: Spool) -> None:
    class SlowOpenDisk(Disk):
        def open_file(self, at: Fd, name: bytes) -> Fd:
            time.sleep(0.02)
            return super().open_file(at, name)

    drop(spool, 60)
    sent = FakePublisher()

    run_all_turns(intake(spool, known_rate(), sent, SlowOpenDisk()))

    assert 1 < max(len(parcel.files) for parcel in sent.parcels) <= 25


def test_a_lost_claim_does_not_count_as_packing_time(spool: Spool) -> None:
    class LostRaceDisk(Disk):
        def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
            if src == b"0000":
                raise FileNotFoundError(2, "missing")
            super().rename(src_at, src, dst_at, dst)

        rename_over = rename

    drop(spool, 1)
    sent = FakePublisher()
    drop_intake = intake(spool, known_rate(), sent, LostRaceDisk())
    drop_intake.run_turn("event")
    drop(spool, 60)

    run_all_turns(drop_intake)

    assert [len(parcel.files) for parcel in sent.parcels][:1] == [1]


def test_an_open_file_is_checked_again_and_has_no_known_completion(spool: Spool) -> None:
    with spool.put(b"inbox/a").open("ab"):
        scan = intake(spool, known_rate(), FakePublisher()).run_turn("scan").scan

    assert scan.ready_in is None
    assert scan.recheck_in == pytest.approx(BUSY_RECHECK_SECONDS, abs=0.5)


def test_before_the_speed_is_known_a_limited_number_of_single_file_parcels_is_sent(spool: Spool) -> None:
    drop(spool, UNKNOWN_RATE_PARCELS_MAX + 5)
    sent = FakePublisher()

    result = intake(spool, FakeLeases(), sent).run_turn("event")

    assert [len(parcel.files) for parcel in sent.parcels] == [1] * UNKNOWN_RATE_PARCELS_MAX
    assert result.is_waiting


def test_files_for_a_fast_handler_share_parcels(spool: Spool) -> None:
    drop(spool, 251)
    sent = FakePublisher()

    drop_intake = intake(spool, known_rate(), sent, parcel_files_max=100)
    run_all_turns(drop_intake)
    drop_intake.run_turn("returned", scan=False)

    sizes = [len(parcel.files) for parcel in sent.parcels]
    assert sizes[0] == 1  # determines the seconds per file
    assert max(sizes) == 100
    assert sorted(sent.paths()) == [b"%04d" % number for number in range(251)]


def test_files_for_a_slow_handler_are_sent_in_single_file_parcels(spool: Spool) -> None:
    drop(spool, 5)
    sent = FakePublisher()

    run_all_turns(intake(spool, known_rate(10.0), sent))

    assert [len(parcel.files) for parcel in sent.parcels] == [1] * 5


def test_no_parcel_exceeds_parcel_bytes_max(spool: Spool) -> None:
    drop(spool, 60, size=60)
    sent = FakePublisher()

    run_all_turns(intake(spool, known_rate(), sent, parcel_bytes_max=1024))

    assert max(parcel.inline_bytes for parcel in sent.parcels) <= 1024
    assert max(len(parcel.files) for parcel in sent.parcels) == 1024 // 60


def test_parcel_bytes_max_does_not_limit_parcels_without_content(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PACKING_SECONDS_MAX", 1e3)  # however slow this machine packs just now
    drop(spool, 60, size=60)
    sent = FakePublisher()

    run_all_turns(intake(spool, known_rate(), sent, registry=SimpleNamespace(needs_inline=False), parcel_bytes_max=1024))

    assert [len(parcel.files) for parcel in sent.parcels] == [1, 59]  # the first determines the seconds per file


def test_no_more_files_are_claimed_than_in_flight_files_max(spool: Spool) -> None:
    drop(spool, 30)
    sent = FakePublisher()
    drop_intake = intake(spool, known_rate(), sent, in_flight_files_max=10)

    are_waiting = [drop_intake.run_turn("event").is_waiting for _ in range(3)]

    assert len(spool.files("claimed")) == 10
    assert len(spool.files("inbox")) == 20
    assert are_waiting == [True] * 3


def test_claims_stop_once_in_flight_bytes_max_is_reached(spool: Spool) -> None:
    drop(spool, 60, size=64)
    sent = FakePublisher()

    run_all_turns(intake(spool, known_rate(0.05), sent, in_flight_bytes_max=1024))

    assert 1024 <= sum(parcel.inline_bytes for parcel in sent.parcels) < 2 * 1024


def test_after_a_parcel_is_filed_the_next_one_is_sent(spool: Spool) -> None:
    drop(spool, 3)
    sent = FakePublisher()
    drop_intake = intake(spool, known_rate(), sent, in_flight_files_max=1)
    drop_intake.run_turn("event")
    for place in (spool.root / "claimed").iterdir():
        (place / os.fsdecode(sent.paths()[0])).unlink()
        place.rmdir()

    result = drop_intake.run_turn("returned")

    assert result.claimed == 1
    assert len(set(sent.paths())) == 2


def test_parcels_of_other_processes_count_as_in_flight(spool: Spool) -> None:
    spool.claimed(*[b"%d" % number for number in range(10)])
    drop(spool, 1)
    sent = FakePublisher()

    result = intake(spool, known_rate(), sent, in_flight_files_max=10).run_turn("event")

    assert (result.claimed, result.is_waiting) == (0, True)


def test_a_turn_scans_a_limited_number_of_entries(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_files, "ENTRIES_PER_TURN", 4)
    drop(spool, 10)
    sent = FakePublisher()
    drop_intake = intake(spool, known_rate(10.0), sent)

    first = drop_intake.run_turn("event")

    assert first.has_more
    assert not drop_intake.is_between_scans
    run_all_turns(drop_intake)
    assert drop_intake.is_between_scans
    drop_intake.run_turn("returned", scan=False)
    assert len(sent.paths()) == 10


def test_a_turn_ends_when_its_time_is_up(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "TURN_SECONDS", -1.0)
    drop(spool, 3)
    sent = FakePublisher()
    drop_intake = intake(spool, known_rate(10.0), sent)

    turns = [(drop_intake.run_turn("event").has_more, len(sent.parcels)) for _ in range(3)]

    assert turns == [(True, 1), (True, 2), (False, 3)]


def test_the_files_of_an_interrupted_turn_are_sent_before_the_next_scan(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "TURN_SECONDS", -1.0)
    drop(spool, 3)
    drop_intake = intake(spool, known_rate(10.0), FakePublisher())
    mode = WatchMode(uses_events=True, reason="")
    watched = WatchedInbox(spool.inbox(), drop_intake, Mount(1, "ext4", "/"), mode, (0, 0, 0, 0), requested_reason=None)

    scans = []
    for _ in range(3):
        turn = watched.next_turn
        watched.on_turn_end(turn, drop_intake.run_turn(turn.reason, scan=turn.scan), 0.0)
        scans.append(watched.next_turn.scan)

    assert scans == [False, False, True]


@pytest.mark.parametrize(("wait_for_more", "sent_at_once"), [(True, 31), (False, 33)])
def test_without_wait_for_more_every_ready_file_is_sent(wait_for_more: bool, sent_at_once: int, spool: Spool) -> None:
    drop(spool, 33)
    sent = FakePublisher()

    result = intake(spool, known_rate(), sent, parcel_files_max=10).run_turn("sweep", wait_for_more=wait_for_more)

    assert len(sent.paths()) == sent_at_once
    assert result.is_waiting is wait_for_more


def test_sub_folders_are_pruned_a_few_at_a_time_and_the_scan_ends_with_the_last(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "PRUNED_PER_TURN", 2)
    names = [b"x/%d" % number for number in range(4)]
    drop_intake = intake(spool, known_rate(), FakePublisher(), empty_folder_seconds=0.0)
    drop_intake.run_turn("start")  # folders that are there now would stay
    for name in names:
        spool.where(b"inbox/" + name).mkdir(parents=True)
        spool.put(b"done/%s/a" % name)

    turns = [
        (drop_intake.run_turn("scan").has_more, len(spool.folders_in("inbox")), drop_intake.is_between_scans) for _ in range(3)
    ]

    assert turns == [(True, 3, False), (True, 1, False), (False, 0, True)]


@pytest.mark.parametrize("opened_count", [1, 2, 3])
def test_a_scan_continues_in_the_same_inbox_if_descriptor_numbers_are_reused(
    opened_count: int, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "ENTRIES_PER_TURN", 2)
    for path in (b"a", b"b", b"c", b"x/d", b"x/y/e"):
        spool.put(b"inbox/" + path)
    sent = FakePublisher()
    drop_intake = intake(spool, FakeLeases(), sent)
    drop_intake.run_turn("event")

    opened = [os.open("/", os.O_RDONLY) for _ in range(opened_count)]
    run_all_turns(drop_intake)

    for descriptor in opened:
        os.close(descriptor)
    assert sorted(sent.paths()) == [b"a", b"b", b"c", b"x/d", b"x/y/e"]


def test_every_claimed_file_is_logged(spool: Spool) -> None:
    spool.put(b"inbox/\xff\n", b"hello")
    sent = FakePublisher()

    with capture_logs() as lines:
        intake(spool, FakeLeases(), sent).run_turn("event")

    (line,) = [line for line in lines if line["event"] == events.FILE_CLAIMED]
    assert line["file"] == b"\xff\n"
    assert (line["inbox"], line["parcel"], line["size"], line["found_by"]) == ("drop", sent.parcels[0].id, 5, "event")
    assert line["sha256"].startswith("2cf24dba")
