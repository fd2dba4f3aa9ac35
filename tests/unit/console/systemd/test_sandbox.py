"""The services' sandbox, as it is written from the settings and compared with them."""

from pathlib import Path, PurePath

import pytest

from inboxd.config.settings import Inbox, Settings, Work
from inboxd.console.systemd.places import FOLDER_SERVICES, SERVICES, InstallPaths, system_paths, user_paths
from inboxd.console.systemd.sandbox import (
    added_roots,
    find_missing_roots,
    find_unusable_roots,
    parse_granted_roots,
    render_drop_in,
)


def settings(*roots: str, stop_seconds: float = 30.0) -> Settings:
    inboxes = {f"inbox{number}": Inbox(root=PurePath(root), name=f"inbox{number}") for number, root in enumerate(roots)}
    return Settings(inbox=inboxes, work=Work(stop_seconds=stop_seconds))


def put(places: InstallPaths, written: Settings) -> None:
    """Install the services for these settings, as far as the sandbox is concerned."""
    for service in FOLDER_SERVICES:
        places.drop_in(service).parent.mkdir(parents=True, exist_ok=True)
        (places.units / service).touch()
        places.drop_in(service).write_text(render_drop_in(written, places))


def test_each_root_is_one_entry() -> None:
    text = render_drop_in(settings("/srv/a", "/srv/b c"), system_paths())

    assert [line for line in text.splitlines() if line.startswith("ReadWritePaths")] == [
        'ReadWritePaths="-/srv/a"',
        'ReadWritePaths="-/srv/b c"',
    ]


def test_percent_signs_are_no_specifiers(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    put(places, settings("/srv/100%"))

    roots = parse_granted_roots(places.drop_in(SERVICES[0]))

    assert 'ReadWritePaths="-/srv/100%%"' in places.drop_in(SERVICES[0]).read_text()
    assert roots == {"/srv/100%"}


def test_homes_are_opened_only_for_an_inbox_in_one() -> None:
    assert "ProtectHome=read-only" in render_drop_in(settings("/srv/a", "/home/alice/drop"), system_paths())
    assert "ProtectHome" not in render_drop_in(settings("/srv/a", "/homes/drop"), system_paths())


def test_the_stop_lasts_as_long_as_the_settings_say() -> None:
    text = render_drop_in(settings("/srv/a", stop_seconds=99.5), system_paths())

    assert "Environment=STOP_SECONDS=100" in text
    assert "TimeoutStopSec=115s" in text


def test_a_users_services_have_no_mounts_of_their_own(tmp_path: Path) -> None:
    text = render_drop_in(settings("/srv/a"), user_paths(tmp_path))

    assert "ReadWritePaths" not in text
    assert "STOP_SECONDS=30" in text


@pytest.mark.parametrize("root", ['/srv/a"b', "/srv/a\\b", "/srv/a\nExecStart=/bin/sh", "/tmp/drop", "/dev/shm/drop"])
def test_roots_that_no_sandbox_can_let_in_are_refused(root: str) -> None:
    found = list(find_unusable_roots(settings(root), system_paths()))

    assert [finding.where for finding in found] == ["inbox.inbox0.root"]
    assert "\n" not in found[0].problem


def test_an_inbox_that_the_services_are_not_let_into_is_found(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    put(places, settings("/srv/a"))

    found = list(find_missing_roots(settings("/srv/a", "/srv/new"), places, places.settings))

    assert len(found) == len(FOLDER_SERVICES)
    assert all("/srv/new" in finding.problem and "/srv/a" not in finding.problem for finding in found)
    assert found[0].remedy == "sudo inboxd systemd sync"


def test_an_inbox_that_went_is_no_fault(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    put(places, settings("/srv/a", "/srv/gone"))

    assert list(find_missing_roots(settings("/srv/a"), places, places.settings)) == []


def test_other_settings_and_machines_without_services_are_not_compared(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    assert list(find_missing_roots(settings("/srv/a"), places, places.settings)) == []
    put(places, settings("/srv/a"))

    assert list(find_missing_roots(settings("/srv/b"), places, tmp_path / "other.toml")) == []


def test_new_roots_are_told_from_whatever_else_has_changed() -> None:
    before = render_drop_in(settings("/srv/b"), system_paths())

    assert added_roots(before, before) == []
    assert added_roots(before, render_drop_in(settings("/srv/a 1%", "/srv/b"), system_paths())) == ["/srv/a 1%"]
    assert added_roots(before, render_drop_in(settings("/srv/a"), system_paths())) is None
    assert added_roots(before, render_drop_in(settings("/srv/b", "/home/alice/drop"), system_paths())) is None
    assert added_roots(before, render_drop_in(settings("/srv/b", "/srv/c", stop_seconds=5.0), system_paths())) is None
    assert added_roots("", before) is None
