"""`inboxd watch`: the watcher alone."""

import os
import sys
from pathlib import Path

import click

from inboxd.config.loading import SETTINGS_VARIABLE
from inboxd.console.options import read_settings, settings_option


@click.command()
@settings_option
def watch(named: Path | None) -> None:
    """Run the watcher alone: it takes files in, and leaves the work to workers that run elsewhere."""
    file, _ = read_settings(named)
    argv = [sys.executable, "-P", "-m", "inboxd.watcher"]
    os.execve(sys.executable, argv, {**os.environ, SETTINGS_VARIABLE: str(file)})  # noqa: S606 - no shell is wanted
