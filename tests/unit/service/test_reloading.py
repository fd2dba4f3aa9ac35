"""Merging new settings into old ones: added, removed and changed inboxes, and keys that need a restart."""

from pathlib import Path, PurePath
from typing import Any

import pytest
import structlog

from inboxd.config.settings import Settings
from inboxd.errors import SettingsError
from inboxd.logs import events
from inboxd.service.reloading import RESTART_KEYS, deserialize, merge_settings, reload_settings, serialize


def settings(*, inbox: dict[str, dict[str, Any]] | None = None, **tables: object) -> Settings:
    inboxes = {name: {"root": f"/srv/{name}", **rules} for name, rules in (inbox or {"drop": {}}).items()}
    return Settings(inbox=inboxes, **tables)


def test_inboxes_are_added_changed_and_removed() -> None:
    old = settings(inbox={"a": {}, "b": {"retries": 1}, "c": {}})

    change = merge_settings(old, settings(inbox={"b": {"retries": 2}, "c": {}, "d": {}}))

    assert (change.added, change.removed, change.changed, change.needs_restart) == (("d",), ("a",), ("b",), ())
    assert set(change.settings.inbox) == {"b", "c", "d"}
    assert change.settings.inbox["b"].retries == 2


def test_new_defaults_change_each_inbox_that_does_not_override_them() -> None:
    old = settings(inbox={"a": {}, "b": {"retries": 1}})

    change = merge_settings(old, settings(inbox={"a": {}, "b": {"retries": 1}}, defaults={"retries": 7}))

    assert change.changed == ("a",)
    assert change.settings.inbox["a"].retries == 7


def test_whom_to_notify_applies_without_a_restart() -> None:
    new = settings(notify={"urls": ["json://example.org/"], "every": "1m"})

    change = merge_settings(settings(), new)

    assert (change.settings.notify, change.needs_restart) == (new.notify, ())


@pytest.mark.parametrize(
    ("key", "tables"),
    [
        ("host", {"host": "other"}),
        ("state_dir", {"state_dir": "/elsewhere"}),
        ("redis.url", {"redis": {"url": "redis://elsewhere"}}),
        ("redis.visibility_timeout_seconds", {"redis": {"visibility_timeout_seconds": 7200}}),
        ("work.concurrency", {"work": {"concurrency": 3}}),
        ("work.lease_seconds", {"work": {"lease_seconds": 30.0}}),
        ("log.level", {"log": {"level": "debug"}}),
    ],
)
def test_a_restart_key_keeps_its_old_value_and_is_reported(key: str, tables: dict[str, Any]) -> None:
    old = settings()

    change = merge_settings(old, settings(**tables))

    assert change.needs_restart == (key,)
    assert change.settings.model_dump() == old.model_dump()


def test_each_restart_key_is_a_settings_key() -> None:
    for table, keys in RESTART_KEYS.items():
        assert set(keys) <= set(type(getattr(settings(), table)).model_fields)


def test_sweeps_and_limits_are_applied() -> None:
    new = settings(sweep={"stale_seconds": 3.0}, work={"crashes_max": 9, "outage_seconds": 5.0})

    change = merge_settings(settings(), new)

    assert change.settings.sweep.stale_seconds == 3.0
    assert (change.settings.work.crashes_max, change.settings.work.outage_seconds) == (9, 5.0)


def test_an_inbox_keeps_its_root_and_gets_the_other_keys() -> None:
    change = merge_settings(settings(), settings(inbox={"drop": {"root": "/elsewhere", "retries": 9}}))

    assert change.needs_restart == ("inbox.drop.root",)
    assert change.changed == ("drop",)
    assert change.settings.inbox["drop"].root == PurePath("/srv/drop")
    assert change.settings.inbox["drop"].retries == 9


def test_limits_that_depend_on_a_restart_key_are_refused() -> None:
    new = settings(redis={"visibility_timeout_seconds": 7200}, inbox={"drop": {"time_limit_seconds": 5000}})

    with pytest.raises(SettingsError) as caught:
        merge_settings(settings(), new)

    (finding,) = caught.value.findings
    assert finding.where == "inbox.drop.time_limit_seconds"
    assert "redis.visibility_timeout_seconds = 3600" in finding.problem
    assert "restart" in finding.remedy


def test_deserialized_settings_are_equal_and_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    original = settings(inbox={"drop": {"include": ["*.pdf", "ä"], "unsure_seconds": 3.0}, "b": {}}, host="h")
    monkeypatch.setenv("INBOXD_INBOX__DROP__RETRIES", "99")
    monkeypatch.setenv("INBOXD_HOST", "other")

    deserialized = deserialize(serialize(original))

    assert deserialized.model_dump() == original.model_dump()
    assert deserialized.inbox["b"].name == "b"


@pytest.mark.parametrize(
    "keys",
    [
        {"command": ["true"]},
        {"url": "http://localhost/x"},
        {"task": "a.b"},
        {"handler": ["a:b", {"command": ["true"]}]},
        {"handler": "a:b", "out": "inbox:b"},
    ],
)
def test_each_kind_of_handler_is_the_same_after_a_reload(keys: dict[str, Any]) -> None:
    original = settings(defaults={"handler": "c:d"}, inbox={"drop": keys, "b": {}})

    deserialized = deserialize(serialize(original))

    assert deserialized.model_dump() == original.model_dump()
    assert deserialized.inbox["drop"].handled_by == original.inbox["drop"].handled_by


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("INBOXD_SETTINGS", str(path))
    for folder in ("inbox", "claimed", "done", "failed"):
        (tmp_path / "drop" / folder).mkdir(parents=True)
    return path


def test_a_retiring_inbox_can_be_added_again_with_its_former_root_only(file: Path, tmp_path: Path) -> None:
    old = settings(inbox={"drop": {"root": "/old"}})
    file.write_text('[inbox.drop]\nroot = "drop"\n')

    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        other_root = reload_settings(old, handlers=False, retiring=frozenset({"drop"}))
        same_root = reload_settings(
            settings(inbox={"drop": {"root": str(tmp_path / "drop")}}), handlers=False, retiring=frozenset({"drop"})
        )

    assert other_root is None
    assert same_root is not None
    assert [line["event"] for line in lines if line["event"] != events.SETTINGS_NEED_RESTART] == [
        events.SETTINGS_REJECTED,
        events.SETTINGS_APPLIED,
    ]
    assert "/old" in lines[0]["problem"]


def test_each_finding_is_logged(file: Path) -> None:
    file.write_text('[inbox.a]\nroot = "a"\nretires = 1\n[inbox.b]\nroot = "b"\nsettle_seconds = "soon"\n')

    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        change = reload_settings(settings(), handlers=False)

    assert change is None
    assert [line["event"] for line in lines] == [events.SETTINGS_REJECTED] * 2
    assert [line["where"].split(" ")[0] for line in lines] == ["inbox.a.retires", "inbox.b.settle_seconds"]
