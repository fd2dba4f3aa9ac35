"""What the watcher's loop makes of folders that go, come and change, and of new settings."""

import errno
import math
import shutil
from pathlib import Path, PurePath
from typing import Any

import pytest
from support.disk.spools import Spool
from support.live.datagrams import Manager
from support.parts.watchers import FAST, Watcher
from support.waiting import eventually

from inboxd.broker import heartbeat
from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.service.reloading import SettingsChange, merge_settings
from inboxd.service.sd_notify import ServiceManager
from inboxd.watcher import folder_checks
from inboxd.watcher.hints import Hint, HintKind


def test_a_folder_that_is_away_is_said_once_and_its_files_are_taken_when_it_is_back(watcher: Watcher) -> None:
    away = watcher.spool.root.with_name("away")

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.root.rename(away)
        watcher.daemon.watches.inboxes["drop"].request_scan("scan")
        watcher.hints.put(Hint(HintKind.ARRIVED, "drop"))
        eventually(lambda: watcher.daemon.watches.inboxes["drop"].retry_seconds >= 2.0)  # it was looked for twice
        away.joinpath("inbox", "a").write_bytes(b"A")
        away.rename(watcher.spool.root)
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(events.FOLDER_UNAVAILABLE)) == 1
    assert len(watcher.logs(events.FOLDER_AVAILABLE)) == 1


def test_one_folder_that_is_away_does_not_keep_the_others_waiting(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({name: Spool.make(tmp_path / name) for name in ("a", "b")}, logged)

    with watcher.running():
        eventually(lambda: watcher.is_idle("a") and watcher.is_idle("b"))
        watcher.spools["a"].root.rename(tmp_path / "away")
        watcher.daemon.watches.inboxes["a"].request_scan("scan")
        watcher.spools["b"].put(b"inbox/file")
        eventually(lambda: watcher.has_sent(b"file"))


def sent_by_event(watcher: Watcher, before: object) -> bool:
    """Drop files into an inbox that is watched anew, and tell whether an event has announced one; it may be looked at twice."""
    drops = watcher.daemon.watches.inboxes
    eventually(lambda: drops["drop"] is not before and drops["drop"].mode.uses_events and watcher.observer.healthy)
    for name in (b"a", b"b", b"c"):
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/" + name)
        eventually(lambda name=name: name in watcher.sent.paths())
        if watcher.logs(events.FILE_CLAIMED)[-1]["found_by"] == "event":
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
    drop = watcher.daemon.watches.watch(inbox)
    drop.identity = (1, 2, 3, 4)
    watcher.daemon.watches.inboxes["drop"] = drop
    monkeypatch.setattr(folder_checks.mounts, "read_mount_table", table)
    monkeypatch.setattr(folder_checks, "folder_identity", identity)
    while tables:
        watcher.daemon.checks.run(math.inf)

    assert asked == [True, False, True, True, False, True, False]
    watcher.observer.stop()


def test_of_many_inboxes_some_are_compared_at_a_time_and_who_is_lost_at_once(
    tmp_path: Path, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher({f"n{number}": Spool.make(tmp_path / f"n{number}") for number in range(7)}, logged)
    monkeypatch.setattr(folder_checks, "INBOXES_PER_CHECK", 3)
    watcher.daemon.watches.watch_all(watcher.daemon.settings)

    turns = [watcher.daemon.checks.choose(everything=False) for _ in range(3)]
    watcher.daemon.watches.inboxes["n5"].identity = None

    assert turns == [["n0", "n1", "n2"], ["n3", "n4", "n5"], ["n6", "n0", "n1"]]
    assert watcher.daemon.checks.choose(everything=False) == ["n5", "n2", "n3", "n4"]
    assert len(watcher.daemon.checks.choose(everything=True)) == 7
    watcher.observer.stop()


def test_a_folder_that_was_replaced_is_watched_anew(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.watches.inboxes["drop"]
        watcher.spool.root.rename(watcher.spool.root.with_name("old"))
        Spool.make(watcher.spool.root)
        by_event = sent_by_event(watcher, before)

    assert by_event
    assert [line["why"] for line in watcher.logs(events.OBSERVER_RESTARTED)] == ["its folder was replaced"]


@pytest.mark.parametrize("folder", ["inbox", "claimed"])
def test_a_folder_that_was_deleted_and_made_again_is_watched_anew(folder: str, watcher: Watcher) -> None:
    """A file system gives the new folder the old one's inode number: it looks the same, and no event comes from it."""
    place = watcher.spool.root / folder

    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.watches.inboxes["drop"]
        place.rmdir()
        place.mkdir()
        by_event = sent_by_event(watcher, before)

    assert by_event


def test_an_observer_whose_thread_has_ended_is_made_anew(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.watches.inboxes["drop"]
        watcher.observer.backend.reader.stop()
        by_event = sent_by_event(watcher, before)

    assert by_event
    assert "one of its threads has ended" in [line["why"] for line in watcher.logs(events.OBSERVER_RESTARTED)]


def test_while_what_is_claimed_can_not_be_filed_nothing_more_is_claimed(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)

    with watcher.running():
        watcher.broker.troubles["drop"] = b"done/: No space left on device"
        eventually(lambda: watcher.daemon.broker.outages != {})
        watcher.spool.put(b"inbox/a", b"A")
        eventually(lambda: watcher.logs(events.FOLDER_UNAVAILABLE) != [])
        assert watcher.spool.files() == {b"inbox/a": b"A"}
        assert watcher.broker.beats[-1]["inboxes"]["drop"]["outage"] in (None, "done/: No space left on device")
        watcher.broker.troubles.clear()
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(events.FOLDER_UNAVAILABLE)) == len(watcher.logs(events.FOLDER_AVAILABLE)) == 1


# new settings


def reloaded(watcher: Watcher, spools: dict[str, Spool], **rules: object) -> SettingsChange:
    """Have the running watcher take up settings with these inboxes, and return what they change."""
    inboxes = {name: {"root": str(spool.root), **FAST, **rules} for name, spool in spools.items()}
    change = merge_settings(watcher.daemon.settings, Settings(host="here", inbox=inboxes))
    watcher.change = change
    watcher.hints.put(Hint(HintKind.RELOAD))
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

    assert [line["found_by"] for line in watcher.logs(events.FILE_CLAIMED)] == ["start", "event"]


def test_a_removed_inbox_is_forgotten_troubles_and_all(watcher: Watcher, tmp_path: Path) -> None:
    other = Spool.make(tmp_path / "other")
    watcher.broker.troubles = {"drop": b"disk full"}

    with watcher.running():
        eventually(lambda: watcher.daemon.broker.outages == {"drop": "disk full"})
        reloaded(watcher, {"other": other})
        eventually(lambda: list(watcher.daemon.watches.inboxes) == ["other"])
        watcher.spool.put(b"inbox/nobody")
        other.put(b"inbox/somebody")
        eventually(lambda: watcher.has_sent(b"somebody"))
        eventually(lambda: list(watcher.broker.beats[-1]["inboxes"]) == ["other"])

    assert waiting(watcher) == {"nobody"}


def test_changed_rules_are_for_the_next_file(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        reloaded(watcher, watcher.spools, exclude=["*.tmpx"])
        eventually(lambda: watcher.daemon.watches.inboxes["drop"].inbox.exclude == ("*.tmpx",))
        watcher.spool.put(b"inbox/a.tmpx")
        watcher.spool.put(b"inbox/b")
        eventually(lambda: watcher.has_sent(b"b"))

    assert waiting(watcher) == {"a.tmpx"}


def test_an_inbox_that_can_not_be_watched_leaves_everything_as_it_was(watcher: Watcher, tmp_path: Path) -> None:
    gone = Spool.make(tmp_path / "gone")
    shutil.rmtree(gone.root)

    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.settings
        reloaded(watcher, {**watcher.spools, "gone": gone}, exclude=["*"])
        eventually(lambda: bool(watcher.logs(events.SETTINGS_REJECTED)))
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert watcher.daemon.settings is before
    assert list(watcher.daemon.watches.inboxes) == ["drop"]
    assert watcher.logs(events.SETTINGS_REJECTED)[0]["where"] == "inbox.gone.root"


def test_the_status_says_what_is_watched_and_why_nothing_is_claimed(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    with Manager() as manager:
        spools = {"drop": Spool.make(tmp_path / "drop")}
        watcher = Watcher(spools, logged, service_manager=ServiceManager(manager.address))
        with watcher.running():
            manager.wait_for(lambda states: "STATUS=watching drop (inotify)" in states)
            watcher.broker.away = watcher.daemon.broker.due = True
            watcher.spool.put(b"inbox/a")
            manager.wait_for(
                lambda states: states[-1].startswith("STATUS=paused, nothing is claimed: redis: gone fishing; watching drop")
            )

        assert manager.look()[-1] == "STOPPING=1"
