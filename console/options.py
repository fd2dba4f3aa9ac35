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

files_argument = click.argument("files", metavar="[LOGFILE]...", nargs=-1, type=click.Path(path_type=Path))
journal_option = click.option(
    "--journal", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Read a journal's files."
)
json_option = click.option("--json", "in_json", is_flag=True, help="Print JSON.")


def not_empty(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Refuse an empty argument, such as a shell's variable that is not set. Raises click.BadParameter."""
    if not text:
        raise click.BadParameter("it is empty")
    return text


def read(named: Path | None) -> tuple[Path, Settings]:
    """Return the settings file and the settings; handlers beside the file can be imported then. Raises SettingsError."""
    file = find(named)
    handlers_beside(file)
    return file, load(file)
