"""Load and check the settings. Precedence: defaults < settings.toml < credential < environment < command line."""

import os
import re
import socket
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    PydanticBaseSettingsSource as Source,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from inboxd.config.findings import suggest, to_findings
from inboxd.config.handler_kinds import FILES, ProgramKeys
from inboxd.config.secret_files import CREDENTIALS_VARIABLE
from inboxd.config.settings import Settings
from inboxd.config.strict_modes import STRICT_MODES_VARIABLE, require_trusted
from inboxd.config.tables import Log
from inboxd.config.values import NOTE_LANGUAGES
from inboxd.errors import Finding, SettingsError

SETTINGS_VARIABLE = "INBOXD_SETTINGS"
ENVIRONMENT_PREFIX = "INBOXD_"
CREDENTIAL_NAME = "redis-url"
LOG_PIPE_VARIABLE = "INBOXD_LOG_PIPE"
"""`inboxd up` sets it for its programs: device and inode of the pipe for their log lines."""
_NO_SETTINGS = (SETTINGS_VARIABLE, STRICT_MODES_VARIABLE, LOG_PIPE_VARIABLE)
"""Variables that begin with the prefix and set no key."""
FILE_PREFIX = "INBOXD_FILE_"
"""Begins the variables by which a command is told of its file: it may call `inboxd` itself."""
DEFAULT_FILES = (Path("settings.toml"), Path("/etc/inboxd/settings.toml"))

Sources = tuple[Source, ...]


def find_settings(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file: ``path``, else $INBOXD_SETTINGS, else ./settings.toml, else /etc/inboxd/settings.toml.

    For root the current folder does not count: it may be one in which others have put a file. Raises SettingsError if there is
    no such file.
    """
    candidates = DEFAULT_FILES if os.geteuid() else DEFAULT_FILES[1:]
    file = path or (Path(environment[SETTINGS_VARIABLE]) if environment.get(SETTINGS_VARIABLE) else None)
    if file is None:
        file = next((candidate for candidate in candidates if _is_file(candidate)), None)
    if file is None:
        raise SettingsError([_describe_missing_settings(candidates)])
    if not _is_file(file):
        raise SettingsError([Finding(str(file), "is not a file", "name an existing settings file, or make one: inboxd init")])
    return file.absolute()


def _describe_missing_settings(candidates: tuple[Path, ...]) -> Finding:
    problem = f"no file found (tried {' and '.join(map(str, candidates))})"
    if not os.geteuid() and _is_file(DEFAULT_FILES[0]):
        problem += f"; for root, ./{DEFAULT_FILES[0]} does not count, since others may have put it there"
        return Finding(
            "settings", problem, f"name it: --settings {DEFAULT_FILES[0]}, or {SETTINGS_VARIABLE}={DEFAULT_FILES[0]}"
        )
    return Finding("settings", problem, f"make one: inboxd init; or name one with --settings FILE or {SETTINGS_VARIABLE}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        remedy = "give the service's user execute permission on its folder"
        raise SettingsError([Finding(str(path), f"can't be accessed: {error.strerror}", remedy)]) from None


def settings_from(choose: Callable[[type[BaseSettings], Source, Source], Sources]) -> type[Settings]:
    """Return a Settings class that reads ``choose(cls, init_source, environment_source)``, highest precedence first."""

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: Source,
            env_settings: Source,
            dotenv_settings: Source,
            file_secret_settings: Source,
        ) -> Sources:
            del dotenv_settings, file_secret_settings
            return choose(settings_cls, init_settings, env_settings)

    return Sourced


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:  # noqa: ANN401 - pydantic checks them
    """Read, merge and check the settings; resolve relative paths against the settings file's folder.

    ``overrides`` are keys from the command line.
    Raises SettingsError, which names each key, its value, where it was set, and the remedy.
    """
    file = find_settings(path)
    require_trusted(file)
    credential = read_credential()

    def choose(cls: type[BaseSettings], init: Source, environment: Source) -> Sources:
        from_credential = InitSettingsSource(cls, {"redis": {"url": credential[1]}} if credential else {})
        return init, environment, from_credential, TomlConfigSettingsSource(cls, toml_file=file)

    if unknown := list(_find_unknown_variables(os.environ)):
        raise SettingsError(unknown)
    try:
        settings = settings_from(choose)(**overrides)
    except UnicodeDecodeError as error:
        raise SettingsError([Finding(str(file), f"is not UTF-8: {error}", "save the file as UTF-8")]) from None
    except OSError as error:
        raise SettingsError([Finding(str(file), f"can't be read: {error.strerror}", "make the file readable")]) from None
    except SourceError as error:
        raise SettingsError(list(_find_unparsable_variables(str(error)))) from None
    except ValidationError as error:
        raise SettingsError(list(to_findings(error, lambda loc: _name_source(loc, file, overrides)))) from None
    except (ValueError, RecursionError) as error:  # tomllib's error, but also a number of thousands of digits
        raise SettingsError([_describe_syntax_error(file, error)]) from None
    return _resolve_paths(settings, file.parent)


def _describe_syntax_error(file: Path, error: Exception) -> Finding:
    if file.read_bytes().startswith(BOM_UTF8):
        problem = "begins with a byte order mark, which TOML does not allow"
        return Finding(str(file), problem, "save the file as UTF-8 without one")
    return Finding(str(file), f"is not valid TOML: {error}", "correct that line")


def read_credential(environment: Mapping[str, str] = os.environ) -> tuple[Path, str] | None:
    """Return path and text of the credential that holds the Redis URL, or None if it is missing or empty.

    Raises SettingsError if it can't be read or is not one URL; the message never contains the text, which is secret.
    """
    folder = environment.get(CREDENTIALS_VARIABLE)
    if not folder:
        return None
    path = Path(folder) / CREDENTIAL_NAME
    try:
        text = path.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Finding(f"redis.url ({path})", f"can't be read: {error}", "write one URL into it")]) from None
    if re.search(r"\s|\x00", text):
        remedy = "write one redis://, rediss:// or unix:// URL into the file, or empty it"
        raise SettingsError([Finding(f"redis.url ({path})", "has more than one line or word", remedy)])
    return (path, text) if text else None


def _resolve_paths(settings: Settings, base: Path) -> Settings:
    """Return the settings with absolute paths and, as the default of ``host``, this machine's host name."""

    def absolute(path: PurePath) -> PurePath:
        return PurePath(os.path.normpath(base / path))

    def notes_folder(notes: str) -> str:
        return notes if notes in NOTE_LANGUAGES else str(absolute(PurePath(notes)))

    def program_paths(keys: ProgramKeys) -> dict[str, object]:
        files = {key: _absolute_if_set(getattr(keys, key), base) for key in FILES}
        return {"command": _absolute_program(keys.command, absolute), **files}

    return settings.model_copy(
        update={
            "state_dir": absolute(settings.state_dir),
            "host": settings.host or socket.gethostname(),
            "work": settings.work.model_copy(update={"writable": tuple(map(absolute, settings.work.writable))}),
            "notify": settings.notify.model_copy(update={"urls_file": _absolute_if_set(settings.notify.urls_file, base)}),
            "stage": settings.stage.model_copy(update={"secret_file": _absolute_if_set(settings.stage.secret_file, base)}),
            "log": settings.log.model_copy(update=_absolute_log_paths(settings.log, absolute)),
            "inbox": {
                name: inbox.model_copy(
                    update={
                        "root": absolute(inbox.root),
                        "notes": notes_folder(inbox.notes),
                        "out": inbox.out if inbox.next_inbox else _absolute_if_set(inbox.out, base),
                        **program_paths(inbox),
                        "steps": tuple(step.model_copy(update=program_paths(step)) for step in inbox.steps),
                    }
                )
                for name, inbox in settings.inbox.items()
            },
            "web": settings.web.model_copy(update={"password_file": _absolute_if_set(settings.web.password_file, base)}),
        }
    )


def _absolute_log_paths(log: Log, absolute: Callable[[PurePath], PurePath]) -> dict[str, object]:
    file = str(absolute(PurePath(log.file))) if log.file else ""
    return {"file": file, "files": tuple(map(absolute, log.files))}


def _absolute_program(command: tuple[str, ...], absolute: Callable[[PurePath], PurePath]) -> tuple[str, ...]:
    """Return a command whose program has an absolute path, unless it is a name that is looked for in $PATH."""
    if command and "/" in command[0]:
        return str(absolute(Path(command[0]).expanduser())), *command[1:]
    return command


def _absolute_if_set(path: str, base: Path) -> str:
    return os.path.normpath(base / Path(path).expanduser()) if path else ""


def _find_unknown_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each INBOXD_ variable that names no key; pydantic-settings would ignore it silently."""
    known_keys = list(Settings.model_fields)
    for variable in environment:
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable.startswith(FILE_PREFIX) or variable in _NO_SETTINGS:
            continue
        table = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower()
        if table not in known_keys:
            yield Finding(variable, "is not a known setting", suggest(table, known_keys, "unset it"))


def _find_unparsable_variables(message: str) -> Iterator[Finding]:
    """Yield a finding for each environment variable of the key that pydantic-settings could not parse as JSON."""
    field = re.search(r'field "(\w+)"', message)
    prefix = ENVIRONMENT_PREFIX + (field[1].upper() if field else "")
    where = ", ".join(sorted(name for name in os.environ if name.upper().startswith(prefix))) or "environment"
    yield Finding(where, "is not JSON", 'write lists and tables in variables as JSON: ["*.pdf"]')


def _name_source(loc: tuple[str, ...], file: Path, overrides: Mapping[str, Any]) -> str:
    """Return where a key was set: "command line", the environment variable, the credential file, or the settings file."""
    if loc[:1] and loc[0] in overrides:
        return "command line"
    names = {name.upper(): name for name in os.environ}
    for length in range(len(loc), 0, -1):
        variable = ENVIRONMENT_PREFIX + "__".join(part.upper() for part in loc[:length])
        if variable in names:
            return names[variable]
    if loc[:1] == ("redis",) and loc[1:] in ((), ("url",)) and (credential := read_credential()):
        return str(credential[0])
    return str(file)
