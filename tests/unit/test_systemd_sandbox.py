"""The services' sandbox, as it is written from the settings and compared with them."""

from pathlib import Path, PurePath

import pytest

from inboxd.config.settings import Inbox, Settings, Work
from inboxd.console.systemd.places import AT_THE_FOLDERS, SERVICES, Places, of_user, system
from inboxd.console.systemd.sandbox import additions, differences, drop_in, granted, refusals


def settings(*roots: str, stop_seconds: float = 30.0) -> Settings:
    inboxes = {f"inbox{number}": Inbox(root=PurePath(root), name=f"inbox{number}") for number, root in enumerate(roots)}
    return Settings(inbox=inboxes, work=Work(stop_seconds=stop_seconds))


def put(places: Places, written: Settings) -> None:
    """Install the services for these settings, as far as the sandbox is concerned."""
    for service in AT_THE_FOLDERS:
        places.drop_in(service).parent.mkdir(parents=True, exist_ok=True)
        (places.units / service).touch()
        places.drop_in(service).write_text(drop_in(written, places))


def test_each_root_is_one_entry() -> None:
    text = drop_in(settings("/srv/a", "/srv/b c"), system())

    assert [line for line in text.splitlines() if line.startswith("ReadWritePaths")] == [
        'ReadWritePaths="-/srv/a"',
        'ReadWritePaths="-/srv/b c"',
    ]


def test_percent_signs_are_no_specifiers(tmp_path: Path) -> None:
    places = system(tmp_path)
    put(places, settings("/srv/100%"))

    roots = granted(places.drop_in(SERVICES[0]))

    assert 'ReadWritePaths="-/srv/100%%"' in places.drop_in(SERVICES[0]).read_text()
    assert roots == {"/srv/100%"}


def test_homes_are_opened_only_for_an_inbox_in_one() -> None:
    assert "ProtectHome=read-only" in drop_in(settings("/srv/a", "/home/alice/drop"), system())
    assert "ProtectHome" not in drop_in(settings("/srv/a", "/homes/drop"), system())


def test_the_stop_lasts_as_long_as_the_settings_say() -> None:
    text = drop_in(settings("/srv/a", stop_seconds=99.5), system())

    assert "Environment=STOP_SECONDS=100" in text
    assert "TimeoutStopSec=115s" in text


def test_a_users_services_have_no_mounts_of_their_own(tmp_path: Path) -> None:
    text = drop_in(settings("/srv/a"), of_user(tmp_path))

    assert "ReadWritePaths" not in text
    assert "STOP_SECONDS=30" in text


@pytest.mark.parametrize("root", ['/srv/a"b', "/srv/a\\b", "/srv/a\nExecStart=/bin/sh", "/tmp/drop", "/dev/shm/drop"])
def test_roots_that_no_sandbox_can_let_in_are_refused(root: str) -> None:
    found = list(refusals(settings(root), system()))

    assert [finding.where for finding in found] == ["inbox.inbox0.root"]
    assert "\n" not in found[0].problem


def test_an_inbox_that_the_services_are_not_let_into_is_found(tmp_path: Path) -> None:
    places = system(tmp_path)
    put(places, settings("/srv/a"))

    found = list(differences(settings("/srv/a", "/srv/new"), places, places.settings))

    assert len(found) == len(AT_THE_FOLDERS)
    assert all("/srv/new" in finding.problem and "/srv/a" not in finding.problem for finding in found)
    assert found[0].remedy == "sudo inboxd systemd sync"


def test_an_inbox_that_went_is_no_fault(tmp_path: Path) -> None:
    places = system(tmp_path)
    put(places, settings("/srv/a", "/srv/gone"))

    assert list(differences(settings("/srv/a"), places, places.settings)) == []


def test_other_settings_and_machines_without_services_are_not_compared(tmp_path: Path) -> None:
    places = system(tmp_path)
    assert list(differences(settings("/srv/a"), places, places.settings)) == []
    put(places, settings("/srv/a"))

    assert list(differences(settings("/srv/b"), places, tmp_path / "other.toml")) == []


def test_new_roots_are_told_from_whatever_else_has_changed() -> None:
    before = drop_in(settings("/srv/b"), system())

    assert additions(before, before) == []
    assert additions(before, drop_in(settings("/srv/a 1%", "/srv/b"), system())) == ["/srv/a 1%"]
    assert additions(before, drop_in(settings("/srv/a"), system())) is None
    assert additions(before, drop_in(settings("/srv/b", "/home/alice/drop"), system())) is None
    assert additions(before, drop_in(settings("/srv/b", "/srv/c", stop_seconds=5.0), system())) is None
    assert additions("", before) is None
