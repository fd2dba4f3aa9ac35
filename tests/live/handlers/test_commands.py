"""A command handles an inbox's files: done, rejected, retried, interrupted, killed with its worker, through a lost Redis."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.live import stand as stand_module
from support.live.stand import Stand

MakeStand = Callable[..., Stand]
SCRIPT = Path(stand_module.__file__).with_name("stand_command.sh")
RULES = {"command": [str(SCRIPT), "{path}"], "env": ["STAND_FOLDER"]}


def filed(stand: Stand, folder: str, name: bytes) -> bool:
    return stand.path(folder, name).exists()


def sleepers(stand: Stand) -> list[int]:
    """Return the running processes of the stand that sleep."""

    def name(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return ""

    return [pid for pid in stand.live_pids() if name(pid) == "sleep"]


def test_files_are_filed_by_what_the_command_says(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {**RULES, "retries": 3}}).start()
    contents = {
        b"a.txt": b"fine", b"x/-rf $(touch y) \xc3\xbc.txt": b"fine", b"bad.txt": b"reject the total is missing",
        b"again.txt": b"raise_twice", b"never.txt": b"always_raise no room", b"crash.txt": b"die",
    }  # fmt: skip
    for name, content in contents.items():
        stand.drop(name, content)

    stand.wait_until(stand.has_no_pending_files)
    stand.wait_until(lambda: len(stand.names("failed")) == 6)

    assert set(stand.tree("done")) == {b"a.txt", b"x/-rf $(touch y) \xc3\xbc.txt", b"again.txt"}
    assert "the total is missing" in stand.note(b"bad.txt")
    assert "stand_command.sh ended with exit code 1: no room" in stand.note(b"never.txt")
    assert "stand_command.sh ended by signal SIGKILL" in stand.note(b"crash.txt")
    calls = {path: count for path, count in stand.duplicates().items() if not path.startswith(b"x/")}
    assert calls == {b"again.txt": 3, b"never.txt": 4, b"crash.txt": 4}
    assert not [line for line in stand.log_lines() if "exception" in line]


def test_what_a_command_prints_is_logged_with_its_file(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": RULES}).start()

    stand.drop(b"a.txt", b"print hello")
    stand.wait_until(lambda: filed(stand, "done", b"a.txt"))

    stand.wait_until(lambda: len(stand.log_events("handler_output")) == 2)
    assert {(line["file"], line["line"]) for line in stand.log_events("handler_output")} == {
        ("a.txt", "out hello"),
        ("a.txt", "err hello"),
    }


def test_the_time_limit_ends_the_whole_family(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {**RULES, "time_limit_seconds": 1, "retries": 0}}).start()

    stand.drop(b"slow.txt", b"family 600")
    stand.wait_until(lambda: filed(stand, "failed", b"slow.txt"))

    assert "1 second" in stand.note(b"slow.txt") or "1 s" in stand.note(b"slow.txt")
    stand.wait_until(lambda: not sleepers(stand), awaited="the end of the sleeping programs")


def test_what_a_command_leaves_in_a_session_of_its_own_ends_with_it(make_stand: MakeStand) -> None:
    rules = {"command": ["sh", "-c", "setsid sleep 600 & sleep 600 & exit 0"], "env": ["STAND_FOLDER"]}
    stand = make_stand({"drop": rules}).start()

    for number in range(10):
        stand.drop(b"%d.txt" % number, b"x")
    stand.wait_until(lambda: len(stand.names("done")) == 10)

    stand.wait_until(lambda: not sleepers(stand), awaited="the end of the sleeping programs")
    zombies = [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and is_zombie_of(pid, stand.worker.pid)]
    assert len(zombies) <= 4, "what each child's last command has left may still be ending"


def is_zombie_of(process: Path, worker: int) -> bool:
    """Return whether a process has ended that a child of the worker has not waited for."""

    def fields(pid: str) -> list[str]:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ["", "0"]

    state, parent, *_ = fields(process.name)
    return state == "Z" and fields(parent)[1] == str(worker)


def test_a_worker_killed_in_the_middle_leaves_no_command_and_the_file_is_handled_again(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": RULES}).start()
    stand.drop(b"held.txt", b"hold")
    stand.wait_until(lambda: stand.calls(b"held.txt"))
    (call,) = stand.calls(b"held.txt")

    stand.worker.kill9()
    stand.worker.start()
    stand.wait_until(lambda: len(stand.calls(b"held.txt")) == 2)
    (stand.folder / "release").touch()
    stand.wait_until(lambda: filed(stand, "done", b"held.txt"))

    assert call.pid not in stand.live_pids()
    assert {call.id for call in stand.calls()} == {call.id}


def test_after_flushall_in_the_middle_the_file_is_filed_once(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": RULES}).start()
    for number in range(20):
        stand.drop(b"%d.txt" % number, b"hold" if number < 2 else b"fine")
    stand.wait_until(lambda: len([call for call in stand.calls() if call.path in (b"0.txt", b"1.txt")]) >= 1)

    stand.client.flushall()
    (stand.folder / "release").touch()
    stand.wait_until(lambda: len(stand.names("done")) == 20)

    assert stand.has_no_pending_files()


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_run_commands_too(make_stand: MakeStand, pool: str) -> None:
    stand = make_stand({"drop": {**RULES, "retries": 0}})
    stand.worker.argv = (*stand.worker.argv, "-P", pool)
    stand.start()

    stand.drop(b"a.txt", b"fine")
    stand.drop(b"b.txt", b"reject no")
    stand.wait_until(lambda: filed(stand, "done", b"a.txt") and filed(stand, "failed", b"b.txt"))
