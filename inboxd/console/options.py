"""Options that several commands share, and the reading of the settings."""

import os
from pathlib import Path

import click

from inboxd.config.handler_import import append_settings_folder
from inboxd.config.loading import CREDENTIAL_NAME, SETTINGS_VARIABLE, find_settings, load_settings
from inboxd.config.secret_files import CREDENTIALS_VARIABLE
from inboxd.config.settings import Settings
from inboxd.console.exit_codes import EXIT_ATTENTION
from inboxd.errors import Finding, SettingsError

__all__ = [
    "EXIT_ATTENTION",
    "complete_inbox",
    "files_argument",
    "journal_option",
    "json_option",
    "read_settings",
    "require_not_empty",
    "settings_option",
]

settings_option = click.option(
    "--settings",
    "settings_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"The settings file; by default ${SETTINGS_VARIABLE}, ./settings.toml or /etc/inboxd/settings.toml.",
)

files_argument = click.argument("files", metavar="[LOGFILE]...", nargs=-1, type=click.Path(path_type=Path))
journal_option = click.option(
    "--journal", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Read a systemd journal."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def complete_inbox(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the inboxes whose names begin with the incomplete word; none if the settings can't be read."""
    try:
        settings = load_settings(find_settings(context.params.get("settings_file")))
    except SettingsError:
        return []
    return [name for name in settings.inbox if name.startswith(incomplete)]


def require_not_empty(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Return the argument. Raises click.BadParameter if it is empty, as from an unset shell variable."""
    if not text:
        raise click.BadParameter("the value is empty")
    return text


def read_settings(settings_file: Path | None, *, needs_redis: bool = False) -> tuple[Path, Settings]:
    """Return the settings file and the settings, and make handlers next to the file importable. Raises SettingsError.

    The URL of Redis may be stored next to the file, in the source of the services' credential. If it is readable, this process
    and its children use it; if not, a command that ``needs_redis`` fails with a finding.
    """
    file = find_settings(settings_file)
    append_settings_folder(file)
    url = file.parent / CREDENTIAL_NAME
    is_unread = CREDENTIALS_VARIABLE not in os.environ and url.exists()
    if is_unread and os.access(url, os.R_OK):
        os.environ[CREDENTIALS_VARIABLE] = str(file.parent)
        is_unread = False
    settings = load_settings(file)
    if is_unread and needs_redis and not settings.redis.url:
        raise SettingsError([Finding(f"redis.url ({url})", "you may not read this file", "run the command with sudo")])
    return file, settings
