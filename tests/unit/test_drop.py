"""When an inbox is looked at next."""

import math
from pathlib import Path, PurePath

import pytest
from support.fakes import FakeLeases, Sent
from support.rooms import intake
from support.spools import Spool

from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk
from inboxd.intake.intake import IntakeResult
from inboxd.intake.ready_files import ScanResult
from inboxd.intake.watch_mode import WatchMode
from inboxd.watcher.watched_inbox import (
    EARLY_SECONDS,
    RESCAN_SECONDS,
    SCAN_REST_FACTOR,
    UNAVAILABLE_SECONDS,
    WAITING_CHECK_SECONDS,
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


def a_drop(spool: Spool, mode: WatchMode = EVENTS, **state: object) -> WatchedInbox:
    """Return an inbox that has been looked at once, and has no news."""
    inbox = spool.inbox(poll_seconds=POLL, settle_seconds=SETTLE)
    way_in = intake(spool, FakeLeases(), Sent())
    at_rest = {"has_news": False, "reason": "scan", **state}
    return WatchedInbox(inbox, way_in, Mount(1, "ext4", "/"), mode, (0, 0, 0, 0), **at_rest)


def planned(drop: WatchedInbox, **taken: object) -> tuple[float, str]:
    """Return in how many seconds it is looked at again, and why."""
    held = bool(taken.pop("held", False))
    drop.schedule(IntakeResult(ScanResult(**taken), is_waiting=held), NOW)
    return pytest.approx(drop.due - NOW), drop.reason


def test_a_new_inbox_is_looked_at_at_once(spool: Spool) -> None:
    inbox = spool.inbox()

    drop = WatchedInbox(inbox, intake(spool, FakeLeases(), Sent()), Mount(1, "ext4", "/"), EVENTS, (0, 0, 0, 0))

    assert (drop.due, drop.has_news, drop.scan, drop.reason, drop.outage) == (0.0, True, True, "start", None)


# hints


def test_a_file_that_arrives_is_looked_at_once_it_has_settled(spool: Spool) -> None:
    drop = a_drop(spool, due=NOW + 5.0, scan=False)

    drop.on_arrival(NOW)

    assert (drop.due, drop.reason, drop.has_news, drop.scan) == (NOW + SETTLE, "event", True, True)


def test_more_files_that_arrive_do_not_put_off_the_look(spool: Spool) -> None:
    drop = a_drop(spool, due=NOW + 5.0)

    for passed in (0.0, 0.1, 0.2):
        drop.on_arrival(NOW + passed)

    assert drop.due == NOW + SETTLE


def test_a_file_that_arrives_does_not_put_off_a_look_that_is_due(spool: Spool) -> None:
    drop = a_drop(spool, due=NOW - 1.0)

    drop.on_arrival(NOW)

    assert drop.due == NOW - 1.0


def test_to_look_now_comes_before_all_else(spool: Spool) -> None:
    drop = a_drop(spool, due=NOW + 5.0, scan=False)

    drop.request_scan("overflow")

    assert (drop.due, drop.reason, drop.has_news, drop.scan) == (-math.inf, "overflow", True, True)


# the plan


def test_where_events_tell_of_files_an_inbox_is_looked_at_seldom(spool: Spool) -> None:
    assert planned(a_drop(spool)) == (RESCAN_SECONDS, "scan")


def test_what_is_only_looked_at_to_be_sure_is_looked_at_with_others(spool: Spool) -> None:
    drop = a_drop(spool)
    drop.schedule(IntakeResult(ScanResult()), NOW)

    assert [drop.is_due(drop.due - early) for early in (EARLY_SECONDS + 0.1, EARLY_SECONDS)] == [False, True]
    drop.on_arrival(NOW)
    assert [drop.is_due(drop.due - early) for early in (0.1, 0.0)] == [False, True]


def test_where_no_events_tell_of_files_an_inbox_is_looked_at_often(spool: Spool) -> None:
    assert planned(a_drop(spool, POLLING)) == (POLL, "scan")


def test_sub_folders_which_are_not_watched_are_looked_at_often(spool: Spool) -> None:
    assert planned(a_drop(spool), has_folders=True) == (POLL, "scan")


def test_a_turn_that_left_something_is_followed_by_another_at_once(spool: Spool) -> None:
    drop = a_drop(spool, reason="event")

    assert planned(drop, has_more=True, ready_in=3.0) == (0.0, "event")
    assert drop.is_busy


def test_what_arrived_meanwhile_is_looked_at_once_it_has_settled(spool: Spool) -> None:
    assert planned(a_drop(spool, has_news=True)) == (SETTLE, "event")


@pytest.mark.parametrize(("mode", "reason"), [(EVENTS, "event"), (POLLING, "scan")])
def test_a_file_that_is_not_complete_yet_is_looked_at_when_it_may_be(mode: WatchMode, reason: str, spool: Spool) -> None:
    assert planned(a_drop(spool, mode), ready_in=0.2) == (0.2, reason)


def test_a_file_that_takes_long_to_be_complete_does_not_put_off_the_scan(spool: Spool) -> None:
    assert planned(a_drop(spool), ready_in=60.0) == (RESCAN_SECONDS, "scan")


def test_files_that_wait_for_a_parcel_are_sent_soon_even_if_its_return_is_not_told(spool: Spool) -> None:
    drop = a_drop(spool)

    assert planned(drop, held=True) == (WAITING_CHECK_SECONDS, "scan")
    assert drop.is_busy
    assert not drop.scan


def test_files_that_wait_for_a_parcel_do_not_put_off_a_scan(spool: Spool) -> None:
    drop = a_drop(spool)

    assert planned(drop, held=True, has_folders=True) == (POLL, "scan")
    assert drop.scan


def test_once_nothing_waits_any_more_an_inbox_is_not_busy(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, held=True)

    planned(drop)

    assert not drop.is_busy
    assert drop.scan


def test_a_turn_that_only_sends_does_not_forget_the_file_that_is_soon_complete(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, held=True, ready_in=2.0)

    drop.schedule(IntakeResult(None), NOW + WAITING_CHECK_SECONDS)

    assert drop.due <= NOW + 2.0


def test_scans_of_a_large_tree_take_a_tenth_of_the_time_at_most(spool: Spool) -> None:
    assert planned(a_drop(spool, POLLING), rescan_seconds=3.0) == (3.0 * SCAN_REST_FACTOR, "scan")
    assert planned(a_drop(spool, POLLING), rescan_seconds=0.04) == (POLL, "scan")


@pytest.mark.parametrize(("state", "found"), [({"has_news": True}, {}), ({}, {"ready_in": 0.1})])
def test_where_something_is_known_to_have_come_they_take_half_of_it(
    state: dict[str, object], found: dict[str, object], spool: Spool
) -> None:
    drop = a_drop(spool, **state)

    assert planned(drop, rescan_seconds=3.0, **found) == (3.0, "event")
    drop.on_arrival(NOW + 1.0)
    assert drop.due == NOW + 3.0


def test_a_file_that_is_announced_during_the_rest_waits_for_its_end(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, rescan_seconds=3.0)

    drop.on_arrival(NOW + 2.9)
    assert drop.due == pytest.approx(NOW + 2.9 + SETTLE)
    drop.due = math.inf
    drop.on_arrival(NOW + 1.0)
    assert drop.due == NOW + 3.0


@pytest.mark.parametrize("mode", [EVENTS, POLLING])
def test_a_file_that_somebody_keeps_open_does_not_keep_the_watcher_busy(mode: WatchMode, spool: Spool) -> None:
    assert planned(a_drop(spool, mode), recheck_in=0.7, rescan_seconds=3.0) == (3.0 * SCAN_REST_FACTOR, "scan")
    assert planned(a_drop(spool, mode), recheck_in=0.7) == (0.7, "scan")


def test_turns_that_only_send_do_not_put_off_the_scan(spool: Spool) -> None:
    drop = a_drop(spool, POLLING)
    planned(drop, rescan_seconds=3.0, held=True)

    for passed in (10.0, 20.0, 29.5):
        drop.schedule(IntakeResult(None, is_waiting=True), NOW + passed)

    assert (drop.due, drop.scan) == (NOW + 3.0 * SCAN_REST_FACTOR, True)


def test_neither_files_in_hand_nor_a_parcel_that_returns_let_an_event_cut_the_rest_short(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, rescan_seconds=30.0, held=True)

    drop.on_arrival(NOW)
    assert (drop.due, drop.scan) == (NOW + WAITING_CHECK_SECONDS, False)
    drop.on_parcel_returned(NOW + 0.1)
    drop.on_arrival(NOW + 0.1)
    assert (drop.due, drop.scan) == (NOW + 0.1, False)


def test_parcels_that_return_do_not_put_off_what_has_arrived(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, held=True)
    drop.on_arrival(NOW)

    for passed in (0.1, 0.2):
        drop.on_parcel_returned(NOW + passed)
        drop.schedule(IntakeResult(None, is_waiting=True), NOW + passed)

    assert (drop.due, drop.scan) == (NOW + SETTLE, True)


def test_what_a_scan_has_seen_is_no_news_any_more(spool: Spool) -> None:
    drop = a_drop(spool)
    drop.on_arrival(NOW)

    drop.on_scan_start()

    assert planned(drop) == (RESCAN_SECONDS, "scan")


def test_a_folder_that_was_away_is_looked_at_whatever_was_in_hand(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, rescan_seconds=3.0, held=True, ready_in=9.0)
    assert not drop.scan

    drop.set_unavailable("gone", NOW)

    assert drop.scan
    assert (drop.due, drop.known_at, drop.rest_until) == (NOW + UNAVAILABLE_SECONDS[0], math.inf, 0.0)


def test_what_arrived_while_a_burst_was_taken_does_not_wait_for_as_long_as_that_took(spool: Spool) -> None:
    drop = a_drop(spool)
    drop.schedule(IntakeResult(ScanResult(has_more=True, rescan_seconds=2.0)), NOW - 20.0)
    drop.on_arrival(NOW - 10.0)

    planned(drop)

    assert (drop.due <= NOW, drop.reason) == (True, "event")


# parcels that return


def test_a_parcel_that_returns_makes_room_at_once_for_what_waits(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, held=True)

    drop.on_parcel_returned(NOW + 0.1)

    assert (drop.due, drop.scan) == (NOW + 0.1, False)


def test_a_parcel_that_returns_while_nothing_waits_is_no_news(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop)

    drop.on_parcel_returned(NOW + 0.1)

    assert (drop.due, drop.scan) == (NOW + RESCAN_SECONDS, True)


def test_a_parcel_that_returns_does_not_put_off_a_look_that_is_due(spool: Spool) -> None:
    drop = a_drop(spool)
    planned(drop, has_more=True)

    drop.on_parcel_returned(NOW + 0.1)

    assert (drop.due, drop.scan) == (NOW, True)


# folders that are away


def test_a_folder_that_is_away_is_looked_for_ever_less_often_up_to_a_limit(spool: Spool) -> None:
    drop = a_drop(spool)

    waits = []
    for _ in range(9):
        drop.set_unavailable("gone", NOW)
        waits.append(drop.due - NOW)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_folder_that_is_away_is_news_once_for_each_trouble(spool: Spool) -> None:
    drop = a_drop(spool)

    news = [drop.set_unavailable(why, NOW) for why in ("gone", "gone", "denied", "denied")]

    assert news == [True, False, True, False]
    assert drop.outage == "denied"


def test_a_folder_that_is_back_is_news_once_and_its_next_absence_is_looked_after_early(spool: Spool) -> None:
    drop = a_drop(spool)
    for _ in range(5):
        drop.set_unavailable("gone", NOW)

    news = [drop.set_available(), drop.set_available()]
    drop.set_unavailable("gone", NOW)

    assert news == [True, False]
    assert drop.due == NOW + UNAVAILABLE_SECONDS[0]


# identity


def test_an_inbox_is_itself_as_long_as_its_folders_are(spool: Spool) -> None:
    before = folder_identity(Disk(), PurePath(spool.root))

    spool.put(b"inbox/a")
    spool.claimed(b"b")

    assert folder_identity(Disk(), PurePath(spool.root)) == before


@pytest.mark.parametrize("folder", ["", "inbox", "claimed"])
def test_an_inbox_whose_folder_was_replaced_is_another(folder: str, spool: Spool, tmp_path: Path) -> None:
    before = folder_identity(Disk(), PurePath(spool.root))

    (spool.root / folder).rename(tmp_path / "old")
    for name in ("inbox", "claimed"):
        (spool.root / name).mkdir(parents=True, exist_ok=True)

    assert folder_identity(Disk(), PurePath(spool.root)) != before


@pytest.mark.parametrize("folder", ["", "inbox", "claimed"])
def test_an_inbox_whose_folder_is_missing_has_no_identity(folder: str, spool: Spool, tmp_path: Path) -> None:
    (spool.root / folder).rename(tmp_path / "away")

    with pytest.raises(FileNotFoundError):
        folder_identity(Disk(), PurePath(spool.root))
