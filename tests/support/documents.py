"""The blocks of a page of docs/, and what a shell prints for its console lines."""

import os
import re
import subprocess
import sys
from pathlib import Path

from support.repository import REPOSITORY
from support.waiting import PROGRAM_SECONDS


def read_page(name: str) -> str:
    """Return the text of a page of docs/."""
    return (REPOSITORY / "docs" / name).read_text("utf-8")


def find_blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def name_files(blocks: list[tuple[str, str]]) -> dict[str, str]:
    """Return the blocks of Python and TOML by the name of the file in their first line."""
    return {block.split()[1].rstrip(","): block for language, block in blocks if language in ("python", "toml")}


def find_sessions(blocks: list[tuple[str, str]]) -> list[list[str]]:
    """Return the steps of each console block: a command, and in the next lines what it prints."""
    return [block.split("$ ")[1:] for language, block in blocks if language == "console"]


def check_step(step: str, folder: Path, **variables: str) -> None:
    """Run a step's command in a folder; fail unless it prints what the page says. Times may differ."""
    command, _, expected = step.partition("\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider", **variables}
    shell = ["bash", "-c", command]
    done = subprocess.run(
        shell, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
    )
    printed, promised = (_without_times(text).rstrip("\n") for text in (done.stdout, expected))
    assert printed == promised, f"{printed!r} instead of {promised!r}\n{done.stderr}"


def _without_times(output: str) -> str:
    return re.sub(r"\d+\.\d+ ?s\b", "TIME", output)
