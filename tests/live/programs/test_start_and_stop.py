"""Programs refuse to start with unusable settings, and stop cleanly on SIGTERM."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support.live.stand import Stand, Table

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

BAD_SETTINGS = 2


@dataclass(frozen=True)
class Case:
    """Unusable settings, or a function that makes the folders unusable, and texts that the programs must print."""

    texts: tuple[str, ...]
    settings: Table
    break_folders: Callable[[Stand], object] = lambda _stand: None


CASES = {
    "an unknown key": Case(("redis.ulr", "is not a known setting", "did you mean url?"), {"redis": {"ulr": "redis://x"}}),
    "a wrong type": Case(
        ("inbox.drop.settle_seconds = 'soon'", "remedy: correct inbox.drop.settle_seconds"),
        {"inbox": {"settle_seconds": "soon"}},
    ),
    "a time limit above the visibility timeout": Case(
        ("inbox.drop.time_limit_seconds", "redis.visibility_timeout_seconds = 60", "remedy:"),
        {"inbox": {"time_limit_seconds": 90}},
    ),
    "a root that is missing": Case(
        ("inbox.drop.root", "drops/drop", "No such file or directory", "remedy: create it: mkdir -p"),
        {}, lambda stand: stand.root().rename(stand.folder / "moved"),
    ),
    "a root that can't be written": Case(
        ("inbox.drop.root", "drops/drop/done", "Permission denied", "remedy: make the service's user the owner of the folder"),
        {}, lambda stand: stand.path("done").chmod(0o500),
    ),
    "a handler that is not installed": Case(
        ("inbox.drop.handler", "no_such_module", "remedy: install or correct the module"),
        {"inbox": {"handler": "no_such_module:handle"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_programs_with_unusable_settings_exit_with_code_2_and_change_nothing(make_stand: MakeStand, case: Case) -> None:
    tables = {name: table for name, table in case.settings.items() if name != "inbox"}
    stand = make_stand({"drop": case.settings.get("inbox", {})}, **tables)
    stand.drop(b"waiting.txt", b"content")
    case.break_folders(stand)
    programs = [stand.watcher, stand.worker]
    if "handler" in case.texts[0]:
        programs.remove(stand.watcher)  # the watcher imports no handlers

    for program in programs:
        program.argv = (*_drop_root_powers(), *program.argv)
        program.spawn()
    codes = [program.wait(20) for program in programs]

    assert codes == [BAD_SETTINGS] * len(programs), "\n".join(program.text() for program in programs)
    for program in programs:
        assert [text for text in case.texts if text not in program.text()] == [], program.text()
        assert "Traceback" not in program.text()
    assert stand.live_pids() == []
    assert not list(stand.folder.rglob("claimed/*"))
    assert len(list(stand.folder.rglob("inbox/waiting.txt"))) == 1
    assert not list(stand.folder.rglob(".inboxd-*"))


def _drop_root_powers() -> tuple[str, ...]:
    """Return a command prefix that takes root's right to ignore permissions from a program; () for other users."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    assert setpriv, "run as root, this test needs setpriv from util-linux"
    return (setpriv, "--bounding-set", "-dac_override,-dac_read_search")


def test_the_watcher_stops_soon_after_sigterm(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.watcher.start()

    code = stand.watcher.stop(10)

    assert code == 0
    assert len(stand.log_events("stopped", stand.watcher)) == 1


def test_a_stopping_worker_lets_its_running_handler_finish(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    stand.drop(b"last.txt", b"sleep 2")
    stand.wait_until(lambda: stand.calls(b"last.txt"))

    code = stand.worker.stop()
    (handled,) = stand.log_events("file_handled", stand.worker)

    assert code == 0
    assert handled["took_ms"] >= 2000
    assert "raised" not in handled
    stand.worker.start()
    stand.wait_until(lambda: stand.path("done", b"last.txt").exists())
    assert len(stand.calls()) == 1
