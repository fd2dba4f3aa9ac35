"""Files that others can change are not trusted."""

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from inboxd.config import strict_modes
from inboxd.config.loading import find_settings, load_settings
from inboxd.config.strict_modes import find_untrusted
from inboxd.errors import SettingsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    return path


def test_a_file_of_the_callers_own_is_trusted(file: Path) -> None:
    assert find_untrusted(file) == []
    assert load_settings(file).inbox


@pytest.mark.parametrize(
    ("change", "who"),
    [
        (lambda file: file.chmod(0o666), "everybody can write to it (mode 0666)"),
        (lambda file: file.parent.chmod(0o777), "everybody can write to it (mode 0777)"),
        (lambda file: file.parent.parent.chmod(0o722), "everybody can write to it (mode 0722)"),
    ],
)
def test_one_that_others_can_write_to_is_not(file: Path, change: Callable[[Path], None], who: str) -> None:
    change(file)

    with pytest.raises(SettingsError) as raised:
        load_settings(file)

    assert who in str(raised.value)
    assert "INBOXD_STRICT_MODES=no" in str(raised.value)


def test_a_sticky_folder_is_trusted_above_the_settings_folder_only(file: Path) -> None:
    file.parent.parent.chmod(0o1777)
    assert find_untrusted(file) == []

    file.parent.chmod(0o1777)  # others could put modules there
    assert [finding.where for finding in find_untrusted(file)] == [str(file.parent)]


def test_the_group_may_write_only_if_it_is_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwuid(os.getuid())

    def is_private(name: str, members: list[str], others: list[str]) -> bool:
        monkeypatch.setattr(grp, "getgrgid", lambda _gid: grp.struct_group((name, "x", 4711, members)))
        entries = [pwd.struct_passwd((other, "x", 9, 4711, "", "/", "/bin/sh")) for other in others]
        monkeypatch.setattr(pwd, "getpwall", lambda: entries)
        return strict_modes.is_private_group(4711, {user.pw_uid})

    assert is_private(user.pw_name, [], [user.pw_name])
    assert is_private(user.pw_name, [user.pw_name], [])
    assert not is_private(user.pw_name, [user.pw_name, "eve"], [])
    assert not is_private(user.pw_name, [], ["eve"])
    assert not is_private("staff", [], [])


def test_a_link_is_followed_and_both_paths_count(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    link = elsewhere / "settings.toml"
    link.symlink_to(file)
    assert find_untrusted(link) == []

    file.parent.chmod(0o777)
    assert [finding.where for finding in find_untrusted(link)] == [str(file.parent)]
    file.parent.chmod(0o755)
    elsewhere.chmod(0o777)
    assert [finding.where for finding in find_untrusted(link)] == [str(elsewhere)]


def test_each_link_of_a_chain_counts(file: Path, tmp_path: Path) -> None:
    first, middle = tmp_path / "first", tmp_path / "middle"
    for folder in (first, middle):
        folder.mkdir(mode=0o755)
    (middle / "m.toml").symlink_to(f"../{file.parent.name}/{file.name}")
    (first / "f.toml").symlink_to(middle / "m.toml")
    assert find_untrusted(first / "f.toml") == []

    middle.chmod(0o777)
    assert [finding.where for finding in find_untrusted(first / "f.toml")] == [str(middle)]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert find_untrusted(tmp_path / "a") == []


def test_an_access_list_makes_the_bits_of_the_group_those_of_everybody_in_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.chmod(0o664)
    monkeypatch.setattr(strict_modes, "is_private_group", lambda *_: True)
    assert find_untrusted(file) == []

    monkeypatch.setattr(os, "getxattr", lambda *_, **__: b"\2")
    assert file in [Path(finding.where) for finding in find_untrusted(file)]


def test_another_users_file_is_not_trusted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_modes, "trusted_users", lambda _environment: {0} if os.getuid() else {4711})

    assert any("who can change what inboxd runs" in finding.problem for finding in find_untrusted(file))


def test_who_has_become_root_with_sudo_is_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert strict_modes.trusted_users({"SUDO_UID": "1000"}) == {0, 1000}
    monkeypatch.setattr(os, "geteuid", lambda: 33)
    assert strict_modes.trusted_users({"SUDO_UID": "1000"}) == {0, 33}


def test_the_environment_can_switch_it_off(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o666)
    monkeypatch.setenv("INBOXD_STRICT_MODES", "no")

    assert load_settings(file).inbox


def test_for_root_the_current_folder_does_not_count(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SettingsError, match=r"tried /etc/inboxd/settings\.toml\)"):
        find_settings(None, {})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert find_settings(None, {}) == file
