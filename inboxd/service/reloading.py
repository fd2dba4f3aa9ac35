"""Reload the settings of a running program: read and check the file, and merge it into the settings in force."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from inboxd.config.loading import load_settings, settings_from
from inboxd.config.settings import Settings
from inboxd.errors import Finding, SettingsError
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.service.preflight import require_no_problems
from inboxd.service.visibility import share_folders

RESTART_KEYS: dict[str, tuple[str, ...]] = {
    "redis": tuple(type(Settings.model_fields["redis"].default).model_fields),
    "work": ("concurrency", "lease_seconds", "silent_seconds", "stop_seconds"),
    "metrics": tuple(type(Settings.model_fields["metrics"].default).model_fields),
    "stage": tuple(type(Settings.model_fields["stage"].default).model_fields),
    "log": tuple(type(Settings.model_fields["log"].default).model_fields),
}
"""Keys, by table, that apply only after a restart: connections, pools and leases in use were created with them."""
TOP_LEVEL_RESTART_KEYS = ("state_dir", "host")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """Result of a reload: settings to apply, names of added, removed and changed inboxes, keys that need a restart."""

    settings: Settings
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def reload_settings(
    old: Settings, *, handlers: bool, folders: bool = True, retiring: frozenset[str] = frozenset()
) -> SettingsChange | None:
    """Read, check and merge the settings; log the result. Return None if they are invalid: the old ones stay in force.

    ``retiring`` names inboxes of ``old`` that an earlier reload removed, and that are kept while files are in flight.
    """
    try:
        new = load_settings()
        _require_same_root(old, new, retiring)
        change = merge_settings(old, new)
        require_no_problems(change.settings, handlers=handlers, folders=folders)
    except SettingsError as error:
        log_refusal(error)
        return None
    if folders:
        share_folders(change.settings)
    hint = "modules already imported are not imported again until a restart" if handlers else None
    _log.info(events.SETTINGS_APPLIED, added=change.added, removed=change.removed, changed=change.changed, hint=hint)
    if change.needs_restart:
        remedy = "restart to apply these keys; to change the root of an inbox, remove it and add [inbox.NEW] with the new root"
        _log.warning(events.SETTINGS_NEED_RESTART, keys=change.needs_restart, remedy=remedy)
    return change


def _require_same_root(old: Settings, new: Settings, retiring: frozenset[str]) -> None:
    findings = [
        Finding(
            f"inbox.{name}.root", f"the former root {old.inbox[name].root} has files in flight", "wait, or rename the inbox"
        )
        for name in sorted(retiring & new.inbox.keys())
        if old.inbox[name].root != new.inbox[name].root
    ]
    if findings:
        raise SettingsError(findings)


def log_refusal(error: SettingsError) -> None:
    """Log each finding of rejected settings."""
    for finding in error.findings:
        _log.error(events.SETTINGS_REJECTED, where=finding.where, problem=finding.problem, remedy=finding.remedy)


def merge_settings(old: Settings, new: Settings) -> SettingsChange:
    """Return the new settings with the old values of restart keys. Raises SettingsError if these do not fit together."""
    # with a new root, files in flight in the old root would never be filed
    inboxes = {
        name: inbox if name not in old.inbox else inbox.model_copy(update={"root": old.inbox[name].root})
        for name, inbox in new.inbox.items()
    }
    work = new.work.model_copy(update={key: getattr(old.work, key) for key in RESTART_KEYS["work"]})
    update = {"work": work, "sweep": new.sweep, "notify": new.notify, "defaults": new.defaults, "inbox": inboxes}
    return SettingsChange(
        _validate(old.model_copy(update=update)),
        added=tuple(sorted(inboxes.keys() - old.inbox.keys())),
        removed=tuple(sorted(old.inbox.keys() - inboxes.keys())),
        changed=tuple(sorted(name for name in inboxes.keys() & old.inbox.keys() if inboxes[name] != old.inbox[name])),
        needs_restart=tuple(_find_restart_keys(old, new)),
    )


def _find_restart_keys(old: Settings, new: Settings) -> Iterator[str]:
    for key in TOP_LEVEL_RESTART_KEYS:
        if getattr(old, key) != getattr(new, key):
            yield key
    for table, keys in RESTART_KEYS.items():
        yield from (f"{table}.{key}" for key in keys if getattr(getattr(old, table), key) != getattr(getattr(new, table), key))
    for name in sorted(old.inbox.keys() & new.inbox.keys()):
        if old.inbox[name].root != new.inbox[name].root:
            yield f"inbox.{name}.root"


def _validate(settings: Settings) -> Settings:
    """Return the settings after checking the dependent limits again: old and new values are mixed."""
    try:
        return deserialize(serialize(settings))
    except ValidationError as error:
        where, _, problem = error.errors()[0]["msg"].removeprefix("Value error, ").partition(": ")
        raise SettingsError([Finding(where, problem, "restart the program: the other limit applies only then")]) from None


def serialize(settings: Settings) -> bytes:
    """Return the settings as JSON, for another process of the same program."""
    # without what was not set: an inbox with a command has no handler, not even the default one
    return json.dumps(settings.model_dump(mode="json", exclude={"inbox": {"__all__": {"name"}}}, exclude_unset=True)).encode()


def deserialize(text: bytes) -> Settings:
    """Return the settings that ``serialize`` wrote; environment variables are ignored. Raises ValidationError."""
    return settings_from(lambda _cls, init, _environment: (init,))(**json.loads(text))
