"""The watcher's loop, with real folders and real events, and a broker that can be away."""

import contextlib
import errno
import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import pytest
import redis
import structlog
from support.datagrams import Manager
from support.fakes import FakeCounters, FakeLeases, Sent
from support.rooms import means
from support.spools import Spool
from support.waiting import eventually

from spool import heartbeat, log
from spool.disk import Disk
from spool.errors import BrokerAway
from spool.notify import Notify
from spool.reloading import Change, compare
from spool.settings import Settings
from watcher import daemon, watches
from watcher.daemon import BROKER_SECONDS, Daemon
from watcher.hints import Hint, Hints, Kind
from watcher.observer import Observer

STOP = Hint(Kind.STOP)
FAST = {"settle_seconds": 0.02, "empty_file_seconds": 0.02, "poll_seconds": 0.05}


@dataclass
class Broker:
    """A Redis that keeps what is set, or is away."""

    away: bool = False
    asked: int = 0
    beats: list[dict[str, Any]] = field(default_factory=list)
    troubles: dict[str, bytes] = field(default_factory=dict)

    def set(self, _key: str, value: str, *, ex: int) -> None:
        assert ex
        self.ping()
        self.beats.append(json.loads(value))

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.troubles.get(key.rpartition(":")[2]) for key in keys]

    def ping(self) -> None:
        self.asked += 1
        if self.away:
            raise redis.ConnectionError("gone fishing")


@dataclass
class Leases(FakeLeases):
    """Leases that are away with their broker."""

    broker: Broker = field(default_factory=Broker)
    asked: int = 0

    def queue(self, parcel: str, inbox: str, seconds: float, *, attempts: int = 0) -> float | None:
        self.asked += 1
        if self.broker.away:
            raise BrokerAway("redis: gone fishing")
        return super().queue(parcel, inbox, seconds, attempts=attempts)


class CountingHints(Hints):
    """Counts how often the loop waits."""

    waits = 0

    def wait(self, seconds: float) -> set[Hint]:
        self.waits += 1
        return super().wait(seconds)


class Refusing(Observer):
    """Has no watches left."""

    def watch(self, inbox: str, root: PurePath) -> None:
        del inbox, root
        raise OSError(errno.ENOSPC, "inotify watch limit reached")


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        yield lines


@dataclass
class Watcher:
    """A daemon over real folders, in a thread once it runs; all else that it stands on can be turned off."""

    spools: dict[str, Spool]
    lines: list[dict[str, Any]]
    make_observer: Callable[[Hints], Observer] = Observer
    rules: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.broker = Broker()
        self.leases = Leases(broker=self.broker)
        self.sent = Sent()
        self.counters = FakeCounters()
        self.hints = CountingHints()
        self.observer = self.make_observer(self.hints)
        rules = {**FAST, **self.rules}
        inboxes = {name: {"root": str(spool.root), **rules} for name, spool in self.spools.items()}
        self.daemon = Daemon(
            Settings(host="here", inbox=inboxes),
            means(Disk(), self.leases, self.sent),
            self.broker,
            self.counters,
            self.hints,
            self.observer,
        )

    @property
    def spool(self) -> Spool:
        return self.spools["drop"]

    def logs(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def has_sent(self, *paths: bytes) -> bool:
        return sorted(self.sent.paths()) == sorted(paths)

    def is_idle(self, name: str = "drop") -> bool:
        """Tell whether an inbox is looked at again by an event or, late, by the clock."""
        drop = self.daemon._drops.get(name)
        return drop is not None and drop.reason == "scan" and not drop.dirty

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.daemon.run)
        thread.start()
        try:
            eventually(lambda: bool(self.logs(log.STARTED)))
            yield
        finally:
            self.hints.put(STOP)
            thread.join(10.0)
            assert not thread.is_alive()


@pytest.fixture
def watcher(tmp_path: Path, logged: list[dict[str, Any]]) -> Watcher:
    return Watcher({"drop": Spool.make(tmp_path / "drop")}, logged)


# files


def test_what_lies_there_at_the_start_is_sent(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")

    with watcher.running():
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["file"] for line in watcher.logs(log.FILE_CLAIMED)] == [b"a"]


def test_what_arrives_is_sent_by_its_event(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["found_by"] for line in watcher.logs(log.FILE_CLAIMED)] == ["event"]


def test_an_inbox_that_is_polled_needs_no_event(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Refusing, {"watch_mode": "polling"})

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert [line["mode"] for line in watcher.logs(log.WATCHING)] == ["polling"]


def test_where_the_system_has_no_watches_left_we_poll_and_say_so(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Refusing)

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert "inotify watch limit reached: raise fs.inotify.max_user_watches" in watcher.logs(log.EVENTS_LOST)[0]["error"]
    assert [line["mode"] for line in watcher.logs(log.WATCHING)] == ["polling"]


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

    monkeypatch.setattr(watches, "WATCHES_SECONDS", 0.05)
    monkeypatch.setattr(daemon, "SUPERVISE_SECONDS", 0.05)
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Grudging)

    with watcher.running():
        eventually(lambda: len(watcher.logs(log.WATCHING)) == 2)

    assert [line["mode"] for line in watcher.logs(log.WATCHING)] == ["polling", "inotify"]
    assert len(watcher.logs(log.EVENTS_LOST)) == 1


def test_events_that_were_lost_are_told_and_the_whole_inbox_is_looked_at(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    class Silent(Observer):
        def watch(self, inbox: str, root: PurePath) -> None:
            """See nothing."""

    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, Silent)

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/a")
        watcher.hints.put(Hint(Kind.OVERFLOWED, "drop"))
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(log.EVENTS_LOST)) == 1
    assert watcher.counters.counts["drop", "events_lost"] + watcher.daemon._means.tally.counts["drop", "events_lost"] == 1


def test_what_was_found_is_counted_with_the_next_sign_of_life(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")
    watcher.spool.put(b"inbox/b")

    with watcher.running():
        eventually(lambda: sum(watcher.counters.counts.values()) == 2)

    assert {name for _, name in watcher.counters.counts} <= {"found:start", "found:event"}


def test_counts_that_redis_refuses_keep_nothing_from_being_taken(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_tally: object) -> None:
        raise BrokerAway("redis: WRONGTYPE")

    monkeypatch.setattr(watcher.counters, "write", refuse)

    with watcher.running():
        eventually(lambda: len(watcher.broker.beats) >= 2)
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert not watcher.logs(log.BROKER_AWAY)


def test_a_parcel_that_returns_makes_room_for_the_next(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({"drop": Spool.make(tmp_path / "drop")}, logged, rules={"in_flight_files_max": 1})
    watcher.spool.put(b"inbox/a")
    watcher.spool.put(b"inbox/b")

    with watcher.running():
        eventually(lambda: len(watcher.sent.parcels) == 1)
        eventually(lambda: watcher.daemon._drops["drop"].busy)
        shutil.rmtree(watcher.spool.root / "claimed" / watcher.sent.parcels[0].id)
        eventually(lambda: watcher.has_sent(b"a", b"b"))


def test_a_hint_about_an_inbox_that_is_none_of_ours_is_passed_over(watcher: Watcher) -> None:
    with watcher.running():
        for kind in Kind:
            if kind is not Kind.STOP:
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
    assert watcher.lines[-1]["event"] == log.STOPPED


def test_to_stop_before_anything_has_begun_takes_nothing(watcher: Watcher) -> None:
    watcher.spool.put(b"inbox/a")
    watcher.daemon._stopping = True

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
    assert [line["log_level"] for line in watcher.logs(log.BROKER_AWAY)] == ["warning"]
    assert len(watcher.logs(log.BROKER_BACK)) == 1


def test_a_pause_is_no_busy_loop_and_asks_ever_less_often(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        watcher.broker.away = True
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.daemon._paused is not None)
        asked, waits, taken = watcher.broker.asked, watcher.hints.waits, watcher.leases.asked
        eventually(lambda: watcher.broker.asked == asked + 2)  # 0.5 s + 1 s
        rounds = watcher.hints.waits - waits

    assert rounds <= 10
    assert watcher.leases.asked == taken
    assert watcher.daemon._broker_wait > 2 * BROKER_SECONDS[0]


def test_hints_that_come_in_a_pause_do_not_wake_the_inboxes(watcher: Watcher) -> None:
    watcher.broker.away = True

    with watcher.running():
        eventually(lambda: watcher.daemon._paused is not None)
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
    daemon._drops.update({name: daemon._watches.watch(inbox) for name, inbox in daemon._settings.inbox.items()})
    daemon._beat(time.monotonic())
    watcher.broker.away = True

    daemon._round()

    assert watcher.leases.asked == 1
    assert daemon._broker_wait == 2 * BROKER_SECONDS[0]


def test_the_sign_of_life_tells_how_inboxes_are_watched(watcher: Watcher) -> None:
    with watcher.running():
        eventually(lambda: watcher.broker.beats != [])

    drop = watcher.broker.beats[0]["inboxes"]["drop"]
    assert (drop["mode"], drop["trouble"]) == (watcher.logs(log.WATCHING)[0]["mode"], None)


# the folders


def test_a_folder_that_is_away_is_said_once_and_its_files_are_taken_when_it_is_back(watcher: Watcher) -> None:
    away = watcher.spool.root.with_name("away")

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.root.rename(away)
        watcher.daemon._drops["drop"].look_now("scan")
        watcher.hints.put(Hint(Kind.ARRIVED, "drop"))
        eventually(lambda: watcher.daemon._drops["drop"].away_seconds >= 2.0)  # it was looked for twice
        away.joinpath("inbox", "a").write_bytes(b"A")
        away.rename(watcher.spool.root)
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(log.FOLDER_AWAY)) == 1
    assert len(watcher.logs(log.FOLDER_BACK)) == 1


def test_one_folder_that_is_away_does_not_keep_the_others_waiting(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({name: Spool.make(tmp_path / name) for name in ("a", "b")}, logged)

    with watcher.running():
        eventually(lambda: watcher.is_idle("a") and watcher.is_idle("b"))
        watcher.spools["a"].root.rename(tmp_path / "away")
        watcher.daemon._drops["a"].look_now("scan")
        watcher.spools["b"].put(b"inbox/file")
        eventually(lambda: watcher.has_sent(b"file"))


def sent_by_event(watcher: Watcher, before: object) -> bool:
    """Drop files into an inbox that is watched anew, and tell whether an event has announced one; it may be looked at twice."""
    drops = watcher.daemon._drops
    eventually(lambda: drops["drop"] is not before and drops["drop"].mode.events and watcher.observer.healthy)
    for name in (b"a", b"b", b"c"):
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/" + name)
        eventually(lambda name=name: name in watcher.sent.paths())
        if watcher.logs(log.FILE_CLAIMED)[-1]["found_by"] == "event":
            return True
    return False


def test_mounts_are_asked_for_only_when_their_table_has_changed_or_is_hidden(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, tables = [], ["one", "one", None, "one", "one", "two", "two"]

    def table(_disk: Disk) -> str:
        if (now := tables.pop(0)) is None:
            raise PermissionError(errno.EACCES, "hidden")
        return now

    def identity(_disk: Disk, _root: PurePath, mount: int | None = None) -> tuple[int, ...]:
        asked.append(mount is None)
        return (1, 2, 3, 4)

    inbox = watcher.daemon.settings.inbox["drop"]
    drop = watcher.daemon._watches.watch(inbox)
    drop.identity = (1, 2, 3, 4)
    watcher.daemon._drops["drop"] = drop
    monkeypatch.setattr(daemon.mounts, "table", table)
    monkeypatch.setattr(daemon, "identity", identity)
    while tables:
        watcher.daemon._supervise(math.inf)

    assert asked == [True, False, True, True, False, True, False]
    watcher.observer.stop()


def test_of_many_inboxes_some_are_compared_at_a_time_and_who_is_lost_at_once(
    tmp_path: Path, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher({f"n{number}": Spool.make(tmp_path / f"n{number}") for number in range(7)}, logged)
    monkeypatch.setattr(daemon, "COMPARED_AT_ONCE", 3)
    for inbox in watcher.daemon.settings.inbox.values():
        watcher.daemon._drops[inbox.name] = watcher.daemon._watches.watch(inbox)

    turns = [watcher.daemon._compared(everything=False) for _ in range(3)]
    watcher.daemon._drops["n5"].identity = None

    assert turns == [["n0", "n1", "n2"], ["n3", "n4", "n5"], ["n6", "n0", "n1"]]
    assert watcher.daemon._compared(everything=False) == ["n5", "n2", "n3", "n4"]
    assert len(watcher.daemon._compared(everything=True)) == 7
    watcher.observer.stop()


def test_a_folder_that_was_replaced_is_watched_anew(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon._drops["drop"]
        watcher.spool.root.rename(watcher.spool.root.with_name("old"))
        Spool.make(watcher.spool.root)
        by_event = sent_by_event(watcher, before)

    assert by_event
    assert [line["why"] for line in watcher.logs(log.OBSERVER_REBUILT)] == ["its folder was replaced"]


@pytest.mark.parametrize("folder", ["inbox", "claimed"])
def test_a_folder_that_was_deleted_and_made_again_is_watched_anew(folder: str, watcher: Watcher) -> None:
    """A file system gives the new folder the old one's inode number: it looks the same, and no event comes from it."""
    place = watcher.spool.root / folder

    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon._drops["drop"]
        place.rmdir()
        place.mkdir()
        by_event = sent_by_event(watcher, before)

    assert by_event


def test_an_observer_whose_thread_has_ended_is_made_anew(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon._drops["drop"]
        watcher.observer._observer._reader.stop()
        by_event = sent_by_event(watcher, before)

    assert by_event
    assert "one of its threads has ended" in [line["why"] for line in watcher.logs(log.OBSERVER_REBUILT)]


def test_while_what_is_claimed_can_not_be_filed_nothing_more_is_claimed(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)

    with watcher.running():
        watcher.broker.troubles["drop"] = b"done/: No space left on device"
        eventually(lambda: watcher.daemon._troubles != {})
        watcher.spool.put(b"inbox/a", b"A")
        eventually(lambda: watcher.logs(log.FOLDER_AWAY) != [])
        assert watcher.spool.files() == {b"inbox/a": b"A"}
        assert watcher.broker.beats[-1]["inboxes"]["drop"]["trouble"] in (None, "done/: No space left on device")
        watcher.broker.troubles.clear()
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(log.FOLDER_AWAY)) == len(watcher.logs(log.FOLDER_BACK)) == 1


# new settings


def reloaded(watcher: Watcher, spools: dict[str, Spool], **rules: object) -> Change:
    """Have the running watcher take up settings with these inboxes, and return what they change."""
    inboxes = {name: {"root": str(spool.root), **FAST, **rules} for name, spool in spools.items()}
    change = compare(watcher.daemon._settings, Settings(host="here", inbox=inboxes))
    watcher.daemon._renew = lambda _old: change
    watcher.hints.put(Hint(Kind.RELOAD))
    return change


def waiting(watcher: Watcher) -> set[str]:
    return {path.name for path in (watcher.spool.root / "inbox").iterdir()}


def test_a_new_inbox_is_watched_and_what_lies_there_is_sent(watcher: Watcher, tmp_path: Path) -> None:
    new = Spool.make(tmp_path / "new")
    new.put(b"inbox/there")

    with watcher.running():
        eventually(watcher.is_idle)
        reloaded(watcher, {**watcher.spools, "new": new})
        eventually(lambda: watcher.has_sent(b"there"))
        eventually(lambda: watcher.is_idle("new"))
        new.put(b"inbox/later")
        eventually(lambda: watcher.has_sent(b"there", b"later"))

    assert [line["found_by"] for line in watcher.logs(log.FILE_CLAIMED)] == ["start", "event"]


def test_a_removed_inbox_is_forgotten_troubles_and_all(watcher: Watcher, tmp_path: Path) -> None:
    other = Spool.make(tmp_path / "other")
    watcher.broker.troubles = {"drop": b"disk full"}

    with watcher.running():
        eventually(lambda: watcher.daemon._troubles == {"drop": "disk full"})
        reloaded(watcher, {"other": other})
        eventually(lambda: list(watcher.daemon._drops) == ["other"])
        watcher.spool.put(b"inbox/nobody")
        other.put(b"inbox/somebody")
        eventually(lambda: watcher.has_sent(b"somebody"))
        eventually(lambda: list(watcher.broker.beats[-1]["inboxes"]) == ["other"])

    assert waiting(watcher) == {"nobody"}


def test_changed_rules_are_for_the_next_file(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        reloaded(watcher, watcher.spools, exclude=["*.tmpx"])
        eventually(lambda: watcher.daemon._drops["drop"].inbox.exclude == ("*.tmpx",))
        watcher.spool.put(b"inbox/a.tmpx")
        watcher.spool.put(b"inbox/b")
        eventually(lambda: watcher.has_sent(b"b"))

    assert waiting(watcher) == {"a.tmpx"}


def test_an_inbox_that_can_not_be_watched_leaves_everything_as_it_was(watcher: Watcher, tmp_path: Path) -> None:
    gone = Spool.make(tmp_path / "gone")
    shutil.rmtree(gone.root)

    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon._settings
        reloaded(watcher, {**watcher.spools, "gone": gone}, exclude=["*"])
        eventually(lambda: bool(watcher.logs(log.SETTINGS_REFUSED)))
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert watcher.daemon._settings is before
    assert list(watcher.daemon._drops) == ["drop"]
    assert watcher.logs(log.SETTINGS_REFUSED)[0]["where"] == "inbox.gone.root"


def test_the_status_says_what_is_watched_and_why_nothing_is_claimed(watcher: Watcher) -> None:
    with Manager() as manager:
        watcher.daemon._notify = Notify(manager.address)
        with watcher.running():
            manager.wait_for(lambda states: "STATUS=watching drop (inotify)" in states)
            watcher.broker.away = watcher.daemon._beat_due = True
            watcher.spool.put(b"inbox/a")
            manager.wait_for(
                lambda states: states[-1].startswith("STATUS=paused, nothing is claimed: redis: gone fishing; watching drop")
            )

        assert manager.look()[-1] == "STOPPING=1"
