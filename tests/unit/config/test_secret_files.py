"""Secrets in files and in credentials: what is read, and that no message shows it."""

import base64
from pathlib import Path

import pytest

from inboxd.config.secret_files import read_secret, read_signing_key
from inboxd.errors import SettingsError

KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def test_a_secret_is_the_only_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"  {SECRET}\n")

    assert read_secret(str(tmp_path / "secret"), "drop.secret", {}) == SECRET
    assert read_signing_key(str(tmp_path / "secret"), "drop.secret", {}) == KEY


def test_a_credential_comes_first(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the file")
    (tmp_path / "drop.secret").write_text("of the credential")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert read_secret(str(tmp_path / "secret"), "drop.secret", environment) == "of the credential"
    assert read_secret(str(tmp_path / "secret"), "other.secret", environment) == "of the file"


@pytest.mark.parametrize("content", [b"", b"\n", b"hidden\nhidden", b"hidden\xff", b"hidden\x07"])
def test_what_is_no_line_is_refused_and_not_shown(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content)

    with pytest.raises(SettingsError, match="one line of ASCII") as caught:
        read_secret(str(tmp_path / "secret"), "drop.secret", {})

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("text", ["hidden", "whsec_hidden", "whsec_" + base64.b64encode(b"hidden").decode(), SECRET[6:]])
def test_what_is_no_key_is_refused_with_how_to_make_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)

    with pytest.raises(SettingsError, match="openssl rand -base64 32") as caught:
        read_signing_key(str(tmp_path / "key"), "drop.secret", {})

    assert text not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_secret(str(tmp_path / "none"), "drop.secret", {})


def test_a_file_of_roots_is_a_note_since_systemd_passes_it_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)

    with pytest.raises(SettingsError) as caught:
        read_secret(str(tmp_path / "secret"), "drop.secret", {})

    assert [finding.blocks for finding in caught.value.findings] == [False]
