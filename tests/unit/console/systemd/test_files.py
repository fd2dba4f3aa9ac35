"""The files and releases of an installation."""

import configparser
import os
import sys
from pathlib import Path, PurePath

import pytest

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.console.systemd import releases
from inboxd.console.systemd.checks import check_interpreter, load_service_settings
from inboxd.console.systemd.files import remove_all, unit_files, write_all, write_file
from inboxd.console.systemd.install_paths import SERVER_SERVICE, SERVICES, TARGET, system_paths, templates, user_paths

SETTINGS = Settings(inbox={"drop": Inbox(root=PurePath("/srv/drop"), name="drop")})


def test_a_file_is_written_only_if_its_text_differs(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "unit"

    first, second, third = write_file(path, "a"), write_file(path, "a"), write_file(path, "b", 0o600)

    assert (first, second, third) == (True, False, True)
    assert path.read_text() == "b"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["unit"]  # noqa: PTH208 - no temporary file is left


def test_the_units_use_the_environment_that_installs_them(tmp_path: Path) -> None:
    texts = unit_files(SETTINGS, system_paths(tmp_path), Path("/opt/other"))

    for service in SERVICES:
        text = texts[system_paths(tmp_path).units / service]
        assert "/opt/other/bin/" in text
        assert "/opt/inboxd" not in text


@pytest.mark.parametrize("places", [system_paths, user_paths])
def test_only_files_of_the_installation_are_removed(tmp_path: Path, places: type) -> None:
    installed = places(tmp_path)
    write_all(unit_files(SETTINGS, installed, Path("/opt/inboxd/current")))
    admin_drop_in = installed.drop_in(SERVICES[1]).with_name("99-mine.conf")
    admin_drop_in.touch()

    remove_all(installed)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [admin_drop_in]


def test_system_and_user_units_have_the_same_service_options() -> None:
    """User units are copies without most sandbox options; the other options must be equal."""
    for unit in (SERVER_SERVICE, *SERVICES, TARGET):
        system, user = (_read(folder / unit) for folder in (templates(), templates() / "user"))
        for key in (
            "type",
            "killmode",
            "killsignal",
            "execstop",
            "watchdogsec",
            "restart",
            "restartsec",
            "logratelimitburst",
        ):
            assert system.get(key) == user.get(key), (unit, key)


def _read(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.read(path)
    return dict(parser["Service"]) if parser.has_section("Service") else {}


def _release(top: Path, name: str) -> Path:
    release = top / "releases" / name
    (release / "bin").mkdir(parents=True)
    (release / "bin" / "inboxd").touch()
    return release


def test_a_switch_replaces_the_symlink_and_keeps_the_previous_release(tmp_path: Path) -> None:
    link, old, new = tmp_path / "current", _release(tmp_path, "1"), _release(tmp_path, "2")

    releases.switch_to(link, old)
    releases.switch_to(link, new)

    assert link.resolve() == new
    assert releases.previous_release(link) == old
    assert not link.readlink().is_absolute()


def test_the_current_and_the_newest_other_release_are_kept(tmp_path: Path) -> None:
    link = tmp_path / "current"
    created = [_release(tmp_path, str(number)) for number in range(4)]
    releases.switch_to(link, created[0])

    releases.remove_old_releases(link)

    assert sorted((tmp_path / "releases").iterdir()) == [created[0], created[3]]


def test_a_single_release_is_kept_and_has_no_previous_one(tmp_path: Path) -> None:
    link, only = tmp_path / "current", _release(tmp_path, "1")
    releases.switch_to(link, only)

    releases.remove_old_releases(link)

    assert only.exists()
    assert releases.previous_release(link) is None


def test_the_services_settings_ignore_this_process_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = system_paths(tmp_path)
    write_file(places.settings, '[inbox.drop]\nroot = "/srv/drop"\n')
    write_file(places.redis_url, "redis://credential\n", 0o600)
    monkeypatch.setenv("INBOXD_REDIS__URL", "redis://environment")

    settings = load_service_settings(places)

    assert settings.redis.url == "redis://credential"
    assert os.environ["INBOXD_REDIS__URL"] == "redis://environment"


@pytest.mark.parametrize(("url", "expected"), [("", True), ("redis://:secret@db.example:6379/0", False)])
def test_the_server_of_its_own_is_installed_if_the_settings_name_none(tmp_path: Path, url: str, expected: bool) -> None:
    places = system_paths(tmp_path)
    write_file(places.settings, '[inbox.drop]\nroot = "/srv/drop"\n')
    write_file(places.redis_url, url)

    write_all(unit_files(load_service_settings(places), places, Path("/opt/inboxd/current")))

    assert (SERVER_SERVICE in places.services) == expected
    assert (places.units / SERVER_SERVICE).exists() == expected


@pytest.mark.parametrize("path", ["/root/.pyenv/bin/python", "/home/alice/venv/bin/python", "/tmp/venv/bin/python"])
def test_a_python_that_the_sandbox_hides_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", path)

    assert [finding.where for finding in check_interpreter(system_paths())] == [path]
    assert list(check_interpreter(user_paths())) == []
