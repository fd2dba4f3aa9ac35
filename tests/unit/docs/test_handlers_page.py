"""Every block of docs/handlers.md: modules and settings in one project, commands in a shell, with what they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import check_step, find_blocks, find_sessions, name_files, read_page
from support.waiting import PROGRAM_SECONDS

from inboxd import InboxFile

PAGE = read_page("handlers.md")
BLOCKS = find_blocks(PAGE)
SESSIONS = find_sessions(BLOCKS)
FILES = name_files(BLOCKS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "march.csv").write_text("amount,by\n10,a\n20.5,b\n")
    return folder


@pytest.mark.parametrize("steps", SESSIONS, ids=lambda steps: steps[0].split("\n")[0])
def test_each_command_of_the_page_prints_what_the_page_says(steps: list[str], project: Path) -> None:
    for step in steps:
        check_step(step, project)


def test_the_settings_of_the_page_name_the_handler_of_the_page(project: Path) -> None:
    command = [
        Path(sys.executable).with_name("inboxd"),
        "try",
        "--settings",
        "settings.toml",
        "--inbox",
        "invoices",
        "march.csv",
    ]

    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS)

    assert "would go to done/" in done.stdout, done


def test_each_block_is_run() -> None:
    used = " ".join(command for steps in SESSIONS for command in steps) + " settings.toml"

    assert {language for language, _ in BLOCKS} == {"python", "toml", "console"}
    assert [name for name in FILES if name.removesuffix(".py") not in used] == []
    assert len(FILES) == sum(language in ("python", "toml") for language, _ in BLOCKS)


def test_the_table_of_attributes_names_only_what_an_inbox_file_has_and_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    table = PAGE.partition("| attribute |")[2].partition("\n\n")[0]
    named = {name for row in table.split("\n")[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    file = InboxFile.of(tmp_path / "a")

    inherited = {*dir(type(file).__mro__[1])}
    methods = {
        "as_django", "as_starlette", "chunks", "close_outputs", "multiple_chunks", "of", "open", "output", "save",
        "temporary_file_path",
    }  # fmt: skip
    public = {name for name in {*dir(file), *vars(file)} if not name.startswith("_")} - inherited - methods
    assert named | {"content_type_extra", "file"} == public | {"stream"}
