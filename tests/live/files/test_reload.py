"""SIGHUP reloads the settings of running programs; files in flight are neither lost nor duplicated."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import FOLDERS, HANDLERS, Stand, Table, toml

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
ALL = ("watcher", "worker", "beat")
SLOW_INBOX = {"handler": f"{HANDLERS}:sleep_20_ms", "parcel_files_max": 3}


def rewrite(stand: Stand, inboxes: dict[str, Table], **settings: Table) -> None:
    """Write new settings, and make the folders that they need."""
    stand.inboxes = inboxes
    stand.settings.update(settings)
    for name in inboxes:
        for folder in FOLDERS:
            stand.path(folder, inbox=name).mkdir(parents=True, exist_ok=True)
    stand.settings_file.write_text(toml(stand.tables()), "utf-8")


def reload(stand: Stand, *programs: str, event: str = "settings_applied") -> None:
    """Send SIGHUP to programs, by default to all, and wait until each has logged the event."""
    reloaded = [stand.programs[name] for name in programs or ALL]
    before = {program.name: len(stand.log_events(event, program)) for program in reloaded}
    for program in reloaded:
        program.send(signal.SIGHUP)
    for program in reloaded:
        stand.wait_until(lambda program=program: len(stand.log_events(event, program)) > before[program.name])


def content(name: bytes) -> bytes:
    return b"content of " + name


def drop_many(stand: Stand, prefix: str, count: int, inbox: str = "drop") -> set[bytes]:
    names = {f"{prefix}-{number}.txt".encode() for number in range(count)}
    for name in names:
        stand.drop(name, content(name), inbox)
    return names


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_inboxes_are_added_changed_and_removed_while_files_are_in_flight(make_stand: MakeStand, pool: str) -> None:
    stand = make_stand({"drop": SLOW_INBOX, "old": SLOW_INBOX})
    stand.worker.argv = (*stand.worker.argv, "-P", pool)
    stand.start()
    pids = {name: stand.programs[name].pid for name in ALL}

    kept, leaving = drop_many(stand, "kept", 60), drop_many(stand, "leaving", 60, "old")
    stand.wait_until(lambda: stand.names("done", "old"))
    rewrite(stand, {"drop": {**SLOW_INBOX, "settle_seconds": 0.2}, "new": {**SLOW_INBOX, "retries": 0}})
    reload(stand)
    added = drop_many(stand, "added", 20, "new")
    stand.wait_until(lambda: stand.names("done") == kept and stand.names("done", "new") == added)
    stand.wait_until(lambda: stand.log_events("inbox_retired", stand.worker), awaited="the end of the removed inbox")

    assert stand.names("claimed", "old") == set()
    assert stand.names("done", "old") | stand.names("inbox", "old") == leaving
    assert [line["inbox"] for line in stand.log_events("inbox_retiring")] == ["old"]
    assert stand.duplicates() == {}
    assert {name: stand.programs[name].pid for name in ALL} == pids
    stand.drop(b"late.txt", b"this inbox was removed", "old")
    stand.drop(b"after.txt", b"this inbox remains", "drop")
    stand.wait_until(lambda: b"after.txt" in stand.names("done"))
    assert stand.names("inbox", "old") >= {b"late.txt"}


def test_a_changed_handler_gets_the_next_files_and_a_running_handler_finishes(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    stand.drop(b"long.txt", b"sleep 3")
    stand.wait_until(lambda: stand.calls(b"long.txt"))
    (stand.folder / "new_handler.py").write_text(
        "from inboxd import RejectFile\ndef refuse(file):\n    raise RejectFile('by the new one')\n"
    )

    rewrite(stand, {"drop": {"handler": "new_handler:refuse", "retries": 0}})
    reload(stand, "worker", "watcher")
    for number in range(4):  # more files than worker processes
        stand.drop(b"next-%d.txt" % number, b"x")
    stand.wait_until(
        lambda: len([name for name in stand.names("failed") if name.endswith(b".txt") and b".error" not in name]) == 4
    )
    stand.wait_until(lambda: stand.names("done") == {b"long.txt"})

    assert all("by the new one" in stand.note(b"next-%d.txt" % number) for number in range(4))
    assert len(stand.calls(b"long.txt")) == 1


BROKEN = {
    "no TOML": (lambda file: file.write_text("[inbox.drop\n"), "is not valid TOML"),
    "an unknown key": (
        lambda file: file.write_text(file.read_text().replace("retries = 0", "retires = 0")),
        "inbox.drop.retires",
    ),
    "a missing folder": (lambda file: file.write_text(file.read_text() + '[inbox.gone]\nroot = "gone"\n'), "inbox.gone.root"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_settings_are_logged_and_change_nothing(make_stand: MakeStand, case: str) -> None:
    break_settings, problem = BROKEN[case]
    stand = make_stand({"drop": {"retries": 0}}).start()
    programs = ("watcher", "worker") if case == "a missing folder" else ALL

    break_settings(stand.settings_file)
    reload(stand, *programs, event="settings_rejected")
    stand.drop(b"a.txt", b"always_raise once")
    stand.wait_until(lambda: b"a.txt" in stand.names("failed"))

    for name in programs:
        lines = stand.log_events("settings_rejected", stand.programs[name])
        assert any(problem in f"{line['where']} {line['problem']}" for line in lines), lines
        assert all(line["remedy"] for line in lines)
    assert stand.log_events("settings_applied") == []
    assert all(stand.programs[name].running for name in ALL)
    assert len(stand.calls(b"a.txt")) == 1


def test_a_reload_applies_what_it_can_and_logs_which_settings_need_a_restart(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"retries": 3}}).start()

    rewrite(
        stand, {"drop": {"retries": 0}}, work={"lease_seconds": 4.0, "concurrency": 7}, redis={"socket_timeout_seconds": 3.0}
    )
    text = stand.settings_file.read_text()
    moved = stand.root("drop").with_name("elsewhere")
    stand.settings_file.write_text(text.replace(str(stand.root("drop")), str(moved)))
    reload(stand)
    stand.drop(b"a.txt", b"always_raise once")
    stand.wait_until(lambda: b"a.txt" in stand.names("failed"))

    for name in ALL:
        (line,) = stand.log_events("settings_need_restart", stand.programs[name])
        assert set(line["keys"]) == {
            "redis.socket_timeout_seconds",
            "work.concurrency",
            "work.lease_seconds",
            "inbox.drop.root",
        }
        assert "restart" in line["remedy"]
    assert len(stand.calls(b"a.txt")) == 1
    assert not Path(moved).exists()


def test_beat_applies_new_sweep_intervals(make_stand: MakeStand) -> None:
    stand = make_stand(sweep={"missed_seconds": 3600.0})
    stand.redis.start()
    stand.worker.start()
    stand.beat.start()  # without a watcher only the sweep finds files
    stand.drop(b"missed.txt", b"x")

    rewrite(stand, {"drop": {}}, sweep={"missed_seconds": 1.0})
    reload(stand, "beat")

    stand.wait_until(lambda: stand.names("done") == {b"missed.txt"})


def test_all_programs_reload_while_redis_is_unavailable(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"retries": 3}}).start()
    stand.redis.kill9()

    rewrite(stand, {"drop": {"retries": 0}})
    reload(stand)
    stand.redis.start()
    stand.drop(b"a.txt", b"always_raise once")
    stand.wait_until(lambda: b"a.txt" in stand.names("failed"))

    assert len(stand.calls(b"a.txt")) == 1


def test_a_file_that_arrives_before_the_workers_reload_is_handled_after_it(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {}}).start()
    rewrite(stand, {"drop": {}, "new": {}})

    reload(stand, "watcher")
    stand.drop(b"early.txt", b"x", "new")
    stand.wait_until(
        lambda: stand.log_events("message_invalid", stand.worker),
        awaited="a message of an inbox that is missing in the worker's settings",
    )
    reload(stand, "worker")
    stand.wait_until(lambda: stand.names("done", "new") == {b"early.txt"})

    assert len(stand.calls()) == 1


def test_many_reloads_under_load_lose_and_duplicate_no_file(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": SLOW_INBOX}).start()
    dropped = drop_many(stand, "load", 200)

    for number in range(12):
        rewrite(stand, {"drop": {**SLOW_INBOX, "retries": number, "parcel_files_max": 1 + number}})
        reload(stand)
    stand.wait_until(lambda: stand.names("done") == dropped)

    assert stand.duplicates() == {}
    assert stand.names("claimed") | stand.names("inbox") == set()
