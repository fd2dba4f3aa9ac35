"""The watcher's loop, with real folders and events, and a broker that can be unavailable."""

import errno
import shutil
import threading
import time
from pathlib import Path, PurePath
from typing import Any

import pytest
from support.disk.spools import Spool
from support.parts.watchers import RefusingObserver, Watcher
from support.waiting import eventually

from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.watcher import folder_checks, watches
from inboxd.watcher.broker_link import RETRY_SECONDS
from inboxd.watcher.hints import Hint, HintKind
from inboxd.watcher.observer import Observer

# files


def test_files_that_exist_at_the_start_are_sent(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")

    with watcher.running():
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["file"] for line in watcher.logs(events.FILE_CLAIMED)] == [b"a"]


def test_a_new_file_is_sent_after_its_event(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["found_by"] for line in watcher.logs(events.FILE_CLAIMED)] == ["event"]


def test_a_polled_inbox_needs_no_event(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, RefusingObserver, {"watch_mode": "polling"})

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["mode"] for line in watcher.logs(events.WATCHING)] == ["polling"]


def test_without_inotify_watches_left_an_inbox_is_polled(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, RefusingObserver)

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert "inotify watch limit reached: raise fs.inotify.max_user_watches" in watcher.logs(events.EVENTS_LOST)[0]["error"]
    assert [line["mode"] for line in watcher.logs(events.WATCHING)] == ["polling"]


def test_another_error_of_inotify_does_not_advise_to_raise_limits(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    class DeniedObserver(Observer):
        """An observer that may not watch."""

        def watch(self, inbox: str, root: PurePath) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(root / inbox))

    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, DeniedObserver)

    with watcher.running():
        eventually(watcher.is_idle)

    assert [line["error"] for line in watcher.logs(events.EVENTS_LOST)] == ["Permission denied"]


def test_inotify_is_used_again_once_watches_are_available(
    tmp_path: Path, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class RecoveringObserver(Observer):
        """An observer for which the kernel has no watches left at first."""

        refusals = 3

        def watch(self, inbox: str, root: PurePath) -> None:
            if self.refusals:
                self.refusals -= 1
                raise OSError(errno.ENOSPC, "inotify watch limit reached")
            super().watch(inbox, root)

    monkeypatch.setattr(watches, "WATCH_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(folder_checks, "CHECK_SECONDS", 0.05)
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, RecoveringObserver)

    with watcher.running():
        eventually(lambda: len(watcher.logs(events.WATCHING)) == 2)

    assert [line["mode"] for line in watcher.logs(events.WATCHING)] == ["polling", "inotify"]
    assert len(watcher.logs(events.EVENTS_LOST)) == 1


def test_lost_events_are_logged_and_cause_a_scan(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    class SilentObserver(Observer):
        def watch(self, inbox: str, root: PurePath) -> None:
            """Deliver no events."""

    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, SilentObserver)

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        watcher.hints.put(Hint(HintKind.OVERFLOWED, "drop"))
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(events.EVENTS_LOST)) == 1
    assert watcher.counters.counts["drop", "events_lost"] + watcher.deps.tally.counts["drop", "events_lost"] == 1


def test_claimed_files_are_counted_with_the_next_heartbeat(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")
    watcher.spool.put(b"inbox/b")

    with watcher.running():
        eventually(lambda: sum(watcher.counters.counts.values()) == 2)

    assert {name for _, name in watcher.counters.counts} <= {"found:start", "found:event"}


def test_files_are_claimed_while_redis_rejects_the_counts(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_tally: object) -> None:
        raise BrokerUnavailable("redis: WRONGTYPE")

    monkeypatch.setattr(watcher.counters, "write", refuse)

    with watcher.running():
        eventually(lambda: len(watcher.broker.heartbeats) >= 2)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert not watcher.logs(events.BROKER_UNAVAILABLE)


def test_a_filed_parcel_makes_room_for_the_next(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, rules={"in_flight_files_max": 1})
    watcher.spool.put(b"inbox/a")
    watcher.spool.put(b"inbox/b")

    with watcher.running():
        eventually(lambda: len(watcher.sent.parcels) == 1)
        eventually(lambda: watcher.daemon.watches.inboxes["drop"].is_busy)
        shutil.rmtree(watcher.spool.root / "claimed" / watcher.sent.parcels[0].id)
        eventually(lambda: watcher.has_sent(b"a", b"b"))


def test_a_hint_about_an_unknown_inbox_is_ignored(watcher: Watcher) -> None:
    with watcher.running():
        for kind in HintKind:
            if kind is not HintKind.STOP:
                watcher.hints.put(Hint(kind, "unknown"))
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))


def test_an_idle_inbox_causes_few_wake_ups(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        eventually(lambda: len(watcher.broker.heartbeats) == 1)
        before = watcher.hints.waits
        eventually(lambda: len(watcher.broker.heartbeats) == 2)  # 2 s

    assert watcher.hints.waits - before <= 8


# stopping


def test_a_stop_hint_ends_the_loop_and_all_threads(watcher: Watcher) -> None:
    before = set(threading.enumerate())

    with watcher.running():
        eventually(watcher.is_idle)

    assert set(threading.enumerate()) == before
    assert watcher.lines[-1]["event"] == events.STOPPED


def test_a_stop_hint_before_the_first_turn_prevents_all_claims(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")
    watcher.hints.put(Hint(HintKind.STOP))

    watcher.daemon.run()

    assert watcher.has_sent()


def test_an_unexpected_error_stops_the_observer_too(watcher: Watcher) -> None:
    before = set(threading.enumerate())
    watcher.broker.set = None  # a bug

    with pytest.raises(TypeError):
        watcher.daemon.run()

    assert set(threading.enumerate()) == before


# the broker


def test_a_broker_outage_is_logged_once_and_nothing_is_claimed_until_it_is_over(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.broker.is_unavailable = True
        watcher.spool.put(b"inbox/a")
        pings = watcher.broker.pings
        eventually(lambda: watcher.broker.pings >= pings + 2)
        files_in_outage = watcher.spool.files()
        watcher.broker.is_unavailable = False
        eventually(lambda: watcher.has_sent(b"a"))

    assert files_in_outage == {b"inbox/a": b"content"}
    assert [line["log_level"] for line in watcher.logs(events.BROKER_UNAVAILABLE)] == ["warning"]
    assert len(watcher.logs(events.BROKER_AVAILABLE)) == 1


def test_the_loop_backs_off_during_a_broker_outage(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.broker.is_unavailable = True
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.daemon.broker.error is not None)
        pings, waits, lease_calls = watcher.broker.pings, watcher.hints.waits, watcher.leases.calls
        eventually(lambda: watcher.broker.pings == pings + 2)  # 0.5 s + 1 s
        rounds = watcher.hints.waits - waits

    assert rounds <= 10
    assert watcher.leases.calls == lease_calls


def test_hints_during_a_broker_outage_cause_no_turns(watcher: Watcher) -> None:
    watcher.broker.is_unavailable = True

    with watcher.running():
        eventually(lambda: watcher.daemon.broker.error is not None)
        for number in range(20):
            watcher.spool.put(b"inbox/%d" % number)
        eventually(lambda: watcher.broker.pings >= 3)

    assert watcher.leases.calls == 0
    assert watcher.has_sent()


def test_after_a_failed_call_to_the_broker_the_other_inboxes_are_skipped(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    spools = {name: Spool.make(tmp_path / name) for name in ("a", "b", "c")}
    for spool in spools.values():
        spool.put(b"inbox/file")
    watcher = Watcher(spools, logged, rules={"settle_seconds": 0.0, "watch_mode": "polling"})
    daemon = watcher.daemon
    daemon.watches.watch_all(daemon.settings.inbox.values())
    daemon.broker.update(time.monotonic(), daemon.watches.inboxes.values())
    watcher.broker.is_unavailable = True

    daemon.run_once()

    assert watcher.leases.calls == 1
    assert daemon.broker.due < time.monotonic() + RETRY_SECONDS[0]  # as after one failure, and not after three


def test_the_heartbeat_contains_the_watch_mode_of_each_inbox(watcher: Watcher) -> None:
    with watcher.running():
        eventually(lambda: watcher.broker.heartbeats != [])

    drop = watcher.broker.heartbeats[0]["inboxes"]["drop"]
    assert (drop["mode"], drop["outage"]) == (watcher.logs(events.WATCHING)[0]["mode"], None)
