"""New settings for programs at work: by SIGHUP, with files in flight, and nothing of these lost or doubled."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import FOLDERS, HANDLERS, Program, Stand, Table, toml

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
ALL = ("watcher", "worker", "beat")
SLOW = {"handler": f"{HANDLERS}:sleep_20_ms", "parcel_files_max": 3}


def rewrite(stand: Stand, inboxes: dict[str, Table], **settings: Table) -> None:
    """Write other settings, and the folders that they need."""
    stand.inboxes = inboxes
    stand.settings.update(settings)
    for name in inboxes:
        for folder in FOLDERS:
            stand.path(folder, inbox=name).mkdir(parents=True, exist_ok=True)
    stand.settings_file.write_text(toml(stand.tables()), "utf-8")


def reload(stand: Stand, *programs: str, says: str = "settings_applied") -> None:
    """Tell programs to reload, and wait until each has said what became of it."""
    chosen = [stand.programs[name] for name in programs or ALL]
    before = {program.name: len(told(stand, says, program)) for program in chosen}
    for program in chosen:
        program.send(signal.SIGHUP)
    for program in chosen:
        stand.wait_until(lambda program=program: len(told(stand, says, program)) > before[program.name], awaited=program.name)


def told(stand: Stand, event: str, program: Program) -> list[Table]:
    return stand.log_events(event, program)


def content(name: bytes) -> bytes:
    return b"content of " + name


def drop_many(stand: Stand, prefix: str, count: int, inbox: str = "drop") -> set[bytes]:
    found = {f"{prefix}-{number}.txt".encode() for number in range(count)}
    for name in found:
        stand.drop(name, content(name), inbox)
    return found


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_inboxes_come_change_and_go_while_files_are_in_flight(make_stand: MakeStand, pool: str) -> None:
    stand = make_stand({"drop": SLOW, "old": SLOW})
    stand.worker.argv = (*stand.worker.argv, "-P", pool)
    stand.start()
    pids = {name: stand.programs[name].pid for name in ALL}

    kept, leaving = drop_many(stand, "kept", 60), drop_many(stand, "leaving", 60, "old")
    stand.wait_until(lambda: stand.names("done", "old"))
    rewrite(stand, {"drop": {**SLOW, "settle_seconds": 0.2}, "new": {**SLOW, "retries": 0}})
    reload(stand)
    added = drop_many(stand, "added", 20, "new")
    stand.wait_until(lambda: stand.names("done") == kept and stand.names("done", "new") == added)
    stand.wait_until(lambda: stand.log_events("inbox_retired", stand.worker), awaited="the removed inbox to be forgotten")

    assert stand.names("claimed", "old") == set()
    assert stand.names("done", "old") | stand.names("inbox", "old") == leaving
    assert [line["inbox"] for line in stand.log_events("inbox_retiring")] == ["old"]
    assert stand.duplicates() == {}
    assert {name: stand.programs[name].pid for name in ALL} == pids
    stand.drop(b"late.txt", b"nobody is here", "old")
    stand.drop(b"after.txt", b"the others go on", "drop")
    stand.wait_until(lambda: b"after.txt" in stand.names("done"))
    assert stand.names("inbox", "old") >= {b"late.txt"}


def test_a_changed_handler_gets_the_next_file_and_the_one_at_work_is_left_alone(make_stand: MakeStand) -> None:
    (handlers := make_stand()).start()
    stand = handlers
    stand.drop(b"long.txt", b"sleep 3")
    stand.wait_until(lambda: stand.calls(b"long.txt"))
    (stand.folder / "fresh.py").write_text(
        "from inboxd import RejectFile\ndef refuse(file):\n    raise RejectFile('by the new one')\n"
    )

    rewrite(stand, {"drop": {"handler": "fresh:refuse", "retries": 0}})
    reload(stand, "worker", "watcher")
    for number in range(4):  # more than there are children
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
def test_broken_settings_change_nothing_and_are_told(make_stand: MakeStand, case: str) -> None:
    spoil, says = BROKEN[case]
    stand = make_stand({"drop": {"retries": 0}}).start()
    programs = ("watcher", "worker") if case == "a missing folder" else ALL

    spoil(stand.settings_file)
    reload(stand, *programs, says="settings_rejected")
    stand.drop(b"a.txt", b"always_raise once")
    stand.wait_until(lambda: b"a.txt" in stand.names("failed"))

    for name in programs:
        lines = told(stand, "settings_rejected", stand.programs[name])
        assert any(says in f"{line['where']} {line['problem']}" for line in lines), lines
        assert all(line["remedy"] for line in lines)
    assert stand.log_events("settings_applied") == []
    assert all(stand.programs[name].running for name in ALL)
    assert len(stand.calls(b"a.txt")) == 1


def test_what_only_a_restart_takes_up_is_told_and_the_rest_is_taken(make_stand: MakeStand) -> None:
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
        (line,) = told(stand, "settings_need_restart", stand.programs[name])
        assert set(line["keys"]) == {
            "redis.socket_timeout_seconds",
            "work.concurrency",
            "work.lease_seconds",
            "inbox.drop.root",
        }
        assert "restart" in line["remedy"]
    assert len(stand.calls(b"a.txt")) == 1
    assert not Path(moved).exists()


def test_beat_takes_up_its_intervals(make_stand: MakeStand) -> None:
    stand = make_stand(sweep={"missed_seconds": 3600.0})
    stand.redis.start()
    stand.worker.start()
    stand.beat.start()  # and no watcher: only the sweep finds files
    stand.drop(b"missed.txt", b"x")

    rewrite(stand, {"drop": {}}, sweep={"missed_seconds": 1.0})
    reload(stand, "beat")

    stand.wait_until(lambda: stand.names("done") == {b"missed.txt"}, 20)


def test_a_worker_reloads_while_redis_is_away(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"retries": 3}}).start()
    stand.redis.kill9()

    rewrite(stand, {"drop": {"retries": 0}})
    reload(stand)
    stand.redis.start()
    stand.drop(b"a.txt", b"always_raise once")
    stand.wait_until(lambda: b"a.txt" in stand.names("failed"))

    assert len(stand.calls(b"a.txt")) == 1


def test_a_file_that_is_quicker_than_the_workers_reload_is_worked_on_after_it(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {}}).start()
    rewrite(stand, {"drop": {}, "new": {}})

    reload(stand, "watcher")
    stand.drop(b"early.txt", b"x", "new")
    stand.wait_until(lambda: stand.log_events("message_invalid", stand.worker), awaited="a worker that does not know the inbox")
    reload(stand, "worker")
    stand.wait_until(lambda: stand.names("done", "new") == {b"early.txt"})

    assert len(stand.calls()) == 1


def test_many_reloads_under_load_lose_and_double_nothing(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": SLOW}).start()
    dropped = drop_many(stand, "load", 200)

    for number in range(12):
        rewrite(stand, {"drop": {**SLOW, "retries": number, "parcel_files_max": 1 + number}})
        reload(stand)
    stand.wait_until(lambda: stand.names("done") == dropped)

    assert stand.duplicates() == {}
    assert stand.names("claimed") | stand.names("inbox") == set()
