"""The first minutes: `inboxd init`, and every command that it prints, word for word in a shell."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.repository import REPOSITORY
from support.waiting import PROGRAM_SECONDS

from inboxd.config.loading import SETTINGS_VARIABLE

pytestmark = pytest.mark.live

VERBS = ("check", "try", "pytest", "up", "cp")


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in (SETTINGS_VARIABLE, "PYTHONPATH")}


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("name", ["project", "it's a new project"])
def test_every_command_that_init_prints_works_as_it_is_printed(name: str, tmp_path: Path) -> None:
    made = shell(f'{REPOSITORY}/.venv/bin/inboxd init "{name}"', tmp_path)
    cd, *commands = [line.strip() for line in made.stdout.partition("Next:\n")[2].splitlines()]
    by_verb = {verb: line for line in commands for verb in VERBS if f" {verb} " in f" {line.partition('#')[0]}"}
    folder = tmp_path / name

    check, tried, tested = (shell(f"{cd}\n{by_verb[verb]}", tmp_path) for verb in ("check", "try", "pytest"))

    assert (made.returncode, check.returncode, tried.returncode, tested.returncode) == (0, 0, 0, 0), (check, tried, tested)
    assert "inbox drop: ok" in check.stdout
    assert "would go to done/" in tried.stdout
    assert "2 passed" in tested.stdout

    with (tmp_path / "up.log").open("wb") as log:
        up = subprocess.Popen(
            ["bash", "-c", f"{cd}\nexec {by_verb['up']}"], cwd=tmp_path, env=environment(), stdout=log, stderr=log
        )
        try:
            assert eventually(lambda: b"Ctrl-C stops inboxd" in (tmp_path / "up.log").read_bytes())
            assert shell(f"{cd}\n{by_verb['cp']}", tmp_path).returncode == 0
            is_done = eventually((folder / "drop/done/settings.toml").exists)
        finally:
            up.send_signal(signal.SIGINT)
            code = up.wait(60)

    assert (is_done, code) == (True, 0), (tmp_path / "up.log").read_text()
    assert (folder / "drop/done/settings.toml").read_bytes() == (folder / "settings.toml").read_bytes()
