"""A film of a newcomer's first ten minutes: README's commands, typed into terminals of a fresh account in a box.

What the terminals showed is in build/first-ten-minutes.txt afterwards.
"""

import re
import subprocess
from collections.abc import Iterator

import pytest
from support.boxes.box import Box
from support.boxes.terminal import PROMPT, Terminal
from support.repository import REPOSITORY

pytestmark = pytest.mark.systemd

HOME = "/home/alice"
CHECKOUT = f"{HOME}/inboxd"
FILM = REPOSITORY / "build" / "first-ten-minutes.txt"
PIP = """\
[global]
no-index = true
find-links = /mnt/wheels
"""
SECTION = re.compile(r"^## The first ten minutes$(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EXPECTED: dict[str, tuple[int, str]] = {
    ". .venv/bin/activate": (0, r"\A\Z"),
    "cp README.md LICENSE drop/inbox/": (0, r"\A\Z"),
    "inboxd status": (0, r"drop +.*\b2\b"),
    "inboxd log": (0, r"README\.md.*\n(?:.*\n)*.*LICENSE|LICENSE.*\n(?:.*\n)*.*README\.md"),
    "inboxd trace README.md": (0, r"claimed(?:.*\n)+.*handled(?:.*\n)+.*done"),
    "inboxd explain drop/done/LICENSE": (0, r"drop: done/LICENSE: done"),
    "inboxd audit": (0, r"2 arrived = 2 done .*\n(?:.*\n)*.*every file is accounted for"),
    "inboxd check": (0, r"."),
    "ln -s LICENSE drop/inbox/link": (0, r"\A\Z"),
    "cat drop/failed/link.error.txt": (0, r"link was not accepted(?:.*\n)+.*inboxd note: "),
    "inboxd init mydrop": (0, r"inboxd check(?:.*\n)+.*inboxd up"),
    "cd mydrop": (0, r"\A\Z"),
    "inboxd try --inbox drop ../LICENSE": (0, r"would go to done/"),
}
"""For each command of the section its exit code, and what it prints."""

FILED = {"cp README.md LICENSE drop/inbox/": "done", "ln -s LICENSE drop/inbox/link": "failed"}
"""Commands after which two files come into a folder, before the next one is typed."""


def count(box: Box, folder: str) -> int:
    """Return the number of entries of an inbox's folder."""
    return len(list(box.path(f"{CHECKOUT}/drop/{folder}").iterdir()))


def commands() -> list[str]:
    """Return the commands of README's section, in order, without their comments."""
    section = SECTION.search((REPOSITORY / "README.md").read_text("utf-8"))
    assert section is not None
    lines = [line for block in BLOCK.findall(section[1]) for line in block.splitlines()]
    return [command for line in lines if (command := re.sub(r"\s+#\s.*", "", line).strip())]


@pytest.fixture
def newcomer(empty_box: Box) -> Iterator[Box]:
    """Give alice a fresh checkout, and pip the packages that lie in the box."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    empty_box.path(CHECKOUT).mkdir()
    archive = subprocess.run(["tar", "--null", "-T", "-", "-c"], cwd=REPOSITORY, input=names, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(empty_box.path(CHECKOUT))], input=archive.stdout, check=True)
    empty_box.run("chown", "-R", "alice:", CHECKOUT)
    empty_box.path("/etc/pip.conf").write_text(PIP)
    return empty_box


def test_each_command_of_the_readme_answers_with_something_useful(newcomer: Box) -> None:
    first, *others = commands()
    up = Terminal(newcomer, "alice", CHECKOUT, "up")

    assert first == "make run"
    up.begin(first)
    up.wait_until(lambda: "Ctrl-C stops inboxd" in up.screen(), 300.0, goal="inboxd is up")
    terminal = Terminal(newcomer, "alice", CHECKOUT, "commands")
    film = []
    for command in others:
        code, shown = terminal.type(command)
        film.append(f"$ {command}\n{shown}\n[{code}]\n")
        wanted = EXPECTED[command]
        assert (code, bool(re.search(wanted[1], shown))) == (wanted[0], True), "".join(film)
        if folder := FILED.get(command):
            newcomer.wait_until(lambda: count(newcomer, folder) == 2, goal=f"2 files are in {folder}/")
    assert set(others) == set(EXPECTED)
    up.press("C-c")
    up.wait_until(lambda: PROMPT.search(up.screen()), goal="inboxd has stopped")
    assert re.search(r"README\.md .*done\n(?:.*\n)*.*link refused(?:.*\n)*.*stopped", up.screen())
    FILM.write_text("".join(film) + "\n" + up.screen(), "utf-8")
