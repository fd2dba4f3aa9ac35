"""What the commands share: the option that names the settings, and reading them."""

from pathlib import Path

import click

from spool.loading import FILE_VARIABLE, find, handlers_beside, load
from spool.settings import Settings

NEEDS_A_PERSON = 1
"""The exit code of a command that has found something for a person to do, or nothing of what was asked for."""

settings_option = click.option(
    "--settings",
    "named",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"The settings file; else ${FILE_VARIABLE}, ./settings.toml or /etc/inboxd/settings.toml.",
)


def read(named: Path | None) -> tuple[Path, Settings]:
    """Return the settings file and the settings; handlers beside the file can be imported then. Raises SettingsError."""
    file = find(named)
    handlers_beside(file)
    return file, load(file)
