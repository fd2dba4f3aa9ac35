"""New settings beside old ones: what is new, gone, changed, and what only a restart takes up."""

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


def test_inboxes_come_change_and_go() -> None:
    old = settings(inbox={"a": {}, "b": {"retries": 1}, "c": {}})

    change = merge_settings(old, settings(inbox={"b": {"retries": 2}, "c": {}, "d": {}}))

    assert (change.added, change.removed, change.changed, change.needs_restart) == (("d",), ("a",), ("b",), ())
    assert set(change.settings.inbox) == {"b", "c", "d"}
    assert change.settings.inbox["b"].retries == 2


def test_new_defaults_change_every_inbox_that_does_not_say_otherwise() -> None:
    old = settings(inbox={"a": {}, "b": {"retries": 1}})

    change = merge_settings(old, settings(inbox={"a": {}, "b": {"retries": 1}}, defaults={"retries": 7}))

    assert change.changed == ("a",)
    assert change.settings.inbox["a"].retries == 7


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
def test_what_only_a_restart_takes_up_is_kept_and_named(key: str, tables: dict[str, Any]) -> None:
    old = settings()

    change = merge_settings(old, settings(**tables))

    assert change.needs_restart == (key,)
    assert serialize(change.settings) == serialize(old)


def test_every_fixed_key_is_a_key() -> None:
    for table, keys in RESTART_KEYS.items():
        assert set(keys) <= set(type(getattr(settings(), table)).model_fields)


def test_sweeps_and_limits_are_taken_up() -> None:
    new = settings(sweep={"stale_seconds": 3.0}, work={"crashes_max": 9, "outage_seconds": 5.0})

    change = merge_settings(settings(), new)

    assert change.settings.sweep.stale_seconds == 3.0
    assert (change.settings.work.crashes_max, change.settings.work.outage_seconds) == (9, 5.0)


def test_an_inbox_keeps_its_root_and_takes_the_rest() -> None:
    change = merge_settings(settings(), settings(inbox={"drop": {"root": "/elsewhere", "retries": 9}}))

    assert change.needs_restart == ("inbox.drop.root",)
    assert change.changed == ("drop",)
    assert change.settings.inbox["drop"].root == PurePath("/srv/drop")
    assert change.settings.inbox["drop"].retries == 9


def test_limits_that_only_a_restart_makes_room_for_are_refused() -> None:
    new = settings(redis={"visibility_timeout_seconds": 7200}, inbox={"drop": {"time_limit_seconds": 5000}})

    with pytest.raises(SettingsError) as caught:
        merge_settings(settings(), new)

    (finding,) = caught.value.findings
    assert finding.where == "inbox.drop.time_limit_seconds"
    assert "redis.visibility_timeout_seconds = 3600" in finding.problem
    assert "restart" in finding.remedy


def test_settings_thaw_as_they_were_frozen_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = settings(inbox={"drop": {"include": ["*.pdf", "ä"], "unsure_seconds": 3.0}, "b": {}}, host="h")
    monkeypatch.setenv("INBOXD_INBOX__DROP__RETRIES", "99")
    monkeypatch.setenv("INBOXD_HOST", "other")

    thawed = deserialize(serialize(frozen))

    assert thawed.model_dump() == frozen.model_dump()
    assert thawed.inbox["b"].name == "b"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("INBOXD_SETTINGS", str(path))
    for folder in ("inbox", "claimed", "done", "failed"):
        (tmp_path / "drop" / folder).mkdir(parents=True)
    return path


def test_an_inbox_that_is_leaving_comes_back_only_to_its_own_folder(file: Path, tmp_path: Path) -> None:
    old = settings(inbox={"drop": {"root": "/old"}})
    file.write_text('[inbox.drop]\nroot = "drop"\n')

    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        refused = reload_settings(old, handlers=False, retiring=frozenset({"drop"}))
        taken = reload_settings(
            settings(inbox={"drop": {"root": str(tmp_path / "drop")}}), handlers=False, retiring=frozenset({"drop"})
        )

    assert refused is None
    assert taken is not None
    assert [line["event"] for line in lines if line["event"] != events.SETTINGS_NEED_RESTART] == [
        events.SETTINGS_REJECTED,
        events.SETTINGS_APPLIED,
    ]
    assert "/old" in lines[0]["problem"]


def test_every_finding_is_told(file: Path) -> None:
    file.write_text('[inbox.a]\nroot = "a"\nretires = 1\n[inbox.b]\nroot = "b"\nsettle_seconds = "soon"\n')

    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        change = reload_settings(settings(), handlers=False)

    assert change is None
    assert [line["event"] for line in lines] == [events.SETTINGS_REJECTED] * 2
    assert [line["where"].split(" ")[0] for line in lines] == ["inbox.a.retires", "inbox.b.settle_seconds"]
