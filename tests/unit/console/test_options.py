"""Reading the settings for a command: Redis' URL may lie beside them, as it does where services are installed."""

import os
from pathlib import Path

import pytest

from inboxd.config.loading import CREDENTIALS_VARIABLE
from inboxd.console.options import read_settings
from inboxd.errors import SettingsError

URL = "redis://:word@127.0.0.1:6380/0"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CREDENTIALS_VARIABLE, "")  # so that it is put back after the test
    monkeypatch.delenv(CREDENTIALS_VARIABLE)
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    (tmp_path / "redis-url").write_text(URL + "\n")
    return path


@pytest.fixture
def _not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be somebody who may not read the URL: root, who runs the tests, always may."""
    monkeypatch.setattr(os, "access", lambda *_: False)


def test_the_url_beside_the_settings_is_used_by_who_may_read_it(file: Path) -> None:
    assert read_settings(file)[1].redis.url == URL


def test_what_is_started_by_the_command_finds_it_too(file: Path) -> None:
    read_settings(file)

    assert os.environ[CREDENTIALS_VARIABLE] == str(file.parent)


def test_a_service_keeps_its_own_credential(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own := tmp_path / "credentials").mkdir()
    (own / "redis-url").write_text("redis://own")
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(own))

    assert read_settings(file)[1].redis.url == "redis://own"


@pytest.mark.usefixtures("_not_ours")
def test_who_may_not_read_it_is_told_if_the_command_needs_it(file: Path) -> None:
    with pytest.raises(SettingsError, match="you may not read it") as told:
        read_settings(file, needs_redis=True)

    assert "sudo" in str(told.value)
    assert read_settings(file)[1].redis.url == ""


@pytest.mark.usefixtures("_not_ours")
def test_a_url_in_the_settings_needs_no_other(file: Path) -> None:
    file.write_text('[redis]\nurl = "redis://there"\n[inbox.drop]\nroot = "drop"\n')

    assert read_settings(file, needs_redis=True)[1].redis.url == "redis://there"
