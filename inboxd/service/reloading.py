"""New settings for a program at work: read, checked as at the start, and compared with those in force."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from inboxd.config.loading import load_settings, settings_from
from inboxd.config.settings import Settings
from inboxd.errors import Finding, SettingsError
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.service.preflight import require_no_problems

RESTART_KEYS: dict[str, tuple[str, ...]] = {
    "redis": tuple(type(Settings.model_fields["redis"].default).model_fields),
    "work": ("concurrency", "lease_seconds", "silent_seconds", "stop_seconds"),
    "metrics": tuple(type(Settings.model_fields["metrics"].default).model_fields),
    "log": tuple(type(Settings.model_fields["log"].default).model_fields),
}
"""Keys of tables that only a restart takes up: connections, pools and leases of what is in flight are made by them."""
TOP_LEVEL_RESTART_KEYS = ("state_dir", "host")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What a reload brings: the settings from now on, the names of inboxes, and the keys that keep their old values."""

    settings: Settings
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def reload_settings(
    old: Settings, *, handlers: bool, folders: bool = True, retiring: frozenset[str] = frozenset()
) -> SettingsChange | None:
    """Read the settings again, and log what becomes of them; None if they can't be used, and the old ones stay in force.

    ``leaving`` are inboxes of the old settings that were removed before, and are kept for what is still in flight.
    """
    try:
        new = load_settings()
        _require_same_root(old, new, retiring)
        change = merge_settings(old, new)
        require_no_problems(change.settings, handlers=handlers, folders=folders)
    except SettingsError as error:
        log_refusal(error)
        return None
    hint = "modules that are imported already stay as they are until a restart" if handlers else None
    _log.info(events.SETTINGS_APPLIED, added=change.added, removed=change.removed, changed=change.changed, hint=hint)
    if change.needs_restart:
        remedy = "restart to have them; an inbox gets another root by another name, [inbox.NEW], and the old one is removed"
        _log.warning(events.SETTINGS_NEED_RESTART, keys=change.needs_restart, remedy=remedy)
    return change


def _require_same_root(old: Settings, new: Settings, retiring: frozenset[str]) -> None:
    findings = [
        Finding(
            f"inbox.{name}.root", f"its former folder, {old.inbox[name].root}, has files in flight", "wait, or use another name"
        )
        for name in sorted(retiring & new.inbox.keys())
        if old.inbox[name].root != new.inbox[name].root
    ]
    if findings:
        raise SettingsError(findings)


def log_refusal(error: SettingsError) -> None:
    """Log every finding."""
    for finding in error.findings:
        _log.error(events.SETTINGS_REJECTED, where=finding.where, problem=finding.problem, remedy=finding.remedy)


def merge_settings(old: Settings, new: Settings) -> SettingsChange:
    """Merge new settings into those in force. Raises SettingsError where they do not fit what only a restart takes up."""
    # an inbox that moved would leave its files in flight behind, in a folder that nobody knows
    inboxes = {
        name: inbox if name not in old.inbox else inbox.model_copy(update={"root": old.inbox[name].root})
        for name, inbox in new.inbox.items()
    }
    work = new.work.model_copy(update={key: getattr(old.work, key) for key in RESTART_KEYS["work"]})
    update = {"work": work, "sweep": new.sweep, "defaults": new.defaults, "inbox": inboxes}
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
    """Check the limits that depend on each other, of what was merged from two files."""
    try:
        return deserialize(serialize(settings))
    except ValidationError as error:
        where, _, problem = error.errors()[0]["msg"].removeprefix("Value error, ").partition(": ")
        raise SettingsError([Finding(where, problem, "restart: the other limit is only taken up then")]) from None


def serialize(settings: Settings) -> bytes:
    """Return settings as text, for another process of the same program."""
    return json.dumps(settings.model_dump(mode="json", exclude={"inbox": {"__all__": {"name"}}})).encode()


def deserialize(text: bytes) -> Settings:
    """Return the settings that were frozen, whatever the environment says now. Raises ValidationError."""
    return settings_from(lambda _kind, given, _environment: (given,))(**json.loads(text))
