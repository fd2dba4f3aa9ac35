"""Where the log is: in files that are named, in those of the settings, or in the journal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inboxd.config.loading import find_settings, load_settings
from inboxd.config.settings import Settings
from inboxd.console.logs.files.log_files import FileSource
from inboxd.console.logs.files.rotation import rotated_files
from inboxd.console.logs.journalctl import JournalSource
from inboxd.console.logs.records import LogSource
from inboxd.errors import Finding, SettingsError
from inboxd.logs.text import escape

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LogSelection:
    """What the command line names: log files or folders of them, a journal's folder, a settings file."""

    files: tuple[Path, ...] = ()
    journal: Path | None = None
    settings: Path | None = None


def choose_source(named: LogSelection, settings: Settings | None, tell: Notice) -> LogSource:
    """Return the source of records. ``tell`` gets a sentence for each file that can't be read.

    Raises SettingsError if there is none: a file that is named does not exist, or there is no journal with lines of ours.
    """
    set_ = settings.log.files if settings is not None and named.journal is None else ()
    if paths := named.files or tuple(map(Path, set_)):
        missing = [path for path in paths if not path.is_dir() and not rotated_files(path.absolute())]
        if missing:
            where = "log.files" if not named.files else "LOGFILE"
            raise SettingsError(
                [Finding(where, f"there is no file {path}", "name a log file or its folder") for path in missing]
            )
        return FileSource(paths, tell)
    journal = JournalSource(named.journal)
    if not journal.has_entries():
        remedy = (
            "name log files (inboxd log FILE…) or set log.files; a reader of the journal must be in the group systemd-journal"
        )
        raise SettingsError([Finding("log", f"{journal.where} is not there, or no line of inboxd's in it may be read", remedy)])
    return journal


def load_settings_if_any(named: LogSelection, tell: Notice) -> Settings | None:
    """Return the settings; None where they can't be read, for a log must be readable just then.

    Raises SettingsError for a file that was named and does not exist.
    """
    if named.settings is not None:
        find_settings(named.settings)
    try:
        return load_settings(named.settings)
    except SettingsError as error:
        if not named.files and named.journal is None:
            tell(escape(f"the settings can't be read, and log.files is not known: {error.findings[0]}"))
        return None
