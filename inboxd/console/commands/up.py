"""`inboxd up`: run all programs in one terminal."""

import sys
from pathlib import Path

import click

from inboxd.console.options import read_settings, settings_option
from inboxd.console.up.up import up as bring_up


@click.command()
@settings_option
@click.option("-v", "--verbose", is_flag=True, help="Show all lines of the log, not one for each file when it ends.")
def up(settings_file: Path | None, verbose: bool) -> None:
    """Run all programs in this terminal. A Redis server is started if none is running. Ctrl-C stops them.

    A terminal shows one line for each file when it ends, and warnings; if many files end at once, their progress. All lines
    of the log are in log.file (see `inboxd log`). Where stderr is no terminal, they are also written there, as JSON.
    """
    file, settings = read_settings(settings_file)
    sys.exit(bring_up(settings, file, verbose=verbose))
