"""Choose the log source: files of the command line, files of the settings, the file of `inboxd up`, or the journal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inboxd.config.loading import find_settings, load_settings
from inboxd.config.settings import Settings
from inboxd.config.tables import Log
from inboxd.console.log_reading.files.log_files import FileSource
from inboxd.console.log_reading.files.rotation import rotated_files
from inboxd.console.log_reading.journalctl import JournalSource
from inboxd.console.log_reading.records import LogFilter, LogSource
from inboxd.console.systemd.install_paths import system_paths, user_paths
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
    own_file = None if selection.files or configured or selection.journal else _find_own_file(selection, settings)
    if paths := selection.files or tuple(map(Path, configured)):
        missing = [path for path in paths if not path.is_dir() and not rotated_files(path.absolute())]
        if missing:
            place = "log.files" if not selection.files else "LOGFILE"
            raise SettingsError(
                [Finding(place, f"there is no file {path}", "name a log file or its folder") for path in missing]
            )
        return FileSource(paths, notify)
    journal = JournalSource(selection.journal)
    if own_file is not None and not _is_newer(journal, own_file, selection):
        return FileSource([own_file], notify)
    if not journal.has_entries():
        file = f"there is no log.file {settings.log.file}, and " if settings and settings.log.file else ""
        problem = f"{file}{journal.where} is missing or has no readable lines of inboxd's"
        remedy = (
            "start `inboxd up`, name log files (inboxd log FILE…), set log.files, or add this user to the group systemd-journal"
        )
        raise SettingsError([Finding("log", problem, remedy)])
    return journal


def _find_own_file(selection: LogSelection, settings: Settings | None) -> Path | None:
    """Return the file that `inboxd up` writes, None if there is none; while the settings are broken, look at its default."""
    try:
        path = Path(settings.log.file) if settings else find_settings(selection.settings).parent / Log().file
    except SettingsError:
        return None
    return path if (settings is None or settings.log.file) and path.is_file() else None


def _is_newer(journal: JournalSource, file: Path, selection: LogSelection) -> bool:
    """Return whether the settings are those of installed services, and their journal is newer than the file.

    With other settings the journal's lines may be another installation's.
    """
    try:
        folder = find_settings(selection.settings).parent
    except SettingsError:
        return False
    if folder not in (system_paths().config, user_paths().config) or not journal.has_entries():
        return False
    last = journal.last(LogFilter(), 1)
    return bool(last) and last[0].at > file.stat().st_mtime


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
            finding = error.findings[0]
            why = f"{finding.where}: {finding.problem}; {finding.remedy}"
            notify(escape(f"log.files is unknown because the settings can't be read: {why}"))
        return None
