"""What the commands share: the option that names the settings, and reading them."""

import os
from pathlib import Path

import click

from inboxd.config.handler_import import append_settings_folder
from inboxd.config.loading import CREDENTIAL_NAME, CREDENTIALS_VARIABLE, SETTINGS_VARIABLE, find_settings, load_settings
from inboxd.config.settings import Settings
from inboxd.errors import Finding, SettingsError

EXIT_ATTENTION = 1
"""The exit code of a command that has found something for a person to do, or nothing of what was asked for."""

settings_option = click.option(
    "--settings",
    "named",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"The settings file; else ${SETTINGS_VARIABLE}, ./settings.toml or /etc/inboxd/settings.toml.",
)

files_argument = click.argument("files", metavar="[LOGFILE]...", nargs=-1, type=click.Path(path_type=Path))
journal_option = click.option(
    "--journal", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Read a journal's files."
)
json_option = click.option("--json", "in_json", is_flag=True, help="Print JSON.")


def require_not_empty(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Refuse an empty argument, such as a shell's variable that is not set. Raises click.BadParameter."""
    if not text:
        raise click.BadParameter("it is empty")
    return text


def read_settings(settings_file: Path | None, *, needs_redis: bool = False) -> tuple[Path, Settings]:
    """Return the settings file and the settings; handlers beside the file can be imported then. Raises SettingsError.

    Redis' URL may lie beside the file, where the services' credential is made from: who may read that is let in, and who may
    not is told so, if the command ``asks_redis``. What is started from here finds it, too.
    """
    file = find_settings(settings_file)
    append_settings_folder(file)
    url = file.parent / CREDENTIAL_NAME
    unread = CREDENTIALS_VARIABLE not in os.environ and url.exists()
    if unread and os.access(url, os.R_OK):
        os.environ[CREDENTIALS_VARIABLE] = str(file.parent)
        unread = False
    settings = load_settings(file)
    if unread and needs_redis and not settings.redis.url:
        raise SettingsError([Finding(f"redis.url ({url})", "you may not read it", "put sudo before the command")])
    return file, settings
