"""The services' sandbox is generated from the settings, and compared with them."""

from pathlib import Path, PurePath

import pytest

from inboxd.config.settings import Inbox, Settings, Work
from inboxd.console.systemd.install_paths import FOLDER_SERVICES, SERVICES, InstallPaths, system_paths, user_paths
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


def install_drop_ins(places: InstallPaths, settings: Settings) -> None:
    """Write the drop-ins for these settings, and empty units."""
    for service in FOLDER_SERVICES:
        places.drop_in(service).parent.mkdir(parents=True, exist_ok=True)
        (places.units / service).touch()
        places.drop_in(service).write_text(render_drop_in(settings, places))


def test_each_root_is_a_separate_entry() -> None:
    text = render_drop_in(settings("/srv/a", "/srv/b c"), system_paths())

    assert [line for line in text.splitlines() if line.startswith("ReadWritePaths")] == [
        'ReadWritePaths="-/srv/a"',
        'ReadWritePaths="-/srv/b c"',
    ]


def test_percent_signs_are_escaped(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    install_drop_ins(places, settings("/srv/100%"))

    roots = parse_granted_roots(places.drop_in(SERVICES[0]))

    assert 'ReadWritePaths="-/srv/100%%"' in places.drop_in(SERVICES[0]).read_text()
    assert roots == {"/srv/100%"}


def test_home_folders_are_readable_only_for_an_inbox_in_one() -> None:
    assert "ProtectHome=read-only" in render_drop_in(settings("/srv/a", "/home/alice/drop"), system_paths())
    assert "ProtectHome" not in render_drop_in(settings("/srv/a", "/homes/drop"), system_paths())


def test_the_stop_timeouts_are_derived_from_the_settings() -> None:
    text = render_drop_in(settings("/srv/a", stop_seconds=99.5), system_paths())

    assert "Environment=STOP_SECONDS=100" in text
    assert "TimeoutStopSec=115s" in text


def test_user_services_have_no_writable_paths(tmp_path: Path) -> None:
    text = render_drop_in(settings("/srv/a"), user_paths(tmp_path))

    assert "ReadWritePaths" not in text
    assert "STOP_SECONDS=30" in text


@pytest.mark.parametrize("root", ['/srv/a"b', "/srv/a\\b", "/srv/a\nExecStart=/bin/sh", "/tmp/drop", "/dev/shm/drop"])
def test_roots_that_a_sandbox_can_not_include_are_refused(root: str) -> None:
    findings = list(find_unusable_roots(settings(root), system_paths()))

    assert [finding.where for finding in findings] == ["inbox.inbox0.root"]
    assert "\n" not in findings[0].problem


def test_an_inbox_that_the_sandbox_lacks_is_a_finding(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    install_drop_ins(places, settings("/srv/a"))

    findings = list(find_missing_roots(settings("/srv/a", "/srv/new"), places, places.settings))

    assert len(findings) == len(FOLDER_SERVICES)
    assert all("/srv/new" in finding.problem and "/srv/a" not in finding.problem for finding in findings)
    assert findings[0].remedy == "sudo inboxd systemd sync"


def test_a_removed_inbox_is_not_a_finding(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    install_drop_ins(places, settings("/srv/a", "/srv/removed"))

    assert list(find_missing_roots(settings("/srv/a"), places, places.settings)) == []


def test_other_settings_and_hosts_without_services_have_no_findings(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    assert list(find_missing_roots(settings("/srv/a"), places, places.settings)) == []
    install_drop_ins(places, settings("/srv/a"))

    assert list(find_missing_roots(settings("/srv/b"), places, tmp_path / "other.toml")) == []


def test_added_roots_are_returned_unless_other_lines_changed() -> None:
    old = render_drop_in(settings("/srv/b"), system_paths())

    assert added_roots(old, old) == []
    assert added_roots(old, render_drop_in(settings("/srv/a 1%", "/srv/b"), system_paths())) == ["/srv/a 1%"]
    assert added_roots(old, render_drop_in(settings("/srv/a"), system_paths())) is None
    assert added_roots(old, render_drop_in(settings("/srv/b", "/home/alice/drop"), system_paths())) is None
    assert added_roots(old, render_drop_in(settings("/srv/b", "/srv/c", stop_seconds=5.0), system_paths())) is None
    assert added_roots("", old) is None
