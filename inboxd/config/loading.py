"""Reading the settings: defaults < settings.toml < credential < environment < command line, and what is wrong."""

import difflib
import os
import re
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ValidationError
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

from inboxd.config.settings import Inbox, Log, Metrics, Redis, Rules, Settings, Sweep, Work
from inboxd.errors import Finding, SettingsError

SETTINGS_VARIABLE = "INBOXD_SETTINGS"
ENVIRONMENT_PREFIX = "INBOXD_"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what LoadCredential= names; readable for this service alone."""
CREDENTIAL_NAME = "redis-url"
DEFAULT_FILES = (Path("settings.toml"), Path("/etc/inboxd/settings.toml"))

Sources = tuple[Source, ...]

_TABLES: dict[str, type[BaseModel]] = {
    "redis": Redis,
    "work": Work,
    "sweep": Sweep,
    "log": Log,
    "metrics": Metrics,
    "defaults": Rules,
}


def find_settings(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file: the one named, else $INBOXD_SETTINGS, else ./settings.toml, else /etc/inboxd/.

    Raises SettingsError when there is none.
    """
    named = path or (Path(environment[SETTINGS_VARIABLE]) if environment.get(SETTINGS_VARIABLE) else None)
    if named is None:
        named = next((candidate for candidate in DEFAULT_FILES if _is_file(candidate)), None)
    if named is None:
        looked = " and ".join(map(str, DEFAULT_FILES))
        raise SettingsError(
            [
                Finding(
                    "settings", f"no file found (looked for {looked})", f"name one with --settings FILE or {SETTINGS_VARIABLE}"
                )
            ]
        )
    if not _is_file(named):
        raise SettingsError([Finding(str(named), "is not a file", "name an existing settings file, or create it")])
    return named.absolute()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        remedy = "let the service's user enter its folder"
        raise SettingsError([Finding(str(path), f"can't be looked at: {error.strerror}", remedy)]) from None


def settings_from(choose: Callable[[type[BaseSettings], Source, Source], Sources]) -> type[Settings]:
    """Return settings from the sources that ``pick`` chooses, given the class, the caller's keys and the environment's."""

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
    """Read, merge and check the settings.

    Relative paths in them count from the settings file's folder. ``overrides`` are the command line's keys.
    Raises SettingsError, which names each key, its value, where it was set, and the remedy.
    """
    file = find_settings(path)
    secret = read_credential()

    def pick(kind: type[BaseSettings], given: Source, environment: Source) -> Sources:
        credential = InitSettingsSource(kind, {"redis": {"url": secret[1]}} if secret else {})
        return given, environment, credential, TomlConfigSettingsSource(kind, toml_file=file)

    try:
        unknown = list(_find_unknown_variables(os.environ))
        if unknown:
            raise SettingsError(unknown)
        settings = settings_from(pick)(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([Finding(str(file), f"is not valid TOML: {error}", "mend the line that is named")]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([Finding(str(file), f"is not UTF-8: {error}", "save it as UTF-8")]) from None
    except OSError as error:
        raise SettingsError([Finding(str(file), f"can't be read: {error.strerror}", "make it readable")]) from None
    except SourceError as error:
        raise SettingsError([Finding("environment", str(error), "write lists and tables in variables as JSON")]) from None
    except ValidationError as error:
        raise SettingsError(list(_to_findings(error, lambda loc: _name_source(loc, file, overrides)))) from None
    return _resolve_paths(settings, file.parent)


def read_credential(environment: Mapping[str, str] = os.environ) -> tuple[Path, str] | None:
    """Return the file and the text of the credential that holds Redis' URL; None when there is none, or nothing in it.

    Raises SettingsError, without the text, for one that can't be a URL.
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
        raise SettingsError([Finding(f"redis.url ({path})", f"can't be read: {error}", "give it one line of text")]) from None
    if re.search(r"\s|\x00", text):
        remedy = "leave one line in it, or none: redis://, rediss:// or unix://"
        raise SettingsError([Finding(f"redis.url ({path})", "is more than one URL", remedy)])
    return (path, text) if text else None


def _resolve_paths(settings: Settings, base: Path) -> Settings:
    """Make every path absolute and name the host."""
    inboxes = {
        name: inbox.model_copy(update={"root": PurePath(os.path.normpath(base / inbox.root))})
        for name, inbox in settings.inbox.items()
    }
    return settings.model_copy(
        update={
            "state_dir": PurePath(os.path.normpath(base / settings.state_dir)),
            "host": settings.host or socket.gethostname(),
            "log": settings.log.model_copy(
                update={"files": tuple(PurePath(os.path.normpath(base / file)) for file in settings.log.files)}
            ),
            "inbox": inboxes,
        }
    )


def _find_unknown_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Find INBOXD_ variables that name no key: pydantic-settings would pass over them in silence."""
    known = list(Settings.model_fields)
    for variable in environment:
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == SETTINGS_VARIABLE:
            continue
        table = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower()
        if table not in known:
            yield Finding(variable, "is no setting", _suggest(table, known, "unset it"))


def _to_findings(error: ValidationError, source: Callable[[tuple[str, ...]], str]) -> Iterator[Finding]:
    """Turn pydantic's errors into findings, one for each key; what is wrong in [defaults] is told once."""
    blamed_on_defaults = {_key_of(e["loc"])[1:] for e in error.errors() if e["loc"][:1] == ("defaults",)}
    told: set[tuple[str, ...]] = set()
    for details in error.errors():
        loc = _key_of(details["loc"])
        if loc in told or (loc[:1] == ("inbox",) and loc[2:] in blamed_on_defaults):
            continue
        if loc:
            told.add(loc)
            yield _to_finding(details["type"], loc, details["msg"], details["input"], source(loc))
        else:  # a limit that depends on another names its key itself
            where, _, problem = details["msg"].removeprefix("Value error, ").partition(": ")
            yield Finding(f"{where} ({source(())})", problem, "change one of the two")


def _key_of(loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the settings key that an error is about, without what pydantic adds of unions and lists."""
    parts = tuple(str(part) for part in loc if part != "[key]")
    return parts[: 3 if parts[:1] == ("inbox",) else 2]


def _to_finding(kind: str, loc: tuple[str, ...], message: str, value: object, source: str) -> Finding:
    key = ".".join(loc)
    if kind == "extra_forbidden" or loc[2:] == ("name",):
        return Finding(f"{key} ({source})", "is no setting", _suggest(loc[-1], _known_keys(loc), "remove it"))
    if kind == "missing":
        return Finding(f"{key} ({source})", "is missing", "set it")
    problem = message.removeprefix("Value error, ")
    return Finding(f"{key} = {str(value)[:200]!r} ({source})", problem, f"set {key} to a value that fits")


def _name_source(loc: tuple[str, ...], file: Path, overrides: Mapping[str, Any]) -> str:
    """Name where a key was set: the command line, the environment variable that overrides it, or the file."""
    if loc[:1] and loc[0] in overrides:
        return "command line"
    names = {name.upper(): name for name in os.environ}
    for length in range(len(loc), 0, -1):
        variable = ENVIRONMENT_PREFIX + "__".join(part.upper() for part in loc[:length])
        if variable in names:
            return names[variable]
    if loc[:1] == ("redis",) and loc[1:] in ((), ("url",)) and (secret := read_credential()):
        return str(secret[0])
    return str(file)


def _known_keys(loc: tuple[str, ...]) -> list[str]:
    if len(loc) == 1:
        return list(Settings.model_fields)
    if loc[0] == "inbox":
        return [key for key in Inbox.model_fields if key != "name"]
    return list(_TABLES[loc[0]].model_fields) if loc[0] in _TABLES else []


def _suggest(key: str, known: list[str], otherwise: str) -> str:
    """Suggest the nearest known key; units are often forgotten, so a known key that begins alike counts too."""
    near = difflib.get_close_matches(key, known, n=1) or [k for k in known if re.match(rf"{re.escape(key)}_", k)]
    return f"did you mean {near[0]}?" if near else f"{otherwise}; the keys are {', '.join(known)}"
