"""`inboxd up`: run all programs in one terminal."""

import sys
from pathlib import Path

import click

from inboxd.console.options import read_settings, settings_option
from inboxd.console.up.up import up as bring_up


@click.command()
@settings_option
def up(settings_file: Path | None) -> None:
    """Run all programs in this terminal. A Redis server is started if none is running. Ctrl-C stops them."""
    file, settings = read_settings(settings_file)
    sys.exit(bring_up(settings, file))
