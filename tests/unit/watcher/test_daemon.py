"""The watcher's loop, with real folders and real events, and a broker that can be away."""

import errno
import shutil
import threading
import time
from pathlib import Path, PurePath
from typing import Any

import pytest
from support.disk.spools import Spool
from support.parts.watchers import Refusing, Watcher
from support.waiting import eventually

from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.watcher import folder_checks, watches
from inboxd.watcher.broker_link import RETRY_SECONDS
from inboxd.watcher.hints import Hint, HintKind
from inboxd.watcher.observer import Observer

# files


def test_what_lies_there_at_the_start_is_sent(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")

    with watcher.running():
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["file"] for line in watcher.logs(events.FILE_CLAIMED)] == [b"a"]


def test_what_arrives_is_sent_by_its_event(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["found_by"] for line in watcher.logs(events.FILE_CLAIMED)] == ["event"]


def test_an_inbox_that_is_polled_needs_no_event(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Refusing, {"watch_mode": "polling"})

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["mode"] for line in watcher.logs(events.WATCHING)] == ["polling"]


def test_where_the_system_has_no_watches_left_we_poll_and_say_so(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Refusing)

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert "inotify watch limit reached: raise fs.inotify.max_user_watches" in watcher.logs(events.EVENTS_LOST)[0]["error"]
    assert [line["mode"] for line in watcher.logs(events.WATCHING)] == ["polling"]


def test_when_the_system_has_watches_again_they_are_used(
    tmp_path: Path, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Grudging(Observer):
        """Has no watches left at first."""

        refusals = 3

        def watch(self, inbox: str, root: PurePath) -> None:
            if self.refusals:
                self.refusals -= 1
                raise OSError(errno.ENOSPC, "inotify watch limit reached")
            super().watch(inbox, root)

    monkeypatch.setattr(watches, "WATCH_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(folder_checks, "CHECK_SECONDS", 0.05)
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Grudging)

    with watcher.running():
        eventually(lambda: len(watcher.logs(events.WATCHING)) == 2)

    assert [line["mode"] for line in watcher.logs(events.WATCHING)] == ["polling", "inotify"]
    assert len(watcher.logs(events.EVENTS_LOST)) == 1


def test_events_that_were_lost_are_told_and_the_whole_inbox_is_looked_at(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    class Silent(Observer):
        def watch(self, inbox: str, root: PurePath) -> None:
            """See nothing."""

    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Silent)

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        watcher.hints.put(Hint(HintKind.OVERFLOWED, "drop"))
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(events.EVENTS_LOST)) == 1
    assert watcher.counters.counts["drop", "events_lost"] + watcher.deps.tally.counts["drop", "events_lost"] == 1


def test_what_was_found_is_counted_with_the_next_sign_of_life(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")
    watcher.spool.put(b"inbox/b")

    with watcher.running():
        eventually(lambda: sum(watcher.counters.counts.values()) == 2)

    assert {name for _, name in watcher.counters.counts} <= {"found:start", "found:event"}


def test_counts_that_redis_refuses_keep_nothing_from_being_taken(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_tally: object) -> None:
        raise BrokerUnavailable("redis: WRONGTYPE")

    monkeypatch.setattr(watcher.counters, "write", refuse)

    with watcher.running():
        eventually(lambda: len(watcher.broker.beats) >= 2)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert not watcher.logs(events.BROKER_UNAVAILABLE)


def test_a_parcel_that_returns_makes_room_for_the_next(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, rules={"in_flight_files_max": 1})
    watcher.spool.put(b"inbox/a")
    watcher.spool.put(b"inbox/b")

    with watcher.running():
        eventually(lambda: len(watcher.sent.parcels) == 1)
        eventually(lambda: watcher.daemon.watches.inboxes["drop"].is_busy)
        shutil.rmtree(watcher.spool.root / "claimed" / watcher.sent.parcels[0].id)
        eventually(lambda: watcher.has_sent(b"a", b"b"))


def test_a_hint_about_an_inbox_that_is_none_of_ours_is_passed_over(watcher: Watcher) -> None:
    with watcher.running():
        for kind in HintKind:
            if kind is not HintKind.STOP:
                watcher.hints.put(Hint(kind, "unknown"))
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))


def test_a_quiet_inbox_keeps_nobody_busy(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        eventually(lambda: len(watcher.broker.beats) == 1)
        before = watcher.hints.waits
        eventually(lambda: len(watcher.broker.beats) == 2)  # 2 s

    assert watcher.hints.waits - before <= 8


# the end


def test_to_stop_ends_the_loop_and_leaves_no_thread(watcher: Watcher) -> None:
    before = set(threading.enumerate())

    with watcher.running():
        eventually(watcher.is_idle)

    assert set(threading.enumerate()) == before
    assert watcher.lines[-1]["event"] == events.STOPPED


def test_to_stop_before_anything_has_begun_takes_nothing(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")
    watcher.hints.put(Hint(HintKind.STOP))

    watcher.daemon.run()

    assert watcher.has_sent()


def test_an_error_that_nobody_expected_stops_the_observer_too(watcher: Watcher) -> None:
    before = set(threading.enumerate())
    watcher.broker.set = None  # a bug

    with pytest.raises(TypeError):
        watcher.daemon.run()

    assert set(threading.enumerate()) == before


# the broker


def test_a_broker_that_is_away_is_said_once_and_nothing_is_claimed_until_it_is_back(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.broker.away = True
        watcher.spool.put(b"inbox/a")
        asked = watcher.broker.asked
        eventually(lambda: watcher.broker.asked >= asked + 2)
        while_away = watcher.spool.files()
        watcher.broker.away = False
        eventually(lambda: watcher.has_sent(b"a"))

    assert while_away == {b"inbox/a": b"content"}
    assert [line["log_level"] for line in watcher.logs(events.BROKER_UNAVAILABLE)] == ["warning"]
    assert len(watcher.logs(events.BROKER_AVAILABLE)) == 1


def test_a_pause_is_no_busy_loop_and_asks_ever_less_often(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.broker.away = True
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.daemon.broker.error is not None)
        asked, waits, taken = watcher.broker.asked, watcher.hints.waits, watcher.leases.asked
        eventually(lambda: watcher.broker.asked == asked + 2)  # 0.5 s + 1 s
        rounds = watcher.hints.waits - waits

    assert rounds <= 10
    assert watcher.leases.asked == taken


def test_hints_that_come_in_a_pause_do_not_wake_the_inboxes(watcher: Watcher) -> None:
    watcher.broker.away = True

    with watcher.running():
        eventually(lambda: watcher.daemon.broker.error is not None)
        for number in range(20):
            watcher.spool.put(b"inbox/%d" % number)
        eventually(lambda: watcher.broker.asked >= 3)

    assert watcher.leases.asked == 0
    assert watcher.has_sent()


def test_an_absent_broker_is_asked_once_however_many_inboxes_there_are(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    spools = {name: Spool.make(tmp_path / name) for name in ("a", "b", "c")}
    for spool in spools.values():
        spool.put(b"inbox/file")
    watcher = Watcher(spools, logged, rules={"settle_seconds": 0.0, "watch_mode": "polling"})
    daemon = watcher.daemon
    daemon.watches.watch_all(daemon.settings)
    daemon.broker.update(time.monotonic(), daemon.watches.inboxes.values())
    watcher.broker.away = True

    daemon.run_once()

    assert watcher.leases.asked == 1
    assert daemon.broker.due < time.monotonic() + RETRY_SECONDS[0]  # as after one failure, and not after three


def test_the_sign_of_life_tells_how_inboxes_are_watched(watcher: Watcher) -> None:
    with watcher.running():
        eventually(lambda: watcher.broker.beats != [])

    drop = watcher.broker.beats[0]["inboxes"]["drop"]
    assert (drop["mode"], drop["outage"]) == (watcher.logs(events.WATCHING)[0]["mode"], None)
