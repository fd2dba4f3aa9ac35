"""In a project's own folder, whatever modules lie there: what runs is ours, and the user's modules are for handlers only."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

OURS = ("console", "spool", "inboxd_handlers")
DEPENDENCIES = ("celery", "redis", "kombu", "click", "structlog", "watchdog", "pydantic", "msgpack")
STANDARD = ("queue", "secrets", "calendar", "signal", "select", "types", "enum", "logging", "typing")
TRAP = "raise SystemExit(__file__ + ' was imported')\n"

TASKS = """
from pathlib import Path
import celery as theirs

def book(file):
    Path("booked").write_bytes(file.read())
    return {"celery": theirs.__file__}
"""


def as_people_have_it(stand: Stand) -> dict[str, str]:
    """Return an environment without PYTHONPATH, which names our tests' folders."""
    return {key: value for key, value in stand.environment().items() if key != "PYTHONPATH"}


def run(stand: Stand, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder."""
    return subprocess.run(
        argv, cwd=stand.folder, env=as_people_have_it(stand), capture_output=True, text=True, timeout=60, check=False
    )


def script(name: str) -> str:
    """Return the path of a command that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A stand whose settings lie in a project folder with modules of every name that could be taken for ours."""
    with Stand(tmp_path / "project", defaults={"handler": "tasks:book"}) as made:
        for program in made.programs.values():
            program.environment = as_people_have_it(made)
        for program in (made.worker, made.beat):  # instead of python -m celery, which is Celery's own affair
            program.argv = (script("celery"), *program.argv[3:])
        for name in (*OURS, *DEPENDENCIES, *STANDARD):
            (made.folder / f"{name}.py").write_text(TRAP)
        (made.folder / "watcher").mkdir()
        (made.folder / "watcher" / "__init__.py").write_text(TRAP)
        (made.folder / "tasks.py").write_text(TASKS)
        yield made


COMMANDS = {"script": (script("inboxd"),), "module": (sys.executable, "-m", "inboxd")}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_commands_are_ours(command: tuple[str, ...], stand: Stand) -> None:
    stand.start()

    checked, status = run(stand, *command, "check"), run(stand, *command, "status", "--json")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert status.returncode == 0, status.stdout + status.stderr
    assert json.loads(status.stdout)["workers"] == 1


def test_celerys_command_runs_our_worker_and_asks_it(stand: Stand) -> None:
    stand.start()
    stand.drop("a.txt", b"content")

    stand.wait_until(stand.path("done", b"a.txt").exists)
    asked = run(stand, script("celery"), "-A", "inboxd", "inspect", "registered", "--timeout", "2")

    assert (stand.folder / "booked").read_bytes() == b"content"
    assert {line.strip(" *") for line in asked.stdout.splitlines() if line.startswith("    *")} == {
        "inboxd.process",
        "inboxd.succeeded",
        "inboxd.failed",
        "inboxd.sweep_missed",
        "inboxd.sweep_stale",
        "inboxd.sweep_expired",
    }


def test_a_handler_imports_what_is_installed_and_not_its_neighbours(stand: Stand) -> None:
    stand.start()
    stand.drop("a.txt", b"content")

    stand.wait_until(stand.path("done", b"a.txt").exists)

    [line] = stand.log_events("file_handled", stand.worker)
    assert not Path(line["result"]["celery"]).is_relative_to(stand.folder)
