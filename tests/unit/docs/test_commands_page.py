"""Every block of docs/commands.md: the settings are loaded, and the console's lines are run in their folder."""

from pathlib import Path

import pytest
from support.documents import check_step, find_blocks, find_sessions, name_files, read_page

from inboxd.config.loading import load_settings
from inboxd.config.programs import PLACEHOLDERS
from inboxd.handling.command import PASSED_ON

PAGE = read_page("commands.md")
BLOCKS = find_blocks(PAGE)
FILES = name_files(BLOCKS)
STEPS = [step for steps in find_sessions(BLOCKS) for step in steps]


@pytest.mark.parametrize("name", FILES)
def test_each_settings_file_is_valid(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])

    assert all(inbox.command for inbox in load_settings(tmp_path / name).inbox.values())


@pytest.mark.parametrize("step", STEPS)
def test_each_command_of_the_page_prints_what_the_page_says(step: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(FILES["settings.toml"])

    check_step(step, tmp_path, INBOXD_SETTINGS="settings.toml")


def test_the_page_names_each_placeholder_and_each_variable_that_is_passed_on() -> None:
    assert [word for word in PLACEHOLDERS if f"{{{word}}}" not in PAGE] == []
    assert [name for name in PASSED_ON if f"`{name}`" not in PAGE] == []


def test_each_block_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"toml", "console"}
    assert STEPS
