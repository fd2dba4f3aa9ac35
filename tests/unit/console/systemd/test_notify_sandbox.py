"""Beat's drop-in: what it needs to notify people, and nothing else."""

import re
from pathlib import Path, PurePath

import pytest

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.config.tables import Notify
from inboxd.console.systemd.files import drop_in_files, remove_all, write_all
from inboxd.console.systemd.install_paths import BEAT_SERVICE, system_paths, templates, user_paths
from inboxd.console.systemd.notify_sandbox import find_outdated, render_drop_in


def settings(*roots: str, notify: Notify | None = None, state_dir: str = "/var/lib/inboxd") -> Settings:
    inboxes = {f"inbox{number}": Inbox(root=PurePath(root), name=f"inbox{number}") for number, root in enumerate(roots)}
    return Settings(inbox=inboxes, notify=notify or Notify(urls=("json://example.org",)), state_dir=PurePath(state_dir))


def render(*roots: str, notify: Notify | None = None, state_dir: str = "/var/lib/inboxd") -> list[str]:
    return render_drop_in(settings(*roots, notify=notify, state_dir=state_dir), system_paths()).splitlines()


def test_without_anybody_to_notify_beat_gets_nothing() -> None:
    assert [line for line in render("/srv/a", notify=Notify()) if not line.startswith("#")] == []


def test_only_the_inboxes_are_visible_of_what_the_unit_hides() -> None:
    lines = render("/srv/a", "/home/alice/drop", "/data/b")

    assert "TemporaryFileSystem=/srv:ro" in lines
    assert 'BindReadOnlyPaths="-/srv/a"' in lines
    assert 'BindReadOnlyPaths="-/home/alice/drop"' in lines
    assert "ProtectHome=tmpfs" in lines
    assert not any("BindReadOnlyPaths" in line and "/data" in line for line in lines), "it is visible anyway"
    hidden = next(line for line in lines if line.startswith("InaccessiblePaths=-"))
    assert "-/srv" not in hidden
    assert "-/mnt" in hidden


def test_the_unit_hides_the_same_folders() -> None:
    unit = (templates() / BEAT_SERVICE).read_text()

    hidden = re.search(r"^InaccessiblePaths=(.*)$", unit, re.MULTILINE)

    assert hidden is not None
    assert f"InaccessiblePaths={hidden[1]}" in render("/data/b")


def test_only_the_record_is_writable() -> None:
    assert "StateDirectory=inboxd/notify" in render("/srv/a")
    other = render("/srv/a", state_dir="/data/100%")
    assert [line for line in other if "ReadWritePaths" in line] == ['ReadWritePaths="-/data/100%%/notify"']


def test_the_file_with_the_urls_is_a_credential_and_may_be_missing() -> None:
    lines = render("/srv/a", notify=Notify(urls_file="/etc/inboxd/notify-urls"))

    assert "LoadCredential=notify-urls:/etc/inboxd/notify-urls" in lines
    assert "SetCredential=notify-urls:\\n" in lines


def test_no_url_is_in_the_drop_in() -> None:
    secret = Notify(urls=("mailto://user:the-password@example.org",))

    assert "the-password" not in "\n".join(render("/srv/a", notify=secret))


def test_a_drop_in_that_does_not_fit_is_a_note(tmp_path: Path) -> None:
    places = system_paths(tmp_path)
    write_all(drop_in_files(settings("/srv/a", notify=Notify()), places))
    (places.units / BEAT_SERVICE).touch()

    assert list(find_outdated(settings("/srv/a", notify=Notify()), places, places.settings)) == []
    findings = list(find_outdated(settings("/srv/a"), places, places.settings))
    assert [(finding.remedy, finding.blocks) for finding in findings] == [("sudo inboxd systemd sync", False)]

    write_all(drop_in_files(settings("/srv/a"), places))
    assert list(find_outdated(settings("/srv/a"), places, places.settings)) == []


@pytest.mark.parametrize("is_user", [False, True])
def test_a_user_s_services_have_no_such_drop_in_and_all_are_removed(tmp_path: Path, is_user: bool) -> None:
    places = user_paths(tmp_path) if is_user else system_paths(tmp_path)
    write_all(drop_in_files(settings("/srv/a"), places))
    assert places.drop_in(BEAT_SERVICE).exists() is not is_user

    remove_all(places)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
