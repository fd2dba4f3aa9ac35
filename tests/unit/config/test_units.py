"""Settings as people write them."""

from pathlib import Path, PurePath
from typing import Any

import pytest
from pydantic import ValidationError

from inboxd.config.loading import load_settings
from inboxd.config.settings import Settings
from inboxd.errors import SettingsError


def with_defaults(**keys: Any) -> Settings:  # noqa: ANN401
    return Settings(defaults=keys, inbox={"drop": {"root": "drop"}})


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("settle_seconds", "500ms", 0.5), ("settle_seconds", "30s", 30.0), ("unsure_seconds", "5m", 300.0),
        ("unsure_seconds", "auto", "auto"), ("empty_folder_seconds", " 1.5 H ", 5400.0), ("time_limit_seconds", "2min", 120),
        ("retry_backoff_max_seconds", "20 m", 1200.0), ("poll_seconds", "2", 2.0), ("keep_done_days", "30d", 30.0),
        ("keep_failed_days", "12h", 0.5), ("keep_done_days", "2w", 14.0), ("size_bytes_max", "10MB", 10_000_000),
        ("parcel_bytes_max", "64KiB", 65_536), ("inline_bytes_max", "1000", 1000), ("include", "*.pdf", ("*.pdf",)),
        ("exclude", ["a", "b"], ("a", "b")), ("temporary_names", "*.tmp", ("*.tmp",)),
    ],
)  # fmt: skip
def test_values_may_have_units(key: str, written: object, read: object) -> None:
    assert getattr(with_defaults(**{key: written}).inbox["drop"], key) == read


@pytest.mark.parametrize(
    ("key", "written", "message"),
    [
        ("settle_seconds", "soon", '"30s", "5m"'), ("settle_seconds", "5 parsecs", '"30s", "5m"'),
        ("settle_seconds", "-5m", "a time"),
        ("keep_done_days", "a month", '"30d" or "12h"'), ("size_bytes_max", "10 Mega", '"10MB" or "64KiB"'),
        ("poll_seconds", "2d", "less than or equal"), ("inline_bytes_max", "1GB", "less than or equal"),
    ],
)  # fmt: skip
def test_other_texts_are_refused_with_an_example(key: str, written: object, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        with_defaults(**{key: written})

    assert message in str(raised.value)


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "settings.toml"
    file.write_text('state_dir = "~/state"\n[work]\nwritable = ["~/out"]\n[inbox.drop]\nroot = "~/drop"\n')

    settings = load_settings(file)

    assert (settings.state_dir, settings.inbox["drop"].root) == (tmp_path / "state", tmp_path / "drop")
    assert settings.work.writable == (tmp_path / "out",)
    assert isinstance(settings.state_dir, PurePath)


def test_an_unknown_home_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[inbox.drop]\nroot = "~nobody-of-this-name/drop"\n')

    with pytest.raises(SettingsError, match=r"inbox\.drop\.root"):
        load_settings(file)


def test_a_finding_names_the_key_and_an_example(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[inbox.drop]\nroot = "drop"\nsettle_seconds = "soon"\n')

    with pytest.raises(SettingsError, match=r'inbox\.drop\.settle_seconds = .soon.*a text such as "30s"'):
        load_settings(file)
