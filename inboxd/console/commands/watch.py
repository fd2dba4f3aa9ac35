"""`inboxd watch`: run only the watcher."""

import os
import sys
from pathlib import Path

import click

from inboxd.config.loading import SETTINGS_VARIABLE
from inboxd.console.options import read_settings, settings_option


@click.command()
@settings_option
def watch(settings_file: Path | None) -> None:
    """Run only the watcher. The files are claimed, and sent to workers that run elsewhere."""
    file, _ = read_settings(settings_file)
    argv = [sys.executable, "-P", "-m", "inboxd.watcher"]
    os.execve(sys.executable, argv, {**os.environ, SETTINGS_VARIABLE: str(file)})  # noqa: S606 - no shell is needed
