"""Folders are made as root only where nobody else can redirect that."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.console.systemd import accounts
from inboxd.console.systemd.install_paths import system_paths
from inboxd.errors import SettingsError


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the texts that systemd-tmpfiles gets, instead of running it; the service's user is the one of this test."""
    texts: list[str] = []
    monkeypatch.setattr(accounts, "run", lambda _argv, input_text="": texts.append(input_text))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: SimpleNamespace(pw_uid=os.getuid()))
    return texts


def create(root: Path) -> list[str]:
    settings = Settings(inbox={"drop": Inbox(root=root, name="drop")})
    return list(accounts.create_inboxes(settings, system_paths()))


def test_a_new_inbox_is_made_below_folders_of_root_and_the_service(tmp_path: Path, made: list[str]) -> None:
    root = tmp_path / "srv" / "100% drop"

    (message,) = create(root)

    assert str(root) in message
    assert str(root).replace("%", "%%") + "/inbox" in made[0]


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (lambda srv: srv.symlink_to("/etc"), "is a link or a file"),
        (lambda srv: srv.write_text(""), "is a link or a file"),
        (lambda srv: (srv.mkdir(), srv.chmod(0o777)), "others can write to"),
        (lambda srv: (srv.mkdir(), srv.chmod(0o770)), "others can write to"),
    ],
)
def test_where_others_could_redirect_it_none_is_made(
    tmp_path: Path, made: list[str], prepare: Callable[[Path], object], problem: str
) -> None:
    prepare(tmp_path / "srv")

    with pytest.raises(SettingsError, match=problem) as raised:
        create(tmp_path / "srv" / "drop")

    assert "by hand" in str(raised.value)
    assert made == []


def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "srv").mkdir()
    if os.getuid() == 0:
        os.chown(tmp_path / "srv", 4711, 4711)
    else:
        monkeypatch.setattr(pwd, "getpwnam", lambda _name: SimpleNamespace(pw_uid=4711))

    with pytest.raises(SettingsError, match="another user owns"):
        create(tmp_path / "srv" / "drop")
    assert made == []
