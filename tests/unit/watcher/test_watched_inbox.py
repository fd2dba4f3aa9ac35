"""When the next turn of an inbox is due, and why."""

import math
from pathlib import Path, PurePath

import pytest
from support.disk.spools import Spool
from support.parts.fake_context import intake
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk
from inboxd.intake.intake import IntakeResult
from inboxd.intake.ready_files import ScanResult
from inboxd.intake.watch_mode import WatchMode
from inboxd.watcher.watched_inbox import (
    EVENT,
    OVERFLOW,
    RESCAN_SECONDS,
    RESCAN_SLACK_SECONDS,
    SCAN,
    SCAN_PAUSE_FACTOR,
    SEND_RETRY_SECONDS,
    START,
    UNAVAILABLE_SECONDS,
    NextTurn,
    WatchedInbox,
    folder_identity,
)

NOW = 1000.0
EVENTS = WatchMode(uses_events=True, reason="")
POLLING = WatchMode(uses_events=False, reason="")
POLL = 0.8
SETTLE = 0.3


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def make_idle_inbox(spool: Spool, mode: WatchMode = EVENTS) -> WatchedInbox:
    """Return a watched inbox whose first scan has started."""
    inbox = spool.inbox(poll_seconds=POLL, settle_seconds=SETTLE)
    watched = WatchedInbox(inbox, intake(spool, FakeLeases(), FakePublisher()), Mount(1, "ext4", "/"), mode, (0, 0, 0, 0))
    watched.on_scan_start()
    return watched


def end_turn(watched: WatchedInbox, reason: str = SCAN, now: float = NOW, **result: object) -> NextTurn:
    """End a turn with this result of a complete scan, and return the next turn."""
    is_waiting = bool(result.pop("is_waiting", False))
    watched.on_turn_end(NextTurn(now, reason), IntakeResult(ScanResult(**result), is_waiting=is_waiting), now)
    return watched.next_turn


def end_sending(watched: WatchedInbox, now: float, *, is_waiting: bool = False) -> NextTurn:
    """End a turn without a scan, and return the next turn."""
    watched.on_turn_end(watched.next_turn, IntakeResult(None, is_waiting=is_waiting), now)
    return watched.next_turn


def turn_in(seconds: float, reason: str, *, scan: bool = True) -> NextTurn:
    return NextTurn(pytest.approx(NOW + seconds), reason, scan=scan)


def rescan() -> NextTurn:
    """Return the periodic scan of an inbox that is watched by events."""
    return NextTurn(pytest.approx(NOW + RESCAN_SECONDS), SCAN, slack=RESCAN_SLACK_SECONDS)


def test_a_new_inbox_is_scanned_at_once(spool: Spool) -> None:
    watched = WatchedInbox(
        spool.inbox(), intake(spool, FakeLeases(), FakePublisher()), Mount(1, "ext4", "/"), EVENTS, (0, 0, 0, 0)
    )

    assert (watched.next_turn, watched.outage) == (NextTurn(-math.inf, START), None)


# hints


def test_an_announced_file_is_scanned_once_it_has_settled(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched)

    watched.on_arrival(NOW)

    assert watched.next_turn == turn_in(SETTLE, EVENT)


def test_more_announced_files_do_not_delay_the_scan(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched)

    for elapsed in (0.0, 0.1, 0.2):
        watched.on_arrival(NOW + elapsed)

    assert watched.next_turn == turn_in(SETTLE, EVENT)


def test_an_announced_file_does_not_delay_a_due_scan(spool: Spool) -> None:
    watched = make_idle_inbox(spool, POLLING)
    end_turn(watched, now=NOW - POLL)

    watched.on_arrival(NOW)

    assert watched.next_turn == turn_in(0.0, SCAN)


def test_a_requested_scan_comes_first(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, has_more=True)

    watched.request_scan(OVERFLOW)

    assert watched.next_turn == NextTurn(-math.inf, OVERFLOW)


# the choice


def test_an_inbox_that_is_watched_by_events_is_scanned_seldom(spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool)) == rescan()


def test_only_the_periodic_scan_may_run_early(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    periodic = end_turn(watched)
    watched.on_arrival(NOW)
    announced = watched.next_turn

    assert [periodic.is_due(periodic.at - RESCAN_SLACK_SECONDS - delay) for delay in (0.1, 0.0)] == [False, True]
    assert [announced.is_due(announced.at - seconds) for seconds in (0.1, 0.0)] == [False, True]


def test_a_polled_inbox_is_scanned_often(spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool, POLLING)) == turn_in(POLL, SCAN)


def test_an_inbox_with_sub_folders_which_are_not_watched_is_scanned_often(spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool), has_folders=True) == turn_in(POLL, SCAN)


def test_an_unfinished_turn_is_continued_at_once(spool: Spool) -> None:
    watched = make_idle_inbox(spool)

    assert end_turn(watched, EVENT, has_more=True, ready_in=3.0) == turn_in(0.0, EVENT)
    assert watched.is_busy


def test_an_interrupted_turn_is_continued_without_a_scan(spool: Spool) -> None:
    watched = make_idle_inbox(spool)

    watched.on_turn_end(NextTurn(NOW, EVENT), IntakeResult(ScanResult(), is_interrupted=True), NOW)

    assert watched.next_turn == turn_in(0.0, EVENT, scan=False)


@pytest.mark.parametrize(("mode", "reason"), [(EVENTS, EVENT), (POLLING, SCAN)])
def test_a_settling_file_is_scanned_when_it_is_complete(mode: WatchMode, reason: str, spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool, mode), ready_in=0.2) == turn_in(0.2, reason)


def test_a_file_with_a_long_wait_does_not_delay_the_periodic_scan(spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool), ready_in=60.0) == rescan()


def test_waiting_files_are_tried_again_soon_without_an_event(spool: Spool) -> None:
    watched = make_idle_inbox(spool)

    assert end_turn(watched, is_waiting=True) == turn_in(SEND_RETRY_SECONDS, SCAN, scan=False)
    assert watched.is_busy


def test_waiting_files_do_not_delay_a_scan(spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool), is_waiting=True, has_folders=True) == turn_in(POLL, SCAN)


def test_an_inbox_without_waiting_files_is_not_busy(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, is_waiting=True)

    assert end_turn(watched) == rescan()
    assert not watched.is_busy


def test_a_turn_without_a_scan_keeps_the_time_at_which_a_file_is_complete(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, is_waiting=True, ready_in=2.0)

    assert end_sending(watched, NOW + SEND_RETRY_SECONDS) == turn_in(2.0, EVENT)


def test_long_scans_use_at_most_a_tenth_of_the_time(spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool, POLLING), rescan_seconds=3.0) == turn_in(3.0 * SCAN_PAUSE_FACTOR, SCAN)
    assert end_turn(make_idle_inbox(spool, POLLING), rescan_seconds=0.04) == turn_in(POLL, SCAN)


@pytest.mark.parametrize("is_announced", [True, False])
def test_long_scans_use_half_of_the_time_while_arrivals_are_known(is_announced: bool, spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    if is_announced:
        watched.on_arrival(NOW - 1.0)

    assert end_turn(watched, rescan_seconds=3.0, ready_in=None if is_announced else 0.1) == turn_in(3.0, EVENT)
    watched.on_arrival(NOW + 1.0)
    assert watched.next_turn == turn_in(3.0, EVENT)


@pytest.mark.parametrize(("arrives_in", "scanned_in"), [(2.9, 2.9 + SETTLE), (1.0, 3.0)])
def test_a_file_announced_during_the_pause_waits_for_its_end(arrives_in: float, scanned_in: float, spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, rescan_seconds=3.0)

    watched.on_arrival(NOW + arrives_in)

    assert watched.next_turn == turn_in(scanned_in, EVENT)


@pytest.mark.parametrize("mode", [EVENTS, POLLING])
def test_a_file_that_stays_open_does_not_shorten_the_pause_after_a_long_scan(mode: WatchMode, spool: Spool) -> None:
    assert end_turn(make_idle_inbox(spool, mode), recheck_in=0.7, rescan_seconds=3.0) == turn_in(3.0 * SCAN_PAUSE_FACTOR, SCAN)
    assert end_turn(make_idle_inbox(spool, mode), recheck_in=0.7) == turn_in(0.7, SCAN)


def test_turns_without_a_scan_do_not_delay_the_scan(spool: Spool) -> None:
    watched = make_idle_inbox(spool, POLLING)
    end_turn(watched, rescan_seconds=3.0, is_waiting=True)

    for elapsed in (10.0, 20.0, 29.5):
        end_sending(watched, NOW + elapsed, is_waiting=True)

    assert watched.next_turn == turn_in(3.0 * SCAN_PAUSE_FACTOR, SCAN)


def test_neither_waiting_files_nor_a_filed_parcel_shorten_the_pause(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, rescan_seconds=30.0, is_waiting=True)

    watched.on_arrival(NOW)
    assert watched.next_turn == turn_in(SEND_RETRY_SECONDS, EVENT, scan=False)
    watched.on_parcel_removed(NOW + 0.1)
    watched.on_arrival(NOW + 0.1)
    assert watched.next_turn == turn_in(0.1, EVENT, scan=False)


def test_filed_parcels_do_not_delay_the_scan_for_an_announced_file(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, is_waiting=True)
    watched.on_arrival(NOW)

    for elapsed in (0.1, 0.2):
        watched.on_parcel_removed(NOW + elapsed)
        end_sending(watched, NOW + elapsed, is_waiting=True)

    assert watched.next_turn == turn_in(SETTLE, EVENT)


def test_a_scan_fulfils_earlier_announcements(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    watched.on_arrival(NOW)

    watched.on_scan_start()

    assert end_turn(watched) == rescan()


def test_after_an_outage_the_next_turn_is_a_scan(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, rescan_seconds=3.0, is_waiting=True, ready_in=9.0)

    watched.set_unavailable("missing", NOW)

    assert watched.next_turn == turn_in(UNAVAILABLE_SECONDS[0], SCAN)
    assert not watched.is_busy


def test_a_file_that_was_announced_during_a_long_unfinished_scan_is_scanned_at_once(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, now=NOW - 20.0, has_more=True, rescan_seconds=2.0)
    watched.on_arrival(NOW - 10.0)

    turn = end_turn(watched)

    assert turn.is_due(NOW)
    assert turn.reason == EVENT


# filed parcels


def test_a_filed_parcel_causes_a_turn_for_waiting_files_at_once(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, is_waiting=True)

    watched.on_parcel_removed(NOW + 0.1)

    assert watched.next_turn == turn_in(0.1, SCAN, scan=False)


def test_a_filed_parcel_causes_no_turn_if_no_file_waits(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched)

    watched.on_parcel_removed(NOW + 0.1)

    assert watched.next_turn == rescan()


def test_a_filed_parcel_does_not_delay_a_due_turn(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    end_turn(watched, has_more=True)

    watched.on_parcel_removed(NOW + 0.1)

    assert watched.next_turn == turn_in(0.0, SCAN)


# folders that are unavailable


def test_the_delay_between_tries_doubles_up_to_a_limit(spool: Spool) -> None:
    watched = make_idle_inbox(spool)

    waits = []
    for _ in range(9):
        watched.set_unavailable("missing", NOW)
        waits.append(watched.next_turn.at - NOW)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_set_unavailable_returns_true_once_for_each_reason(spool: Spool) -> None:
    watched = make_idle_inbox(spool)

    are_new = [watched.set_unavailable(outage, NOW) for outage in ("missing", "missing", "denied", "denied")]

    assert are_new == [True, False, True, False]
    assert watched.outage == "denied"


def test_set_available_returns_true_once_and_resets_the_delay(spool: Spool) -> None:
    watched = make_idle_inbox(spool)
    for _ in range(5):
        watched.set_unavailable("missing", NOW)

    were_unavailable = [watched.set_available(), watched.set_available()]
    watched.set_unavailable("missing", NOW)

    assert were_unavailable == [True, False]
    assert watched.next_turn == turn_in(UNAVAILABLE_SECONDS[0], SCAN)


# identity


def test_the_identity_does_not_depend_on_the_files(spool: Spool) -> None:
    before = folder_identity(Disk(), PurePath(spool.root))

    spool.put(b"inbox/a")
    spool.claimed(b"b")

    assert folder_identity(Disk(), PurePath(spool.root)) == before


@pytest.mark.parametrize("folder", ["", "inbox", "claimed"])
def test_the_identity_changes_if_a_folder_is_replaced(folder: str, spool: Spool, tmp_path: Path) -> None:
    before = folder_identity(Disk(), PurePath(spool.root))

    (spool.root / folder).rename(tmp_path / "old")
    for name in ("inbox", "claimed"):
        (spool.root / name).mkdir(parents=True, exist_ok=True)

    assert folder_identity(Disk(), PurePath(spool.root)) != before


@pytest.mark.parametrize("folder", ["", "inbox", "claimed"])
def test_the_identity_of_an_inbox_with_a_missing_folder_raises_an_error(folder: str, spool: Spool, tmp_path: Path) -> None:
    (spool.root / folder).rename(tmp_path / "moved")

    with pytest.raises(FileNotFoundError):
        folder_identity(Disk(), PurePath(spool.root))


def test_an_arrival_waits_while_the_in_flight_limits_stop_a_scan(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that can neither scan nor send would be due again at once, for ever."""
    watched = make_idle_inbox(spool)
    monkeypatch.setattr(type(watched.intake), "is_between_scans", property(lambda _intake: False))
    end_sending(watched, NOW, is_waiting=True)

    watched.on_arrival(NOW)

    assert watched.next_turn == NextTurn(NOW + SEND_RETRY_SECONDS, SCAN, scan=False)
