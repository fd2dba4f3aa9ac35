"""A command imports what it needs and no more: a library that nobody asked for costs each call of a command its time."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.repository import REPOSITORY

from inboxd.console.main import COMMANDS, cli

PRINT_MODULES = """
import sys
from inboxd.console.main import main
sys.argv[0] = "inboxd"
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""


def imported_by(*arguments: str | Path, code: int = 0) -> set[str]:
    argv = [sys.executable, "-c", PRINT_MODULES, *map(str, arguments)]
    result = subprocess.run(argv, capture_output=True, check=False, text=True)
    assert result.returncode == code, result.stderr
    return set(result.stderr.splitlines())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_help_text_imports_no_library_but_click(arguments: list[str]) -> None:
    modules = imported_by(*arguments)

    assert not modules & {
        "asyncio",
        "celery",
        "kombu",
        "pydantic",
        "pydantic_settings",
        "redis",
        "rich",
        "structlog",
        "watchdog",
    }
    assert not {name for name in modules if name.startswith(("inboxd.config", "inboxd.broker", "inboxd.messaging"))}


@pytest.mark.parametrize("command", ["explain", "status"])
def test_a_look_at_a_file_or_at_the_state_imports_no_asynchronous_client_and_no_log(command: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(f'state_dir = "{tmp_path}"\n[inbox.drop]\nroot = "drop"\n')
    path = [tmp_path / "a.pdf"] if command == "explain" else []

    modules = imported_by(command, "--settings", tmp_path / "settings.toml", *path, code=1)

    assert "redis.client" in modules
    assert not modules & {"redis.asyncio.client", "structlog", "watchdog", "inboxd.watcher", "inboxd.console.up.up"}
    assert command == "status" or not modules & {"celery", "kombu", "rich"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_list_of_commands_shows_the_first_sentence_of_each_help_text(command: str) -> None:
    loaded = cli.get_command(cli.make_context("inboxd", [], resilient_parsing=True), command)

    assert loaded is not None
    assert loaded.name == command
    assert loaded.get_short_help_str(limit=1000) == COMMANDS[command].short_help


def test_each_module_of_commands_is_in_the_list() -> None:
    modules = {file.stem for file in (REPOSITORY / "inboxd/console/commands").glob("*.py")} - {"__init__"}

    prefix = "inboxd.console.commands."

    listed = {entry.path.partition(":")[0] for entry in COMMANDS.values()}

    assert {module.removeprefix(prefix) for module in listed if module.startswith(prefix)} == modules


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["stauts"])

    assert result.exit_code == 2
    assert "No such command 'stauts'" in result.stderr


def test_the_names_of_commands_are_completed_without_importing_them() -> None:
    environment = {"_INBOXD_COMPLETE": "bash_complete", "COMP_WORDS": "inboxd st", "COMP_CWORD": "1", "PATH": "/usr/bin:/bin"}

    result = subprocess.run([sys.executable, "-c", PRINT_MODULES], env=environment, capture_output=True, check=False, text=True)

    assert result.stdout.split() == ["plain,status"], result.stderr
    assert not {"celery", "pydantic", "redis"} & set(result.stderr.splitlines())
