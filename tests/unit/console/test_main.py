"""The command line: exit codes, findings, and what is printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.repository import REPOSITORY

from inboxd.config.loading import SETTINGS_VARIABLE, load_settings
from inboxd.console.main import cli
from inboxd.service import preflight

COMMANDS = ["up", "watch", "check", "status"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_settings_are_told_with_their_remedies_and_end_with_code_2(command: str, file: Path) -> None:
    file.write_text('hots = "me"\n[inbox.drop]\nroot = "drop"\nsettle_seconds = "soon"\n')

    result = run(command, "--settings", file)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "did you mean host?" in result.stderr
    assert "inbox.drop.settle_seconds" in result.stderr
    assert result.stderr.count("remedy:") == 2
    assert not (file.parent / "drop").exists()
    assert not (file.parent / "var").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_settings_file_that_is_missing_ends_with_code_2(command: str, tmp_path: Path) -> None:
    result = run(command, "--settings", tmp_path / "none.toml")

    assert result.exit_code == 2
    assert "none.toml: is not a file" in result.stderr


def test_hostile_settings_are_shown_on_one_printable_line(file: Path) -> None:
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "\\u001b[2J\\nfake: ok"\n')

    result = run("check", "--settings", file)

    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\nfake" not in result.stderr


def test_the_settings_file_can_be_named_in_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.create_folders(load_settings(file))
    monkeypatch.setenv(SETTINGS_VARIABLE, str(file))

    result = run("check")

    assert result.exit_code == 0


def test_check_says_ok_for_each_inbox_and_notes_a_broker_that_is_away(file: Path) -> None:
    preflight.create_folders(load_settings(file))

    result = run("check", "--settings", file)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        f"{file}: ok",
        f"inbox drop: ok ({file.parent}/drop, handler inboxd.handlers:describe)",
    ]
    assert result.stdout.splitlines()[2].startswith("note: the broker at unix://")
    assert "does not answer (`inboxd up` starts a server there)" in result.stdout


def test_check_tells_what_is_wrong_with_the_folders_and_the_handler(file: Path) -> None:
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "nowhere:at_all"\n')

    result = run("check", "--settings", file)

    assert result.exit_code == 2
    assert str(file.parent / "drop") in result.stderr
    assert "nowhere:at_all" in result.stderr
    assert not (file.parent / "drop").exists()


def test_the_version_is_shown() -> None:
    result = run("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("inboxd, version ")


def test_watch_becomes_the_watcher_with_the_settings_file_named_absolutely(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became = []
    monkeypatch.setattr(os, "execve", lambda *arguments: became.append(arguments))
    monkeypatch.chdir(file.parent)

    run("watch", "--settings", "settings.toml")

    path, argv, environment = became[0]
    assert (path, argv) == (sys.executable, [sys.executable, "-P", "-m", "inboxd.watcher"])
    assert environment[SETTINGS_VARIABLE] == str(file)
    assert environment["PATH"] == os.environ["PATH"]


def test_handlers_in_the_current_folder_are_found(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def handle(file): ...\n")
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "mine:handle"\n')
    preflight.create_folders(load_settings(file))
    code = f"import sys; sys.path[0] = {str(REPOSITORY)!r}; from inboxd.console.main import main; main()"

    found = subprocess.run([sys.executable, "-c", code, "check"], cwd=tmp_path, capture_output=True, check=False, text=True)

    assert found.returncode == 0, found.stderr
