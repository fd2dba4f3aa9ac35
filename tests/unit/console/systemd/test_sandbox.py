"""The services' sandbox is generated from the settings, and compared with them."""

from pathlib import Path, PurePath

import pytest

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.config.tables import Stage, Work
from inboxd.console.systemd.install_paths import (
    SANDBOXED_SERVICES,
    SERVICES,
    WORKER_SERVICE,
    InstallPaths,
    system_paths,
    user_paths,
)
from inboxd.console.systemd.sandbox import (
    RunningSandbox,
    find_missing_roots,
    find_unusable_roots,
    missing_folders,
    parse_granted_roots,
    parse_running,
    render_drop_in,
)


def settings(*roots: str, stop_seconds: float = 30.0) -> Settings:
    inboxes = {f"inbox{number}": Inbox(root=PurePath(root), name=f"inbox{number}") for number, root in enumerate(roots)}
    return Settings(inbox=inboxes, work=Work(stop_seconds=stop_seconds))


def install_drop_ins(places: InstallPaths, settings: Settings) -> None:
    """Write the drop-ins for these settings, and empty units."""
    for service in SANDBOXED_SERVICES:
        places.drop_in(service).parent.mkdir(parents=True, exist_ok=True)
        (places.units / service).touch()
        places.drop_in(service).write_text(render_drop_in(settings, places, service))


def test_each_root_is_a_separate_entry() -> None:
    text = render_drop_in(settings("/srv/a", "/srv/b c"), system_paths(), WORKER_SERVICE)

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
    assert "ProtectHome=read-only" in render_drop_in(settings("/srv/a", "/home/alice/drop"), system_paths(), WORKER_SERVICE)
    assert "ProtectHome" not in render_drop_in(settings("/srv/a", "/homes/drop"), system_paths(), WORKER_SERVICE)


def test_the_stop_timeouts_are_derived_from_the_settings() -> None:
    text = render_drop_in(settings("/srv/a", stop_seconds=99.5), system_paths(), WORKER_SERVICE)

    assert "Environment=STOP_SECONDS=100" in text
    assert "TimeoutStopSec=115s" in text


def test_user_services_have_no_writable_paths(tmp_path: Path) -> None:
    text = render_drop_in(settings("/srv/a"), user_paths(tmp_path), WORKER_SERVICE)

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

    assert len(findings) == len(SANDBOXED_SERVICES)
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


MOUNTS = """\
651 622 8:1 / / ro,nosuid - ext4 /dev/vda1 rw
652 651 8:1 /srv/inbox\\040a {a} rw,nosuid,noexec - ext4 /dev/vda1 rw
653 651 0:5 / /dev/shm rw,nosuid - tmpfs tmpfs rw
654 651 8:1 /var/lib/inboxd /var/lib/inboxd rw - ext4 /dev/vda1 rw
655 652 0:9 / {a}/nfs rw - nfs4 server:/export rw
656 651 8:1 /usr /usr ro - ext4 /dev/vda1 rw
"""


def running(root: Path, stop_seconds: int = 30) -> RunningSandbox:
    """Return what a service runs with that was started for one inbox."""
    mounts = MOUNTS.format(a=str(root).replace(" ", "\\040"))
    return parse_running(mounts, b"PATH=/bin\0STOP_SECONDS=%d\0HOME=/" % stop_seconds)


def test_the_running_sandbox_is_compared_with_the_settings(tmp_path: Path) -> None:
    old, new = tmp_path / "inbox a", tmp_path / "b"
    old.mkdir()
    new.mkdir()

    def missing(
        *roots: Path, stop_seconds: float = 30.0, writable: tuple[Path, ...] = (), service: str = SERVICES[0]
    ) -> object:
        wanted = settings(*map(str, roots), stop_seconds=stop_seconds)
        work = wanted.work.model_copy(update={"writable": writable})
        return missing_folders(wanted.model_copy(update={"work": work}), service, running(old))

    assert missing(old) == []
    assert missing(old, new) == [str(new)]
    assert missing(old, tmp_path / "not there") == []
    assert missing_folders(settings(str(old)), SERVICES[0], running(Path("/srv/removed"))) is None
    assert missing(old, stop_seconds=5.0) is None
    assert missing(old, writable=(new,)) == []
    assert missing(old, writable=(new,), service=WORKER_SERVICE) == [str(new)]


def test_what_handlers_may_write_to_is_granted_to_the_worker_alone() -> None:
    both = settings("/srv/a").model_copy(update={"work": Work(writable=(PurePath("/srv/out"),))})

    assert 'ReadWritePaths="-/srv/out"' in render_drop_in(both, system_paths(), WORKER_SERVICE)
    assert "/srv/out" not in render_drop_in(both, system_paths(), SERVICES[0])


def test_what_was_dropped_can_not_be_executed() -> None:
    for service in SANDBOXED_SERVICES:
        assert 'NoExecPaths="-/srv/a"' in render_drop_in(settings("/srv/a"), system_paths(), service)


@pytest.mark.parametrize("service", SANDBOXED_SERVICES)
def test_only_the_worker_with_a_nice_command_may_lower_priorities(service: str) -> None:
    nice = Settings(inbox={"a": {"root": "/srv/a", "command": ["gzip", "{path}"], "nice": 5}})

    assert ("SystemCallFilter=setpriority" in render_drop_in(nice, system_paths(), service)) == (service == WORKER_SERVICE)
    assert "SystemCallFilter" not in render_drop_in(settings("/srv/a"), system_paths(), service)


def test_a_url_of_another_host_opens_the_network_to_the_worker_and_its_secrets_are_credentials() -> None:
    rules = {"root": "/srv/a", "url": "https://books.example.org/", "secret_file": "/etc/inboxd/100%"}
    remote, local = (Settings(inbox={"a": {**rules, "url": url}}) for url in (rules["url"], "http://localhost/"))

    worker = render_drop_in(remote, system_paths(), WORKER_SERVICE)
    others = [render_drop_in(remote, system_paths(), service) for service in SANDBOXED_SERVICES if service != WORKER_SERVICE]
    others.append(render_drop_in(local, system_paths(), WORKER_SERVICE).partition("LoadCredential")[0])

    assert "\nIPAddressAllow=any\n" in worker
    assert "\nLoadCredential=a.secret:/etc/inboxd/100%%\nSetCredential=a.secret:\\n\n" in worker
    assert not any("IPAddressAllow" in text or "Credential" in text for text in others)


def with_stage(stage: Stage) -> str:
    return render_drop_in(settings("/srv/a").model_copy(update={"stage": stage}), system_paths(), WORKER_SERVICE)


def test_a_store_on_the_network_has_the_worker_alone_reach_other_hosts() -> None:
    stage = Stage(url="s3://bucket", secret_file="/etc/inboxd/100%.toml")
    text = with_stage(stage)

    assert "IPAddressAllow=any" in text
    assert "LoadCredential=stage.secret:/etc/inboxd/100%%.toml\nSetCredential=stage.secret:\\n\n" in text
    watcher = render_drop_in(settings("/srv/a").model_copy(update={"stage": stage}), system_paths(), SERVICES[0])
    assert "IPAddressAllow" not in watcher
    assert "stage" not in watcher


def test_a_store_that_is_a_folder_is_writable_and_may_be_away() -> None:
    text = with_stage(Stage(url="file:///mnt/shared"))

    assert 'ReadWritePaths="-/mnt/shared"' in text
    assert 'RequiresMountsFor="/mnt/shared' not in text
    assert "IPAddressAllow" not in text
