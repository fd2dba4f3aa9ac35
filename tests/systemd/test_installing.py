"""Installing, following the settings, upgrading, going back and taking away, on a booted systemd."""

import subprocess

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    CONFIGURED,
    FIRST_SETTINGS,
    INSTALL,
    REDIS_URL,
    ROOT,
    SERVICES,
    SETTINGS,
    UNITS,
    WATCHER,
    WORKER,
    add_inbox,
    await_active,
    begin_anew,
    drop,
    edited,
    files_what_is_dropped,
    install,
    is_done,
    pids,
    seen,
    use_drop_in,
)

pytestmark = pytest.mark.systemd

RELEASES = "/opt/inboxd/releases"
INBOXD = "/opt/inboxd/current/bin/inboxd"


def inboxd(box: Box, *arguments: str, check: bool = True) -> str:
    """Run the installed command; returns what it said."""
    done = box.run(INBOXD, *arguments, check=check)
    return done.stdout + done.stderr


def another_release(box: Box, name: str = "29991231T000000") -> str:
    """Make a release by copying the current one, in a moment, and without a `pip`; returns its folder."""
    release = f"{RELEASES}/{name}"
    box.run("cp", "-a", box.run("readlink", "-f", "/opt/inboxd/current").stdout.strip(), release)
    return release


def take(box: Box, release: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Install a release that is there, as the script's last step does it."""
    return box.run(f"{release}/bin/python", "-m", "inboxd", "systemd", "install", check=check)


def test_a_machine_with_nothing_but_debians_packages_gets_settings_an_inbox_and_running_services(empty_box: Box) -> None:
    said = install(empty_box)

    assert "wrote first settings" in said
    assert empty_box.path(REDIS_URL).stat().st_mode & 0o777 == 0o600
    empty_box.run("usermod", "--append", "--groups", "inboxd-drop", "alice")
    files_what_is_dropped(empty_box)
    assert "sandbox: fits the settings" in inboxd(empty_box, "systemd", "status")
    assert "broker   ok (redis://127.0.0.1:6379/0)" in inboxd(empty_box, "status")
    assert "you may not read this file" in empty_box.run("runuser", "-u", "inboxd", "--", INBOXD, "status", check=False).stderr


def test_without_a_redis_nothing_is_installed_and_the_reason_is_told(empty_box: Box) -> None:
    empty_box.run("systemctl", "stop", "redis-server")

    done = empty_box.run(INSTALL, "--wheels", "/mnt/wheels", check=False)

    assert done.returncode == 2
    assert "apt install redis-server" in done.stderr
    assert not empty_box.path(f"{UNITS}/{WATCHER}").exists()
    assert list(empty_box.path(RELEASES).iterdir()) == []


def test_an_interpreter_that_the_sandbox_hides_is_refused(empty_box: Box) -> None:
    empty_box.run("sh", "-c", "cp /usr/bin/python3 /root/python3")

    done = empty_box.run("env", "PYTHON=/root/python3", INSTALL, "--wheels", "/mnt/wheels", check=False)

    assert done.returncode == 2
    assert "can't see /root" in done.stderr


def test_settings_that_do_not_load_are_refused_and_the_old_release_runs_on(shared: Box) -> None:
    before = pids(shared), shared.run("readlink", "/opt/inboxd/current").stdout

    with edited(shared, SETTINGS, "root = ", "roof = "):
        done = shared.run(INSTALL, "--wheels", "/mnt/wheels", check=False)

    assert done.returncode == 2
    assert "did you mean root?" in done.stderr
    assert before == (pids(shared), shared.run("readlink", "/opt/inboxd/current").stdout)


def test_a_handler_that_the_services_user_cant_import_is_refused(box: Box) -> None:
    box.path("/etc/inboxd/box_handlers.py").chmod(0o600)

    done = take(box, "/opt/inboxd/current", check=False)

    assert done.returncode == 2
    assert "can't be imported" in done.stderr


def test_an_upgrade_with_files_in_flight_loses_none_and_can_be_gone_back_on(box: Box) -> None:
    await_active(box)
    first = box.run("readlink", "/opt/inboxd/current").stdout
    second = another_release(box)
    names = [f"brief{number}.txt" for number in range(12)]
    for name in names:
        drop(box, name)
    box.wait_until(lambda: seen(box, names[0]), what="a handler runs")

    take(box, second)

    assert not all(is_done(box, name) for name in names), "nothing was in flight any more"
    for name in names:
        box.wait_until(lambda name=name: is_done(box, name), what=f"{name} is in done/")
    assert [name for name in names if seen(box, name) != [1]] == []
    assert box.run("readlink", "-f", "/opt/inboxd/current").stdout.strip() == second
    inboxd(box, "systemd", "rollback")
    assert box.run("readlink", "/opt/inboxd/current").stdout == first
    files_what_is_dropped(box)


def test_two_releases_are_kept(box: Box) -> None:
    releases = [another_release(box, f"2999123{number}T000000") for number in range(2)]

    take(box, releases[-1])

    assert sorted(str(path) for path in box.path(RELEASES).iterdir()) == sorted(str(box.path(path)) for path in releases)


def test_a_release_whose_services_do_not_start_gives_way_to_the_one_before(box: Box) -> None:
    await_active(box)
    before = box.run("readlink", "/opt/inboxd/current").stdout
    second = another_release(box)
    box.path(f"{CONFIGURED}/{WATCHER}.d").mkdir()
    guard = "[Service]\nExecStartPre=/bin/sh -c '[ \"$(readlink /opt/inboxd/current)\" = %s ]'\n"
    box.path(f"{CONFIGURED}/{WATCHER}.d/only-the-first.conf").write_text(guard % before.strip())

    done = take(box, second, check=False)

    assert done.returncode == 2
    assert "the release before runs again" in done.stderr
    assert box.run("readlink", "/opt/inboxd/current").stdout == before
    files_what_is_dropped(box)


def test_a_new_inbox_is_let_in_by_a_sync_and_the_processes_stay(box: Box) -> None:
    root = "/srv/with space/100%"
    await_active(box)
    before, now = pids(box), box.now()
    drop(box, "brief.txt")
    box.wait_until(lambda: seen(box, "brief.txt"), what="a handler runs")
    add_inbox(box, "more", root)

    refused = inboxd(box, "check", check=False)
    said = inboxd(box, "systemd", "sync")

    assert "sudo inboxd systemd sync" in refused or "create it" in refused
    assert f"have taken up the settings: {root}" in said
    for service in SERVICES:
        taken = (now, "-u", service, "EVENT=settings_applied", 'ADDED=["more"]')
        box.wait_until(lambda taken=taken: box.journal(*taken), what=f"{service} has the inbox")
    drop(box, "m.txt", root=root)
    box.wait_until(lambda: is_done(box, "m.txt", root) and is_done(box, "brief.txt"), what="both files are in done/")
    assert pids(box) == before
    assert seen(box, "brief.txt") == [1]
    assert "fits the settings" in inboxd(box, "systemd", "sync")
    box.run("systemctl", "kill", "--signal=KILL", *SERVICES)
    drop(box, "n.txt", root=root)
    box.wait_until(lambda: is_done(box, "n.txt", root), what="what is started later has the inbox, too")


def test_an_inbox_that_goes_is_taken_from_the_sandbox_by_a_sync(box: Box) -> None:
    add_inbox(box, "more", "/srv/more")
    inboxd(box, "systemd", "sync")
    box.path(SETTINGS).write_text(FIRST_SETTINGS)

    said = inboxd(box, "systemd", "sync")

    assert "started anew" in said
    files_what_is_dropped(box)
    inside = ("nsenter", "--mount", f"--target={box.pid(WATCHER)}", "touch", "/srv/more/inbox/x")
    assert "Read-only" in box.run(*inside, check=False).stderr


def test_an_inbox_in_a_home_works_after_a_sync(box: Box) -> None:
    await_active(box)
    box.run("chmod", "711", "/home/alice")
    add_inbox(box, "home", "/home/alice/drop")
    refused = inboxd(box, "systemd", "sync", check=False)
    for folder in ("", "/inbox", "/claimed", "/done", "/failed"):
        box.run("install", "-d", "-o", "inboxd", "-g", "inboxd-drop", "-m", "2775", f"/home/alice/drop{folder}")

    inboxd(box, "systemd", "sync")

    assert "by hand" in refused
    await_active(box)
    drop(box, "h.txt", root="/home/alice/drop")
    box.wait_until(lambda: is_done(box, "h.txt", "/home/alice/drop"), what="h.txt is in done/")


def test_an_inbox_in_tmp_is_refused(shared: Box) -> None:
    with edited(shared, SETTINGS, "[inbox.drop]", '[inbox.temporary]\nroot = "/tmp/drop"\n\n[inbox.drop]'):
        said = inboxd(shared, "systemd", "sync", check=False)

    assert "each service has one of its own" in said


def test_installing_again_is_an_upgrade_and_changes_no_permissions_that_an_administrator_gave(box: Box) -> None:
    first = box.run("readlink", "/opt/inboxd/current").stdout
    box.path(f"{ROOT}/inbox").chmod(0o2770)

    install(box)

    assert box.run("readlink", "/opt/inboxd/current").stdout != first
    files_what_is_dropped(box)
    assert box.path(f"{ROOT}/inbox").stat().st_mode & 0o7777 == 0o2770


def test_uninstalling_leaves_settings_and_files(box: Box) -> None:
    await_active(box)
    drop(box, "a.txt")
    box.wait_until(lambda: is_done(box, "a.txt"), what="a.txt is in done/")
    box.run("systemctl", "stop", "redis-server")
    drop(box, "left.txt")

    box.run(INSTALL, "uninstall")

    assert [box.show(service, "LoadState") for service in SERVICES] == ["not-found"] * 3
    assert is_done(box, "a.txt")
    assert box.path(f"{ROOT}/inbox/left.txt").exists() or list(box.path(f"{ROOT}/claimed").iterdir())
    assert box.path(SETTINGS).read_text() == FIRST_SETTINGS
    assert not list(box.path(UNITS).glob("inboxd*"))


def test_after_uninstalling_it_can_be_installed_again(box: Box) -> None:
    await_active(box)
    box.run(INSTALL, "uninstall")

    take(box, "/opt/inboxd/current")

    files_what_is_dropped(box)


def test_purging_leaves_nothing(box: Box) -> None:
    await_active(box)
    files_what_is_dropped(box)

    box.run(INSTALL, "purge", "--yes")

    left = [path for path in ("/etc/inboxd", "/opt/inboxd", "/var/lib/inboxd", ROOT) if box.path(path).exists()]
    assert left == []
    assert box.run("id", "inboxd", check=False).returncode != 0


def test_redis_through_a_socket_needs_no_network(box: Box) -> None:
    await_active(box)
    use_drop_in(box, "unix-redis.conf", *SERVICES)
    box.run("usermod", "--append", "--groups", "redis", "inboxd")
    box.path(REDIS_URL).write_text("unix:///run/redis/redis.sock\n")

    begin_anew(box, *SERVICES)

    files_what_is_dropped(box)
    networks = {service: box.run("readlink", f"/proc/{box.pid(service)}/ns/net").stdout for service in SERVICES}
    assert box.run("readlink", "/proc/1/ns/net").stdout not in networks.values()


def test_an_encrypted_url_is_decrypted_for_the_services(box: Box) -> None:
    await_active(box)
    use_drop_in(box, "encrypted-redis-url.conf", *SERVICES)
    box.run("systemd-creds", "encrypt", "--with-key=host", "--name=redis-url", REDIS_URL, f"{REDIS_URL}.cred")
    box.path(REDIS_URL).unlink()

    begin_anew(box, *SERVICES)

    files_what_is_dropped(box)


def test_private_files_are_read_with_the_drop_in_and_refused_with_the_reason_without(box: Box) -> None:
    await_active(box)
    put = f'umask 077; echo private >"$HOME/$1"; mv "$HOME/$1" {ROOT}/inbox/'
    box.run("env", "HOME=/home/alice", "sh", "-c", put, "sh", "one.txt", user="alice")
    box.wait_until(lambda: box.path(f"{ROOT}/failed/one.txt.error.txt").exists(), what="one.txt is refused")
    use_drop_in(box, "read-private-files.conf", WATCHER, WORKER)
    begin_anew(box, WATCHER, WORKER)

    box.run("env", "HOME=/home/alice", "sh", "-c", put, "sh", "two.txt", user="alice")

    box.wait_until(lambda: is_done(box, "two.txt"), what="two.txt is in done/")
