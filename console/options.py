"""Options that several commands have."""

from pathlib import Path

import click

from spool.loading import FILE_VARIABLE

settings_option = click.option(
    "--settings",
    "named",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"The settings file; else ${FILE_VARIABLE}, ./settings.toml or /etc/inboxd/settings.toml.",
)
