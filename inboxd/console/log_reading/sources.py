"""Choose the log source: files of the command line, files of the settings, or the journal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inboxd.config.loading import find_settings, load_settings
from inboxd.config.settings import Settings
from inboxd.console.log_reading.files.log_files import FileSource
from inboxd.console.log_reading.files.rotation import rotated_files
from inboxd.console.log_reading.journalctl import JournalSource
from inboxd.console.log_reading.records import LogSource
from inboxd.errors import Finding, SettingsError
from inboxd.logs.text import escape

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LogSelection:
    """The command line's log files or folders of them, journal folder and settings file."""

    files: tuple[Path, ...] = ()
    journal: Path | None = None
    settings: Path | None = None


def choose_source(selection: LogSelection, settings: Settings | None, notify: Notice) -> LogSource:
    """Return the source of records, which reports each unreadable file to ``notify``.

    Raises SettingsError if a log file does not exist, or the journal has no readable entries of inboxd's.
    """
    configured = settings.log.files if settings is not None and selection.journal is None else ()
    if paths := selection.files or tuple(map(Path, configured)):
        missing = [path for path in paths if not path.is_dir() and not rotated_files(path.absolute())]
        if missing:
            place = "log.files" if not selection.files else "LOGFILE"
            raise SettingsError(
                [Finding(place, f"there is no file {path}", "name a log file or its folder") for path in missing]
            )
        return FileSource(paths, notify)
    journal = JournalSource(selection.journal)
    if not journal.has_entries():
        remedy = "name log files (inboxd log FILE…), set log.files, or add this user to the group systemd-journal"
        raise SettingsError([Finding("log", f"{journal.where} is missing or has no readable lines of inboxd's", remedy)])
    return journal


def load_settings_if_any(selection: LogSelection, notify: Notice) -> Settings | None:
    """Return the settings; None if they can't be read: the log must be readable while the settings are broken.

    Raises SettingsError if the selection's settings file does not exist.
    """
    if selection.settings is not None:
        find_settings(selection.settings)
    try:
        return load_settings(selection.settings)
    except SettingsError as error:
        if not selection.files and selection.journal is None:
            notify(escape(f"log.files is unknown because the settings can't be read: {error.findings[0]}"))
        return None
