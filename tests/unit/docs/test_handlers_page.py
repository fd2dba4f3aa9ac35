"""Every block of docs/handlers.md: modules and settings in one project, commands in a shell, with what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import REPOSITORY
from support.waiting import PROGRAM_SECONDS

from inboxd import InboxFile

PAGE = (REPOSITORY / "docs/handlers.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [block.split("$ ")[1:] for language, block in BLOCKS if language == "console"]
FILES = {block.split()[1].rstrip(","): block for language, block in BLOCKS if language in ("python", "toml")}


def without_times(output: str) -> str:
    return re.sub(r"\d+\.\d+ ?s\b", "TIME", output)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "march.csv").write_text("amount,by\n10,a\n20.5,b\n")
    return folder


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block[0].split("\n")[0])
def test_each_command_of_the_page_prints_what_the_page_says(block: list[str], project: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    for step in block:
        command, _, expected = step.partition("\n")

        done = subprocess.run(
            ["bash", "-c", command],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROGRAM_SECONDS,
        )

        assert without_times(done.stdout) == without_times(expected), done.stderr


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
    used = " ".join(command for block in COMMANDS for command in block) + " settings.toml"

    assert {language for language, _ in BLOCKS} == {"python", "toml", "console"}
    assert [name for name in FILES if name.removesuffix(".py") not in used] == []
    assert len(FILES) == sum(language in ("python", "toml") for language, _ in BLOCKS)


def test_the_table_of_attributes_names_only_what_an_inbox_file_has_and_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    table = PAGE.partition("| attribute |")[2].partition("\n\n")[0]
    named = {name for row in table.split("\n")[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    file = InboxFile.of(tmp_path / "a")

    inherited = {*dir(type(file).__mro__[1])}
    methods = {"as_django", "as_starlette", "chunks", "multiple_chunks", "of", "open", "save", "temporary_file_path"}
    public = {name for name in {*dir(file), *vars(file)} if not name.startswith("_")} - inherited - methods
    assert named | {"content_type_extra", "file"} == public | {"stream"}
