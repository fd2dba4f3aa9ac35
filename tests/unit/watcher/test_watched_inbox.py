"""When an inbox is looked at next."""

import math
from pathlib import Path, PurePath

import pytest
from support.disk.spools import Spool
from support.parts.fake_context import intake
from support.parts.fakes import FakeLeases, Sent

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
    SCAN_REST_FACTOR,
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


def idle(spool: Spool, mode: WatchMode = EVENTS) -> WatchedInbox:
    """Return an inbox that has been scanned once, where nothing has arrived since."""
    inbox = spool.inbox(poll_seconds=POLL, settle_seconds=SETTLE)
    watched = WatchedInbox(inbox, intake(spool, FakeLeases(), Sent()), Mount(1, "ext4", "/"), mode, (0, 0, 0, 0))
    watched.on_scan_start()
    return watched


def end_turn(watched: WatchedInbox, reason: str = SCAN, now: float = NOW, **found: object) -> NextTurn:
    """End a turn with a complete scan that has found this, and return the next look."""
    is_waiting = bool(found.pop("is_waiting", False))
    watched.on_turn_end(NextTurn(now, reason), IntakeResult(ScanResult(**found), is_waiting=is_waiting), now)
    return watched.next_turn


def end_sending(watched: WatchedInbox, now: float, *, is_waiting: bool = False) -> NextTurn:
    """End a turn without a scan, and return the next look."""
    watched.on_turn_end(watched.next_turn, IntakeResult(None, is_waiting=is_waiting), now)
    return watched.next_turn


def look_in(seconds: float, reason: str, *, scan: bool = True) -> NextTurn:
    return NextTurn(pytest.approx(NOW + seconds), reason, scan=scan)


def rescan() -> NextTurn:
    """Return the look that is made to be sure, where events announce files."""
    return NextTurn(pytest.approx(NOW + RESCAN_SECONDS), SCAN, slack=RESCAN_SLACK_SECONDS)


def test_a_new_inbox_is_looked_at_at_once(spool: Spool) -> None:
    watched = WatchedInbox(spool.inbox(), intake(spool, FakeLeases(), Sent()), Mount(1, "ext4", "/"), EVENTS, (0, 0, 0, 0))

    assert (watched.next_turn, watched.outage) == (NextTurn(-math.inf, START), None)


# hints


def test_a_file_that_arrives_is_looked_at_once_it_has_settled(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched)

    watched.on_arrival(NOW)

    assert watched.next_turn == look_in(SETTLE, EVENT)


def test_more_files_that_arrive_do_not_put_off_the_look(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched)

    for passed in (0.0, 0.1, 0.2):
        watched.on_arrival(NOW + passed)

    assert watched.next_turn == look_in(SETTLE, EVENT)


def test_a_file_that_arrives_does_not_put_off_a_look_that_is_due(spool: Spool) -> None:
    watched = idle(spool, POLLING)
    end_turn(watched, now=NOW - POLL)

    watched.on_arrival(NOW)

    assert watched.next_turn == look_in(0.0, SCAN)


def test_to_look_now_comes_before_all_else(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, has_more=True)

    watched.request_scan(OVERFLOW)

    assert watched.next_turn == NextTurn(-math.inf, OVERFLOW)


# the choice


def test_where_events_tell_of_files_an_inbox_is_looked_at_seldom(spool: Spool) -> None:
    assert end_turn(idle(spool)) == rescan()


def test_what_is_only_looked_at_to_be_sure_is_looked_at_with_others(spool: Spool) -> None:
    watched = idle(spool)
    look = end_turn(watched)
    watched.on_arrival(NOW)
    news = watched.next_turn

    assert [look.is_due(look.at - early) for early in (RESCAN_SLACK_SECONDS + 0.1, RESCAN_SLACK_SECONDS)] == [False, True]
    assert [news.is_due(news.at - early) for early in (0.1, 0.0)] == [False, True]


def test_where_no_events_tell_of_files_an_inbox_is_looked_at_often(spool: Spool) -> None:
    assert end_turn(idle(spool, POLLING)) == look_in(POLL, SCAN)


def test_sub_folders_which_are_not_watched_are_looked_at_often(spool: Spool) -> None:
    assert end_turn(idle(spool), has_folders=True) == look_in(POLL, SCAN)


def test_a_turn_that_left_something_is_followed_by_another_at_once(spool: Spool) -> None:
    watched = idle(spool)

    assert end_turn(watched, EVENT, has_more=True, ready_in=3.0) == look_in(0.0, EVENT)
    assert watched.is_busy


def test_a_turn_that_ran_out_of_time_goes_on_with_the_files_in_hand(spool: Spool) -> None:
    watched = idle(spool)

    watched.on_turn_end(NextTurn(NOW, EVENT), IntakeResult(ScanResult(), is_interrupted=True), NOW)

    assert watched.next_turn == look_in(0.0, EVENT, scan=False)


@pytest.mark.parametrize(("mode", "reason"), [(EVENTS, EVENT), (POLLING, SCAN)])
def test_a_file_that_is_not_complete_yet_is_looked_at_when_it_may_be(mode: WatchMode, reason: str, spool: Spool) -> None:
    assert end_turn(idle(spool, mode), ready_in=0.2) == look_in(0.2, reason)


def test_a_file_that_takes_long_to_be_complete_does_not_put_off_the_scan(spool: Spool) -> None:
    assert end_turn(idle(spool), ready_in=60.0) == rescan()


def test_files_that_wait_for_a_parcel_are_sent_soon_even_if_its_return_is_not_told(spool: Spool) -> None:
    watched = idle(spool)

    assert end_turn(watched, is_waiting=True) == look_in(SEND_RETRY_SECONDS, SCAN, scan=False)
    assert watched.is_busy


def test_files_that_wait_for_a_parcel_do_not_put_off_a_scan(spool: Spool) -> None:
    assert end_turn(idle(spool), is_waiting=True, has_folders=True) == look_in(POLL, SCAN)


def test_once_nothing_waits_any_more_an_inbox_is_not_busy(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, is_waiting=True)

    assert end_turn(watched) == rescan()
    assert not watched.is_busy


def test_a_turn_that_only_sends_does_not_forget_the_file_that_is_soon_complete(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, is_waiting=True, ready_in=2.0)

    assert end_sending(watched, NOW + SEND_RETRY_SECONDS) == look_in(2.0, EVENT)


def test_scans_of_a_large_tree_take_a_tenth_of_the_time_at_most(spool: Spool) -> None:
    assert end_turn(idle(spool, POLLING), rescan_seconds=3.0) == look_in(3.0 * SCAN_REST_FACTOR, SCAN)
    assert end_turn(idle(spool, POLLING), rescan_seconds=0.04) == look_in(POLL, SCAN)


@pytest.mark.parametrize("arrived", [True, False])
def test_where_something_is_known_to_have_come_they_take_half_of_it(arrived: bool, spool: Spool) -> None:
    watched = idle(spool)
    if arrived:
        watched.on_arrival(NOW - 1.0)

    assert end_turn(watched, rescan_seconds=3.0, ready_in=None if arrived else 0.1) == look_in(3.0, EVENT)
    watched.on_arrival(NOW + 1.0)
    assert watched.next_turn == look_in(3.0, EVENT)


@pytest.mark.parametrize(("arrives", "looked_at"), [(2.9, 2.9 + SETTLE), (1.0, 3.0)])
def test_a_file_that_is_announced_during_the_rest_waits_for_its_end(arrives: float, looked_at: float, spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, rescan_seconds=3.0)

    watched.on_arrival(NOW + arrives)

    assert watched.next_turn == look_in(looked_at, EVENT)


@pytest.mark.parametrize("mode", [EVENTS, POLLING])
def test_a_file_that_somebody_keeps_open_does_not_keep_the_watcher_busy(mode: WatchMode, spool: Spool) -> None:
    assert end_turn(idle(spool, mode), recheck_in=0.7, rescan_seconds=3.0) == look_in(3.0 * SCAN_REST_FACTOR, SCAN)
    assert end_turn(idle(spool, mode), recheck_in=0.7) == look_in(0.7, SCAN)


def test_turns_that_only_send_do_not_put_off_the_scan(spool: Spool) -> None:
    watched = idle(spool, POLLING)
    end_turn(watched, rescan_seconds=3.0, is_waiting=True)

    for passed in (10.0, 20.0, 29.5):
        end_sending(watched, NOW + passed, is_waiting=True)

    assert watched.next_turn == look_in(3.0 * SCAN_REST_FACTOR, SCAN)


def test_neither_files_in_hand_nor_a_parcel_that_returns_let_an_event_cut_the_rest_short(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, rescan_seconds=30.0, is_waiting=True)

    watched.on_arrival(NOW)
    assert watched.next_turn == look_in(SEND_RETRY_SECONDS, EVENT, scan=False)
    watched.on_parcel_returned(NOW + 0.1)
    watched.on_arrival(NOW + 0.1)
    assert watched.next_turn == look_in(0.1, EVENT, scan=False)


def test_parcels_that_return_do_not_put_off_what_has_arrived(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, is_waiting=True)
    watched.on_arrival(NOW)

    for passed in (0.1, 0.2):
        watched.on_parcel_returned(NOW + passed)
        end_sending(watched, NOW + passed, is_waiting=True)

    assert watched.next_turn == look_in(SETTLE, EVENT)


def test_what_a_scan_has_seen_is_no_news_any_more(spool: Spool) -> None:
    watched = idle(spool)
    watched.on_arrival(NOW)

    watched.on_scan_start()

    assert end_turn(watched) == rescan()


def test_folders_that_are_unavailable_are_scanned_whatever_was_in_hand(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, rescan_seconds=3.0, is_waiting=True, ready_in=9.0)

    watched.set_unavailable("gone", NOW)

    assert watched.next_turn == look_in(UNAVAILABLE_SECONDS[0], SCAN)
    assert not watched.is_busy


def test_what_arrived_while_a_burst_was_taken_does_not_wait_for_as_long_as_that_took(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, now=NOW - 20.0, has_more=True, rescan_seconds=2.0)
    watched.on_arrival(NOW - 10.0)

    look = end_turn(watched)

    assert look.is_due(NOW)
    assert look.reason == EVENT


# parcels that return


def test_a_parcel_that_returns_makes_room_at_once_for_what_waits(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, is_waiting=True)

    watched.on_parcel_returned(NOW + 0.1)

    assert watched.next_turn == look_in(0.1, SCAN, scan=False)


def test_a_parcel_that_returns_while_nothing_waits_is_no_news(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched)

    watched.on_parcel_returned(NOW + 0.1)

    assert watched.next_turn == rescan()


def test_a_parcel_that_returns_does_not_put_off_a_look_that_is_due(spool: Spool) -> None:
    watched = idle(spool)
    end_turn(watched, has_more=True)

    watched.on_parcel_returned(NOW + 0.1)

    assert watched.next_turn == look_in(0.0, SCAN)


# folders that are unavailable


def test_unavailable_folders_are_looked_for_ever_less_often_up_to_a_limit(spool: Spool) -> None:
    watched = idle(spool)

    waits = []
    for _ in range(9):
        watched.set_unavailable("gone", NOW)
        waits.append(watched.next_turn.at - NOW)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_unavailable_folders_are_news_once_for_each_error(spool: Spool) -> None:
    watched = idle(spool)

    news = [watched.set_unavailable(why, NOW) for why in ("gone", "gone", "denied", "denied")]

    assert news == [True, False, True, False]
    assert watched.outage == "denied"


def test_folders_that_are_back_are_news_once_and_their_next_absence_is_looked_after_early(spool: Spool) -> None:
    watched = idle(spool)
    for _ in range(5):
        watched.set_unavailable("gone", NOW)

    news = [watched.set_available(), watched.set_available()]
    watched.set_unavailable("gone", NOW)

    assert news == [True, False]
    assert watched.next_turn == look_in(UNAVAILABLE_SECONDS[0], SCAN)


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
