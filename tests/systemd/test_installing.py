"""Installation, synchronization, upgrade, rollback and removal, on a booted systemd."""

import subprocess
import time
from pathlib import PurePath

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    BEAT,
    ETC_UNITS,
    FIRST_SETTINGS,
    INBOXD,
    INSTALL,
    LOCAL_URL,
    PASSWORD,
    REDIS_URL,
    ROOT,
    SERVER_SERVICE,
    SERVICES,
    SETTINGS,
    SOCKET_EXPOSURE,
    UNITS,
    WATCHER,
    WORKER,
    add_inbox,
    assert_dropped_file_is_filed,
    attempts,
    await_active,
    drop,
    edited,
    exposure,
    install,
    is_done,
    kill_and_restart,
    pids,
    use_drop_in,
)

pytestmark = pytest.mark.systemd

RELEASES = "/opt/inboxd/releases"


def inboxd(box: Box, *arguments: str, check: bool = True) -> str:
    """Run the installed command; return its output."""
    result = box.run(INBOXD, *arguments, check=check)
    return result.stdout + result.stderr


def copy_release(box: Box, name: str = "29991231T000000") -> str:
    """Create a release by copying the current one, which is faster than an installation; return its folder."""
    release = f"{RELEASES}/{name}"
    box.run("cp", "-a", box.run("readlink", "-f", "/opt/inboxd/current").stdout.strip(), release)
    return release


def install_release(box: Box, release: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Switch to an existing release, as the last step of install.sh does."""
    return box.run(f"{release}/bin/python", "-m", "inboxd", "systemd", "install", check=check)


def test_a_first_installation_creates_settings_and_an_inbox_and_starts_the_services(empty_box: Box) -> None:
    output = install(empty_box)

    assert "wrote first settings" in output
    page = empty_box.path("/usr/local/share/man/man1/inboxd-retry.1")
    assert page.readlink() == PurePath("/opt/inboxd/current/share/man/man1/inboxd-retry.1")
    assert empty_box.path("/usr/local/share/bash-completion/completions/inboxd").is_symlink()
    assert empty_box.path(REDIS_URL).stat().st_mode & 0o777 == 0o600
    empty_box.run("usermod", "--append", "--groups", "inboxd-drop", "alice")
    assert_dropped_file_is_filed(empty_box)
    assert "sandbox: matches the settings" in inboxd(empty_box, "systemd", "status")
    assert "broker   ok (unix:///var/lib/inboxd/valkey/valkey.sock)" in inboxd(empty_box, "status")
    assert "you may not read this file" in empty_box.run("runuser", "-u", "inboxd", "--", INBOXD, "status", check=False).stderr


def test_without_a_redis_inboxd_runs_a_server_that_only_its_group_reaches(empty_box: Box) -> None:
    empty_box.run("systemctl", "disable", "--now", "--quiet", "redis-server")
    socket = "/var/lib/inboxd/valkey/valkey.sock"

    install(empty_box)

    empty_box.run("usermod", "--append", "--groups", "inboxd-drop", "alice")
    assert_dropped_file_is_filed(empty_box)
    assert len(empty_box.run("ss", "--listening", "--tcp", "--udp", "--numeric", "--no-header").stdout.split()) == 0
    for path in (
        socket,
        "/var/lib/inboxd/valkey",
        "/etc/inboxd",
        "/etc/inboxd/settings.toml",
        f"{ROOT}/claimed",
        f"{ROOT}/done",
    ):
        result = empty_box.run("ls", "-l", path, user="bob", check=False)
        assert "Permission denied" in result.stderr, path
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('" + socket + "')"
    assert "PermissionError" in empty_box.run("/usr/bin/python3", "-c", connect, user="bob", check=False).stderr
    assert "status=0" in empty_box.run("sh", "-c", f'{INBOXD} check >/dev/null; echo "status=$?"').stdout
    assert exposure(empty_box, SERVER_SERVICE) <= SOCKET_EXPOSURE


def test_the_own_server_keeps_what_it_has_over_a_restart_and_a_kill(empty_box: Box) -> None:
    empty_box.run("systemctl", "disable", "--now", "--quiet", "redis-server")
    install(empty_box)
    empty_box.run("usermod", "--append", "--groups", "inboxd-drop", "alice")
    assert_dropped_file_is_filed(empty_box)
    before = [empty_box.pid(service) for service in SERVICES]

    empty_box.run("systemctl", "stop", WORKER)
    drop(empty_box, "waits.txt")
    empty_box.wait_until(lambda: not empty_box.path(f"{ROOT}/inbox/waits.txt").exists(), goal="the file is claimed")
    time.sleep(1.5)  # the server's file is written each second
    empty_box.run("systemctl", "kill", "--signal=KILL", SERVER_SERVICE)
    empty_box.wait_until(lambda: empty_box.show(SERVER_SERVICE, "NRestarts") == "1", goal="the server runs again")
    empty_box.run("systemctl", "start", WORKER)

    empty_box.wait_until(lambda: is_done(empty_box, "waits.txt"), goal="the file is in done/")
    assert [empty_box.pid(WATCHER), empty_box.pid(BEAT)] == [before[0], before[2]]


def test_once_the_settings_name_a_server_the_own_one_is_removed(empty_box: Box) -> None:
    install(empty_box)
    assert empty_box.show(SERVER_SERVICE, "ActiveState") == "active"
    empty_box.path(REDIS_URL).write_text(LOCAL_URL)

    output = inboxd(empty_box, "systemd", "install")

    assert f"removed {SERVER_SERVICE}" in output
    assert empty_box.show(SERVER_SERVICE, "LoadState") == "not-found"
    assert "broker   ok (redis://127.0.0.1:6379/0)" in inboxd(empty_box, "status")


def test_an_interpreter_that_the_sandbox_hides_is_refused(empty_box: Box) -> None:
    empty_box.run("sh", "-c", "cp /usr/bin/python3 /root/python3")

    result = empty_box.run("env", "PYTHON=/root/python3", INSTALL, "--wheels", "/mnt/wheels", check=False)

    assert result.returncode == 2
    assert "sandbox hides /root" in result.stderr


def test_invalid_settings_are_refused_and_the_services_keep_running(shared_box: Box) -> None:
    before = pids(shared_box), shared_box.run("readlink", "/opt/inboxd/current").stdout

    with edited(shared_box, SETTINGS, "root = ", "roof = "):
        result = shared_box.run(INSTALL, "--wheels", "/mnt/wheels", check=False)

    assert result.returncode == 2
    assert "did you mean root?" in result.stderr
    assert before == (pids(shared_box), shared_box.run("readlink", "/opt/inboxd/current").stdout)


def test_a_handler_that_the_services_user_can_not_import_is_refused(box: Box) -> None:
    box.path("/etc/inboxd/box_handlers.py").chmod(0o600)

    result = install_release(box, "/opt/inboxd/current", check=False)

    assert result.returncode == 2
    assert "can't be imported" in result.stderr


def test_an_upgrade_with_files_in_flight_loses_none_and_can_be_rolled_back(box: Box) -> None:
    await_active(box)
    first = box.run("readlink", "/opt/inboxd/current").stdout
    second = copy_release(box)
    names = [f"brief{number}.txt" for number in range(40)]  # a second each: longer than the installation of a release
    for name in names:
        drop(box, name)
    box.wait_until(lambda: attempts(box, names[0]), goal="a handler runs")

    install_release(box, second)

    assert not all(is_done(box, name) for name in names), "no file was in flight"
    for name in names:
        box.wait_until(lambda name=name: is_done(box, name), goal=f"{name} is in done/")
    assert [name for name in names if attempts(box, name) != [1]] == []
    assert box.run("readlink", "-f", "/opt/inboxd/current").stdout.strip() == second
    inboxd(box, "systemd", "rollback")
    assert box.run("readlink", "/opt/inboxd/current").stdout == first
    assert_dropped_file_is_filed(box)


def test_two_releases_are_kept(box: Box) -> None:
    releases = [copy_release(box, f"2999123{number}T000000") for number in range(2)]

    install_release(box, releases[-1])

    assert sorted(str(path) for path in box.path(RELEASES).iterdir()) == sorted(str(box.path(path)) for path in releases)


def test_a_release_whose_services_do_not_start_is_rolled_back(box: Box) -> None:
    await_active(box)
    before = box.run("readlink", "/opt/inboxd/current").stdout
    second = copy_release(box)
    box.path(f"{ETC_UNITS}/{WATCHER}.d").mkdir()
    guard = "[Service]\nExecStartPre=/bin/sh -c '[ \"$(readlink /opt/inboxd/current)\" = %s ]'\n"
    box.path(f"{ETC_UNITS}/{WATCHER}.d/only-the-first.conf").write_text(guard % before.strip())

    result = install_release(box, second, check=False)

    assert result.returncode == 2
    assert "switched back to the previous release" in result.stderr
    assert box.run("readlink", "/opt/inboxd/current").stdout == before
    assert_dropped_file_is_filed(box)


def test_a_sync_adds_a_new_inbox_without_a_restart(box: Box) -> None:
    root = "/srv/with space/100%"
    await_active(box)
    before, now = pids(box), box.now()
    drop(box, "brief.txt")
    box.wait_until(lambda: attempts(box, "brief.txt"), goal="a handler runs")
    add_inbox(box, "more", root)

    refused = inboxd(box, "check", check=False)
    output = inboxd(box, "systemd", "sync")

    assert "sudo inboxd systemd sync" in refused or "create it" in refused
    assert f"reloaded the settings: {root}" in output
    for service in SERVICES:
        applied = (now, "-u", service, "EVENT=settings_applied", 'ADDED=["more"]')
        box.wait_until(lambda applied=applied: box.journal(*applied), goal=f"{service} has the inbox")
    drop(box, "m.txt", root=root)
    box.wait_until(lambda: is_done(box, "m.txt", root) and is_done(box, "brief.txt"), goal="both files are in done/")
    assert pids(box) == before
    assert attempts(box, "brief.txt") == [1]
    assert "matches the settings" in inboxd(box, "systemd", "sync")
    box.run("systemctl", "kill", "--signal=KILL", *SERVICES)
    drop(box, "n.txt", root=root)
    box.wait_until(lambda: is_done(box, "n.txt", root), goal="restarted services have the inbox, too")


def test_a_sync_after_one_that_was_refused_is_not_idle(box: Box) -> None:
    await_active(box)
    add_inbox(box, "more", "/srv/more")
    with edited(box, SETTINGS, "[inbox.more]\n", '[inbox.more]\nhandler = "nowhere:handle"\n'):
        refused = inboxd(box, "systemd", "sync", check=False)
    box.run("systemctl", "daemon-reload")

    output = inboxd(box, "systemd", "sync")

    assert "can't be imported" in refused
    assert "/srv/more" in output
    drop(box, "m.txt", root="/srv/more")
    box.wait_until(lambda: is_done(box, "m.txt", "/srv/more"), goal="the new inbox works")


def test_a_sync_compares_the_settings_with_what_runs_and_not_with_what_lies_on_the_disk(box: Box) -> None:
    await_active(box)
    paths = [SETTINGS, *(f"{UNITS}/{service}.d/50-inboxes.conf" for service in (WATCHER, WORKER))]
    before = [box.path(path).read_text() for path in paths]
    add_inbox(box, "more", "/srv/more")
    inboxd(box, "systemd", "sync")
    after = [box.path(path).read_text() for path in paths]
    for path, text in zip(paths, before, strict=True):
        box.path(path).write_text(text)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", WATCHER, WORKER)
    for path, text in zip(paths, after, strict=True):  # as an earlier sync leaves them that ended after it wrote the files
        box.path(path).write_text(text)

    output = inboxd(box, "systemd", "sync")

    assert "added to the running services, which reloaded the settings: /srv/more" in output
    drop(box, "m.txt", root="/srv/more")
    box.wait_until(lambda: is_done(box, "m.txt", "/srv/more"), goal="the new inbox works")


def test_handlers_may_write_to_the_folders_that_the_settings_name_and_dropped_files_can_not_be_executed(box: Box) -> None:
    await_active(box)
    box.run("install", "-d", "-o", "inboxd", "/srv/out")
    with edited(box, SETTINGS, "stop_seconds = 2.0", 'stop_seconds = 2.0, writable = ["/srv/out"]'):
        output = inboxd(box, "systemd", "sync")

        assert "/srv/out" in output
        for service, is_writable in ((WORKER, True), (WATCHER, False)):
            inside = ("nsenter", "--mount", f"--target={box.pid(service)}")
            assert (box.run(*inside, "touch", "/srv/out/x", check=False).returncode == 0) == is_writable
            assert box.run(*inside, "touch", f"{ROOT}/done/x", check=False).returncode == 0
    box.run("systemctl", "restart", WORKER)
    box.run("cp", "/bin/true", f"{ROOT}/claimed/program")
    inside = ("nsenter", "--mount", f"--target={box.pid(WORKER)}")
    assert "Permission denied" in box.run(*inside, f"{ROOT}/claimed/program", check=False).stderr
    box.run("rm", f"{ROOT}/claimed/program", f"{ROOT}/done/x")
    assert_dropped_file_is_filed(box)


def test_a_sync_removes_a_removed_inbox_from_the_sandbox(box: Box) -> None:
    add_inbox(box, "more", "/srv/more")
    inboxd(box, "systemd", "sync")
    box.path(SETTINGS).write_text(FIRST_SETTINGS)

    output = inboxd(box, "systemd", "sync")

    assert "restarted " in output
    assert_dropped_file_is_filed(box)
    inside = ("nsenter", "--mount", f"--target={box.pid(WATCHER)}", "touch", "/srv/more/inbox/x")
    assert "Read-only" in box.run(*inside, check=False).stderr


def test_an_inbox_in_a_home_folder_works_after_a_sync(box: Box) -> None:
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
    box.wait_until(lambda: is_done(box, "h.txt", "/home/alice/drop"), goal="h.txt is in done/")


def test_an_inbox_in_tmp_is_refused(shared_box: Box) -> None:
    with edited(shared_box, SETTINGS, "[inbox.drop]", '[inbox.temporary]\nroot = "/tmp/drop"\n\n[inbox.drop]'):
        output = inboxd(shared_box, "systemd", "sync", check=False)

    assert "private to each service" in output


def test_a_second_installation_is_an_upgrade_and_keeps_an_administrators_permissions(box: Box) -> None:
    first = box.run("readlink", "/opt/inboxd/current").stdout
    box.path(f"{ROOT}/inbox").chmod(0o2770)

    install(box)

    assert box.run("readlink", "/opt/inboxd/current").stdout != first
    assert_dropped_file_is_filed(box)
    assert box.path(f"{ROOT}/inbox").stat().st_mode & 0o7777 == 0o2770


def test_uninstall_keeps_settings_and_files(box: Box) -> None:
    await_active(box)
    drop(box, "a.txt")
    box.wait_until(lambda: is_done(box, "a.txt"), goal="a.txt is in done/")
    box.run("systemctl", "stop", "redis-server")
    drop(box, "left.txt")

    box.run(INSTALL, "uninstall")

    assert [box.show(service, "LoadState") for service in SERVICES] == ["not-found"] * 3
    assert is_done(box, "a.txt")
    assert box.path(f"{ROOT}/inbox/left.txt").exists() or list(box.path(f"{ROOT}/claimed").iterdir())
    assert box.path(SETTINGS).read_text() == FIRST_SETTINGS
    assert not list(box.path(UNITS).glob("inboxd*"))
    assert not list(box.path("/usr/local/share/man/man1").glob("inboxd*"))


def test_inboxd_can_be_installed_again_after_uninstall(box: Box) -> None:
    await_active(box)
    box.run(INSTALL, "uninstall")

    install_release(box, "/opt/inboxd/current")

    assert_dropped_file_is_filed(box)


def test_purge_removes_everything(box: Box) -> None:
    await_active(box)
    assert_dropped_file_is_filed(box)

    box.run(INSTALL, "purge", "--yes")

    remaining = [path for path in ("/etc/inboxd", "/opt/inboxd", "/var/lib/inboxd", ROOT) if box.path(path).exists()]
    assert remaining == []
    assert box.run("id", "inboxd", check=False).returncode != 0


def test_redis_on_a_unix_socket_needs_no_network(box: Box) -> None:
    await_active(box)
    use_drop_in(box, "unix-redis.conf", *SERVICES)
    box.run("usermod", "--append", "--groups", "redis", "inboxd")
    box.path(REDIS_URL).write_text(f"unix://:{PASSWORD}@/run/redis/redis.sock\n")

    kill_and_restart(box, *SERVICES)

    assert_dropped_file_is_filed(box)
    networks = {service: box.run("readlink", f"/proc/{box.pid(service)}/ns/net").stdout for service in SERVICES}
    assert box.run("readlink", "/proc/1/ns/net").stdout not in networks.values()


def test_an_encrypted_url_is_decrypted_for_the_services(box: Box) -> None:
    await_active(box)
    use_drop_in(box, "encrypted-redis-url.conf", *SERVICES)
    box.run("systemd-creds", "encrypt", "--with-key=host", "--name=redis-url", REDIS_URL, f"{REDIS_URL}.cred")
    box.path(REDIS_URL).unlink()

    kill_and_restart(box, *SERVICES)

    assert_dropped_file_is_filed(box)


def test_private_files_are_refused_without_the_drop_in_and_read_with_it(box: Box) -> None:
    await_active(box)
    drop_private = f'umask 077; echo private >"$HOME/$1"; mv "$HOME/$1" {ROOT}/inbox/'
    box.run("env", "HOME=/home/alice", "sh", "-c", drop_private, "sh", "one.txt", user="alice")
    box.wait_until(lambda: box.path(f"{ROOT}/failed/one.txt.error.txt").exists(), goal="one.txt is refused")
    use_drop_in(box, "read-private-files.conf", WATCHER, WORKER)
    kill_and_restart(box, WATCHER, WORKER)

    box.run("env", "HOME=/home/alice", "sh", "-c", drop_private, "sh", "two.txt", user="alice")

    box.wait_until(lambda: is_done(box, "two.txt"), goal="two.txt is in done/")
