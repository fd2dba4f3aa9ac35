"""`inboxd up`: everything in one terminal."""

import sys
from pathlib import Path

import click

from inboxd.console.options import read_settings, settings_option
from inboxd.console.up.up import up as bring_up


@click.command()
@settings_option
def up(named: Path | None) -> None:
    """Run everything in this terminal, with a server of its own if there is none. Ctrl-C stops it."""
    file, settings = read_settings(named)
    sys.exit(bring_up(settings, file))
