"""Reading the settings for a command: the URL of Redis may be stored next to them, as in an installed service."""

import os
from pathlib import Path

import pytest

from inboxd.config.loading import CREDENTIALS_VARIABLE
from inboxd.console.options import read_settings
from inboxd.errors import SettingsError

URL = "redis://:word@127.0.0.1:6380/0"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CREDENTIALS_VARIABLE, "")  # so that monkeypatch restores it
    monkeypatch.delenv(CREDENTIALS_VARIABLE)
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    (tmp_path / "redis-url").write_text(URL + "\n")
    return path


@pytest.fixture
def _unreadable_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deny access to the URL, which root, who may run the tests, can always read."""
    monkeypatch.setattr(os, "access", lambda *_: False)


def test_a_readable_url_next_to_the_settings_is_used(file: Path) -> None:
    assert read_settings(file)[1].redis.url == URL


def test_child_processes_inherit_the_credential(file: Path) -> None:
    read_settings(file)

    assert os.environ[CREDENTIALS_VARIABLE] == str(file.parent)


def test_a_service_keeps_its_own_credential(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own := tmp_path / "credentials").mkdir()
    (own / "redis-url").write_text("redis://own")
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(own))

    assert read_settings(file)[1].redis.url == "redis://own"


@pytest.mark.usefixtures("_unreadable_url")
def test_an_unreadable_url_is_an_error_only_if_the_command_needs_redis(file: Path) -> None:
    with pytest.raises(SettingsError, match="you may not read this file") as raised:
        read_settings(file, needs_redis=True)

    assert "sudo" in str(raised.value)
    assert read_settings(file)[1].redis.url == ""


@pytest.mark.usefixtures("_unreadable_url")
def test_a_url_in_the_settings_replaces_the_unreadable_one(file: Path) -> None:
    file.write_text('[redis]\nurl = "redis://elsewhere"\n[inbox.drop]\nroot = "drop"\n')

    assert read_settings(file, needs_redis=True)[1].redis.url == "redis://elsewhere"
