"""Programs started in a project folder import none of its modules, whatever their names, except the handler's."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live.stand import Stand
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live

OURS = ("console", "spool", "inboxd_handlers")
DEPENDENCIES = ("celery", "redis", "kombu", "click", "structlog", "watchdog", "pydantic", "msgpack")
STANDARD = ("queue", "secrets", "calendar", "signal", "select", "types", "enum", "logging", "typing")
TRAP = "raise SystemExit(__file__ + ' was imported')\n"

TASKS = """
from pathlib import Path
import celery

def book(file):
    Path("booked").write_bytes(file.read())
    return {"celery": celery.__file__}
"""


def user_environment(stand: Stand) -> dict[str, str]:
    """Return the stand's environment without PYTHONPATH, which names the tests' folders."""
    return {key: value for key, value in stand.environment().items() if key != "PYTHONPATH"}


def run(stand: Stand, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project folder."""
    return subprocess.run(
        argv,
        cwd=stand.folder,
        env=user_environment(stand),
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )


def script(name: str) -> str:
    """Return the path of a command that is installed next to this Python."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Yield a stand in a project folder whose modules have the names of ours, of dependencies and of the standard library."""
    with Stand(tmp_path / "project", defaults={"handler": "tasks:book"}) as new_stand:
        for program in new_stand.programs.values():
            program.environment = user_environment(new_stand)
        for program in (new_stand.worker, new_stand.beat):  # python -m celery would put the folder on sys.path
            program.argv = (script("celery"), *program.argv[3:])
        for name in (*OURS, *DEPENDENCIES, *STANDARD):
            (new_stand.folder / f"{name}.py").write_text(TRAP)
        (new_stand.folder / "watcher").mkdir()
        (new_stand.folder / "watcher" / "__init__.py").write_text(TRAP)
        (new_stand.folder / "tasks.py").write_text(TASKS)
        yield new_stand


COMMANDS = {"script": (script("inboxd"),), "module": (sys.executable, "-m", "inboxd")}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_inboxds_commands_import_no_module_of_the_project_folder(command: tuple[str, ...], stand: Stand) -> None:
    stand.start()

    check, status = run(stand, *command, "check"), run(stand, *command, "status", "--json")

    assert (check.returncode, check.stderr) == (0, "")
    assert status.returncode == 0, status.stdout + status.stderr
    assert json.loads(status.stdout)["workers"] == 1


def test_celerys_command_runs_the_worker_and_inspects_it(stand: Stand) -> None:
    stand.start()
    stand.drop("a.txt", b"content")

    stand.wait_until(stand.path("done", b"a.txt").exists)
    inspected = run(stand, script("celery"), "-A", "inboxd", "inspect", "registered", "--timeout", "2")

    assert (stand.folder / "booked").read_bytes() == b"content"
    assert {line.strip(" *") for line in inspected.stdout.splitlines() if line.startswith("    *")} == {
        "inboxd.process",
        "inboxd.stage",
        "inboxd.succeeded",
        "inboxd.failed",
        "inboxd.task_succeeded",
        "inboxd.task_failed",
        "inboxd.sweep_missed",
        "inboxd.sweep_stale",
        "inboxd.sweep_expired",
    }


def test_a_handler_imports_installed_packages_and_not_modules_of_the_same_name_in_its_folder(stand: Stand) -> None:
    stand.start()
    stand.drop("a.txt", b"content")

    stand.wait_until(stand.path("done", b"a.txt").exists)

    [line] = stand.log_events("file_handled", stand.worker)
    assert not Path(line["result"]["celery"]).is_relative_to(stand.folder)
