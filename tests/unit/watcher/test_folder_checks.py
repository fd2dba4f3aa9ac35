"""The watcher's loop when folders disappear, reappear or are replaced, and when settings change."""

import errno
import math
import shutil
import threading
import time
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
from inboxd.service.sd_notify import ServiceNotifier
from inboxd.watcher import folder_checks
from inboxd.watcher.hints import Hint, HintKind


def test_a_missing_root_is_logged_once_and_its_files_are_claimed_when_it_reappears(watcher: Watcher) -> None:
    moved = watcher.spool.root.with_name("moved")

    with watcher.running():
        eventually(watcher.is_idle)
        watcher.spool.root.rename(moved)
        watcher.daemon.watches.inboxes["drop"].request_scan("scan")
        watcher.hints.put(Hint(HintKind.ARRIVED, "drop"))
        eventually(lambda: watcher.daemon.watches.inboxes["drop"].retry_seconds >= 2.0)  # two failed tries
        moved.joinpath("inbox", "a").write_bytes(b"A")
        moved.rename(watcher.spool.root)
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(events.FOLDER_UNAVAILABLE)) == 1
    assert len(watcher.logs(events.FOLDER_AVAILABLE)) == 1


def test_a_missing_root_does_not_delay_other_inboxes(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    watcher = Watcher({name: Spool.make(tmp_path / name) for name in ("a", "b")}, logged)

    with watcher.running():
        eventually(lambda: watcher.is_idle("a") and watcher.is_idle("b"))
        watcher.spools["a"].root.rename(tmp_path / "moved")
        watcher.daemon.watches.inboxes["a"].request_scan("scan")
        watcher.spools["b"].put(b"inbox/file")
        eventually(lambda: watcher.has_sent(b"file"))


def is_sent_by_event(watcher: Watcher, before: object) -> bool:
    """Wait until the inbox is watched again, drop up to three files, and return whether an event announced one of them."""
    inboxes = watcher.daemon.watches.inboxes
    eventually(lambda: inboxes["drop"] is not before and inboxes["drop"].mode.uses_events and watcher.observer.is_healthy)
    for name in (b"a", b"b", b"c"):
        eventually(watcher.is_idle)
        watcher.spool.put(b"inbox/" + name)
        eventually(lambda name=name: name in watcher.sent.paths())
        if watcher.logs(events.FILE_CLAIMED)[-1]["found_by"] == "event":
            return True
    return False


def test_mount_ids_are_queried_only_if_the_mount_table_has_changed_or_is_unreadable(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, tables = [], ["one", "one", None, "one", "one", "two", "two"]

    def read_mount_table(_disk: Disk) -> str:
        if (table := tables.pop(0)) is None:
            raise PermissionError(errno.EACCES, "not permitted")
        return table

    def folder_identity(_disk: Disk, _root: PurePath, mount: int | None = None) -> tuple[int, ...]:
        queries.append(mount is None)
        return (1, 2, 3, 4)

    inbox = watcher.daemon.settings.inbox["drop"]
    watched = watcher.daemon.watches.watch(inbox)
    watched.identity = (1, 2, 3, 4)
    watcher.daemon.watches.inboxes["drop"] = watched
    monkeypatch.setattr(folder_checks.mounts, "read_mount_table", read_mount_table)
    monkeypatch.setattr(folder_checks, "folder_identity", folder_identity)
    while tables:
        watcher.daemon.checks.run(math.inf)

    assert queries == [True, False, True, True, False, True, False]
    watcher.observer.stop()


def test_many_inboxes_are_checked_a_few_at_a_time_and_those_without_identity_at_once(
    tmp_path: Path, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher({f"n{number}": Spool.make(tmp_path / f"n{number}") for number in range(7)}, logged)
    monkeypatch.setattr(folder_checks, "INBOXES_PER_CHECK", 3)
    watcher.daemon.watches.watch_all(watcher.daemon.settings.inbox.values())

    checked = [watcher.daemon.checks.choose(check_all=False) for _ in range(3)]
    watcher.daemon.watches.inboxes["n5"].identity = None

    assert checked == [["n0", "n1", "n2"], ["n3", "n4", "n5"], ["n6", "n0", "n1"]]
    assert watcher.daemon.checks.choose(check_all=False) == ["n5", "n2", "n3", "n4"]
    assert len(watcher.daemon.checks.choose(check_all=True)) == 7
    watcher.observer.stop()


def test_a_replaced_root_is_watched_again(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.watches.inboxes["drop"]
        watcher.spool.root.rename(watcher.spool.root.with_name("old"))
        Spool.make(watcher.spool.root)
        by_event = is_sent_by_event(watcher, before)

    assert by_event
    assert [line["why"] for line in watcher.logs(events.OBSERVER_RESTARTED)] == ["the inbox's folders were replaced"]


@pytest.mark.parametrize("folder", ["inbox", "claimed"])
def test_a_folder_that_was_deleted_and_recreated_is_watched_again(folder: str, watcher: Watcher) -> None:
    """A file system may give the new folder the old inode number: it has the same identity, but delivers no events."""
    place = watcher.spool.root / folder

    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.watches.inboxes["drop"]
        place.rmdir()
        place.mkdir()
        by_event = is_sent_by_event(watcher, before)

    assert by_event


def test_an_observer_with_a_dead_thread_is_replaced(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.watches.inboxes["drop"]
        watcher.observer.backend.reader.stop()
        by_event = is_sent_by_event(watcher, before)

    assert by_event
    assert "an observer thread has ended" in [line["why"] for line in watcher.logs(events.OBSERVER_RESTARTED)]


def test_nothing_is_claimed_while_claimed_files_can_not_be_filed(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)

    with watcher.running():
        watcher.broker.outages["drop"] = b"done/: No space left on device"
        eventually(lambda: watcher.daemon.broker.outages != {})
        watcher.spool.put(b"inbox/a", b"A")
        eventually(lambda: watcher.logs(events.FOLDER_UNAVAILABLE) != [])
        assert watcher.spool.files() == {b"inbox/a": b"A"}
        assert watcher.broker.heartbeats[-1]["inboxes"]["drop"]["outage"] in (None, "done/: No space left on device")
        watcher.broker.outages.clear()
        eventually(lambda: watcher.has_sent(b"a"))

    assert len(watcher.logs(events.FOLDER_UNAVAILABLE)) == len(watcher.logs(events.FOLDER_AVAILABLE)) == 1


# new settings


def reload_settings(watcher: Watcher, spools: dict[str, Spool], **rules: object) -> SettingsChange:
    """Have the running watcher load settings with these inboxes; return the change."""
    inboxes = {name: {"root": str(spool.root), **FAST, **rules} for name, spool in spools.items()}
    change = merge_settings(watcher.daemon.settings, Settings(host="here", inbox=inboxes))
    watcher.change = change
    watcher.hints.put(Hint(HintKind.RELOAD))
    return change


def names_in_inbox(watcher: Watcher) -> set[str]:
    return {path.name for path in (watcher.spool.root / "inbox").iterdir()}


def test_an_added_inbox_is_watched_and_its_existing_files_are_sent(watcher: Watcher, tmp_path: Path) -> None:
    new = Spool.make(tmp_path / "new")
    old = new.put(b"inbox/old")

    with watcher.running():
        eventually(watcher.is_idle)
        eventually(lambda: time.time() - old.stat().st_ctime > 1.0)  # else the first scan finds it too young
        reload_settings(watcher, {**watcher.spools, "new": new})
        eventually(lambda: watcher.has_sent(b"old"))
        eventually(lambda: watcher.is_idle("new"))
        new.put(b"inbox/new")
        eventually(lambda: watcher.has_sent(b"old", b"new"))

    assert [line["found_by"] for line in watcher.logs(events.FILE_CLAIMED)] == ["start", "event"]


def test_a_removed_inbox_is_no_longer_watched_or_reported(watcher: Watcher, tmp_path: Path) -> None:
    other = Spool.make(tmp_path / "other")
    watcher.broker.outages = {"drop": b"disk full"}

    with watcher.running():
        eventually(lambda: watcher.daemon.broker.outages == {"drop": "disk full"})
        reload_settings(watcher, {"other": other})
        eventually(lambda: list(watcher.daemon.watches.inboxes) == ["other"])
        watcher.spool.put(b"inbox/unwatched")
        other.put(b"inbox/watched")
        eventually(lambda: watcher.has_sent(b"watched"))
        eventually(lambda: list(watcher.broker.heartbeats[-1]["inboxes"]) == ["other"])

    assert names_in_inbox(watcher) == {"unwatched"}


def test_changed_rules_apply_to_the_next_file(watcher: Watcher) -> None:
    with watcher.running():
        eventually(watcher.is_idle)
        reload_settings(watcher, watcher.spools, exclude=["*.tmpx"])
        eventually(lambda: watcher.daemon.watches.inboxes["drop"].inbox.exclude == ("*.tmpx",))
        watcher.spool.put(b"inbox/a.tmpx")
        watcher.spool.put(b"inbox/b")
        eventually(lambda: watcher.has_sent(b"b"))

    assert names_in_inbox(watcher) == {"a.tmpx"}


def test_settings_with_an_inbox_that_can_not_be_watched_change_nothing(watcher: Watcher, tmp_path: Path) -> None:
    missing = Spool.make(tmp_path / "missing")
    shutil.rmtree(missing.root)

    with watcher.running():
        eventually(watcher.is_idle)
        before = watcher.daemon.settings
        reload_settings(watcher, {**watcher.spools, "missing": missing}, exclude=["*"])
        eventually(lambda: bool(watcher.logs(events.SETTINGS_REJECTED)))
        watcher.spool.put(b"inbox/a")
        eventually(lambda: watcher.has_sent(b"a"))

    assert watcher.daemon.settings is before
    assert list(watcher.daemon.watches.inboxes) == ["drop"]
    assert watcher.logs(events.SETTINGS_REJECTED)[0]["where"] == "inbox.missing.root"


def test_the_status_names_the_watched_inboxes_and_why_nothing_is_claimed(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    with Manager() as manager:
        spools = {"drop": Spool.make(tmp_path / "drop")}
        watcher = Watcher(spools, logged, service_manager=ServiceNotifier(manager.address))
        with watcher.running():
            manager.wait_for(lambda states: "STATUS=watching drop (inotify)" in states)
            watcher.broker.is_unavailable = watcher.daemon.broker.due = True
            watcher.spool.put(b"inbox/a")
            manager.wait_for(
                lambda states: states[-1].startswith("STATUS=paused, nothing is claimed: redis: no connection; watching drop")
            )

        assert manager.look()[-1] == "STOPPING=1"


def test_of_inboxes_that_need_not_be_there_those_that_are_are_watched(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    """A mount that is missing when a loop starts holds up none of the loop's other inboxes."""
    watcher = Watcher({"a": Spool.make(tmp_path / "a"), "b": Spool(tmp_path / "b")}, logged)
    watcher.daemon._on_loop = lambda: None  # noqa: SLF001 - as in the loop of a mount
    watcher.spools["a"].put(b"inbox/first")
    thread = threading.Thread(target=watcher.daemon.run)
    thread.start()
    try:
        eventually(lambda: watcher.has_sent(b"first"))
        assert "No such file" in (watcher.daemon.reports()["b"].outage or "")
        Spool.make(tmp_path / "b").put(b"inbox/second")
        eventually(lambda: watcher.has_sent(b"first", b"second"))
    finally:
        watcher.hints.put(Hint(HintKind.STOP))
        thread.join(10.0)
