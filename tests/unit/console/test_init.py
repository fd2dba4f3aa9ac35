"""`inboxd init`: a new project, which works, and overwrites nothing."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.waiting import PROGRAM_SECONDS

from inboxd.config.loading import SETTINGS_VARIABLE, load_settings
from inboxd.console.commands import init as init_command
from inboxd.console.main import cli
from inboxd.console.project.templates import FILES


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments])


def test_a_new_project_has_settings_that_are_valid_a_handler_a_test_and_four_folders(tmp_path: Path) -> None:
    result = run("project")

    folder = tmp_path / "project"
    assert result.exit_code == 0
    assert {path.name for path in folder.iterdir()} == {*FILES, "drop"}
    assert {path.name for path in (folder / "drop").iterdir()} == {"inbox", "claimed", "done", "failed"}
    assert load_settings(folder / "settings.toml").inbox["drop"].handler == "example_handler:handle"


def test_the_current_folder_is_the_default(tmp_path: Path) -> None:
    result = run()

    assert (result.exit_code, (tmp_path / "settings.toml").exists()) == (0, True)
    assert "  cd " not in result.stdout


@pytest.mark.usefixtures("open_umask")
def test_nobody_else_can_write_to_what_inboxd_runs() -> None:
    run("new/project")

    modes = {name: stat.S_IMODE(Path("new/project", name).stat().st_mode) for name in FILES}
    assert modes == dict.fromkeys(FILES, 0o644)
    assert stat.S_IMODE(Path("new/project").stat().st_mode) == 0o755
    assert stat.S_IMODE(Path("new/project/drop/claimed").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", [*FILES, "drop"])
def test_a_file_that_exists_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")

    result = run()

    assert result.exit_code == 2
    assert f"{name}: exists, and is not overwritten" in result.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").symlink_to(tmp_path / "elsewhere")

    assert run().exit_code == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_others_can_write_to_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    result = run("open")

    assert (result.exit_code, [*(tmp_path / "open").iterdir()]) == (2, [])
    assert "everybody can write to it" in result.stderr


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = run("file/project")

    assert result.exit_code == 2
    assert "file: can't be written: File exists" in result.stderr


def test_no_file_is_left_if_one_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {**FILES, "missing/folder.py": ""}
    monkeypatch.setattr("inboxd.console.project.create.FILES", names)

    result = run()

    assert result.exit_code == 2
    assert "missing/folder.py: can't be written: No such file" in result.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("user", "variable", "has_option"), [(0, "", True), (1000, "", False), (1000, "/etc/inboxd/settings.toml", True)]
)
def test_the_printed_commands_name_the_settings_where_they_would_not_be_found(
    user: int, variable: str, has_option: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init_command.os, "geteuid", lambda: user)
    monkeypatch.setenv(SETTINGS_VARIABLE, variable)

    lines = [*init_command.render_next_steps(Path("it's here"))]

    assert lines[3] == """  cd 'it'"'"'s here'"""
    assert ["--settings settings.toml" in line for line in lines if " check" in line or " up" in line] == [has_option] * 2


def test_the_example_handlers_test_passes_in_the_new_project(tmp_path: Path) -> None:
    run("project")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example_handler.py"]

    done = subprocess.run(
        command, cwd=tmp_path / "project", capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
    )

    assert "2 passed" in done.stdout
