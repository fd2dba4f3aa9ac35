"""Redis on another host, and helper hosts: two boxes with a virtual network link."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    BEAT,
    ETC_UNITS,
    INBOXD,
    INSTALL,
    PASSWORD,
    REDIS_URL,
    ROOT,
    SERVICES,
    SETTINGS,
    WATCHER,
    WORKER,
    attempts,
    await_active,
    drop,
    edit,
    install,
    is_done,
    kill_and_restart,
    use_drop_in,
)
from support.boxes.tls_redis import denied_commands, start_tls_redis
from support.client_servers import ssh_server
from support.processes import kill_family

pytestmark = pytest.mark.systemd

OWNER, HELPER = "10.9.8.1", "10.9.8.2"
ONLY_FILES = """\
[Service]
ExecStart=
ExecStart=/opt/inboxd/current/bin/celery -q -A inboxd worker --hostname=inboxd@%%h -Q inboxd.host.%H
"""
"""A drop-in with which the owner's worker uploads and files, but handles nothing."""
SFTP_PORT, GIGABYTE, STATE = 2222, 1_000_000_000, "/var/lib/inboxd"
URL = f"redis://:{PASSWORD}@{OWNER}:6379/0\n"


def connect(boxes: dict[str, Box]) -> None:
    """Connect two boxes by a virtual network link, whose ends get these addresses."""
    first, second = (str(box.leader) for box in boxes.values())
    peer = ("type", "veth", "peer", "name", "veth0", "netns", second)
    subprocess.run(["ip", "link", "add", "name", "veth0", "netns", first, *peer], check=True)
    for address, box in boxes.items():
        box.run("ip", "address", "add", f"{address}/24", "dev", "veth0")
        box.run("ip", "link", "set", "veth0", "up")


def open_redis(box: Box) -> None:
    """Make the box's Redis reachable from other hosts."""
    edit(box, "/etc/systemd/system/redis-server.service", "--bind 127.0.0.1", f"--bind 127.0.0.1 {OWNER} --protected-mode no")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", "redis-server")


def test_a_remote_redis_is_reachable_only_with_the_drop_in(box: Box) -> None:
    await_active(box)
    box.run("ip", "address", "add", f"{OWNER}/32", "dev", "lo")  # the sandbox blocks it like another host's address
    open_redis(box)
    box.path(REDIS_URL).write_text(URL)
    now = box.now()
    kill_and_restart(box, *SERVICES)
    drop(box, "a.txt")
    box.wait_until(lambda: box.journal(now, "-u", WATCHER, "EVENT=broker_unavailable"), goal="Redis is unreachable")
    assert not is_done(box, "a.txt")

    use_drop_in(box, "remote-redis.conf", *SERVICES)
    kill_and_restart(box, *SERVICES)

    box.wait_until(lambda: is_done(box, "a.txt"), goal="a.txt is in done/")


@pytest.fixture
def helper(boot_with: Callable[[dict[str, str]], Box]) -> Box:
    """Boot a box configured as a helper host, as docs/operations.md says, without inboxes."""
    box = boot_with({"/etc/hostname": "helper\n", REDIS_URL: URL})
    use_drop_in(box, "helper-host.conf", WORKER)
    box.run("systemctl", "mask", "--now", "--quiet", WATCHER, BEAT)
    box.run("rm", "-r", ROOT)
    return box


def test_a_helper_processes_small_files_and_the_owner_files_them(box: Box, helper: Box) -> None:
    await_active(box)
    connect({OWNER: box, HELPER: helper})
    open_redis(box)
    kill_and_restart(helper, WORKER)
    box.run("systemctl", "stop", WORKER)
    large = Path(ROOT, "inbox", "large.bin")

    drop(box, "small.txt")
    box.run("sh", "-c", f"head -c 100000 /dev/zero >{large}", user="alice")

    helper.wait_until(lambda: attempts(helper, "small.txt") == [1], goal="the helper's handler is called")
    assert not is_done(box, "small.txt")  # only the owner's worker can file it
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "small.txt") and is_done(box, large.name), goal="both are in done/")
    assert (attempts(box, "small.txt"), attempts(helper, "small.txt")) == ([], [1])
    assert (attempts(box, large.name), attempts(helper, large.name)) == ([1], [])


def test_a_helper_works_over_tls_with_the_least_rights(box: Box, helper: Box) -> None:
    await_active(box)
    connect({OWNER: box, HELPER: helper})
    url = start_tls_redis(box, OWNER, helper)
    use_drop_in(box, "remote-redis.conf", *SERVICES)
    for host in (box, helper):
        host.path(REDIS_URL).write_text(url)
    kill_and_restart(box, *SERVICES)
    kill_and_restart(helper, WORKER)
    await_active(box)
    box.run("systemctl", "stop", WORKER)

    drop(box, "small.txt")

    helper.wait_until(lambda: attempts(helper, "small.txt") == [1], goal="the helper's handler is called")
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "small.txt"), goal="it is in done/")
    status = box.run(INBOXD, "status", check=False)
    assert f"broker   ok (rediss://{OWNER}:6380/0)" in status.stdout
    assert "without a password" not in status.stdout
    assert "workers  2" in status.stdout
    assert denied_commands(box, OWNER).strip() == ""


def test_a_server_on_another_host_that_asks_for_no_password_is_refused(box: Box) -> None:
    await_active(box)
    box.run("ip", "address", "add", f"{OWNER}/32", "dev", "lo")
    open_redis(box)
    edit(box, "/etc/systemd/system/redis-server.service", f"--requirepass {PASSWORD}", "")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", "redis-server")
    use_drop_in(box, "remote-redis.conf", *SERVICES)
    box.path(REDIS_URL).write_text(f"redis://{OWNER}:6379/0\n")

    box.run("systemctl", "restart", WATCHER, check=False)

    box.wait_until(
        lambda: "everybody in the network" in box.run("journalctl", "-u", WATCHER, "-o", "cat").stdout, goal="refused"
    )
    assert "everybody in the network" in box.run(INBOXD, "check", check=False).stderr
    assert box.run(INBOXD, "check", check=False).returncode == 2


def test_a_helper_reloads_settings_whose_folders_it_does_not_have(box: Box, helper: Box) -> None:
    connect({OWNER: box, HELPER: helper})
    open_redis(box)
    kill_and_restart(helper, WORKER)
    before, now = helper.pid(WORKER), helper.now()
    edit(helper, SETTINGS, "settle_seconds = 0.1", "settle_seconds = 0.2")

    helper.run("systemctl", "reload", WORKER)

    helper.wait_until(lambda: helper.journal(now, "-u", WORKER, "EVENT=settings_applied"), goal="the change is applied")
    assert helper.pid(WORKER) == before


@pytest.fixture
def sftp(box: Box, tmp_path: Path) -> Iterator[Path]:
    """Run OpenSSH's server on the owner's network, for the folder of a store; return the folder with it and the keys."""
    top = tmp_path / "sftp"
    (top / "store").mkdir(parents=True)
    argv = ssh_server(top, SFTP_PORT)
    server_settings = top / "sshd_config"
    server_settings.write_text(server_settings.read_text().replace("127.0.0.1", "0.0.0.0"))
    (top / "known_hosts").write_text(f"[{OWNER}]:{SFTP_PORT} {(top / 'host_key.pub').read_text()}")
    with subprocess.Popen(["nsenter", "--net", "--target", str(box.leader), *argv], stderr=subprocess.DEVNULL) as server:
        yield top
        kill_family(server)


def use_store(host: Box, sftp: Path) -> None:
    """Have a host use the store, as docs/stage.md says."""
    for name in ("client_key", "known_hosts"):
        target = host.path(f"/etc/inboxd/{name}")
        target.write_text((sftp / name).read_text())
        host.run("chown", "root:inboxd", f"/etc/inboxd/{name}")
        host.run("chmod", "640", f"/etc/inboxd/{name}")
    host.path("/etc/inboxd/stage.toml").write_text('client_keys = ["/etc/inboxd/client_key"]\n')
    host.run("chmod", "600", "/etc/inboxd/stage.toml")
    with host.path(SETTINGS).open("a") as settings:
        settings.write(
            f'\n[stage]\nurl = "sftp://root@{OWNER}:{SFTP_PORT}{sftp}/store"\n'
            'secret_file = "/etc/inboxd/stage.toml"\noptions = { known_hosts = "/etc/inboxd/known_hosts" }\n'
        )


def test_a_gigabyte_reaches_a_helper_by_the_store_although_it_is_killed_twice(box: Box, helper: Box, sftp: Path) -> None:
    await_active(box)
    connect({OWNER: box, HELPER: helper})
    open_redis(box)
    hosts = (box, helper)
    for host in hosts:
        use_store(host, sftp)
    refused = box.run(INSTALL, "--wheels", "/mnt/wheels", check=False)
    assert refused.returncode == 2
    assert "install.sh --stage" in refused.stderr
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: install(host, "--stage"), hosts))
    only_files = f"{ETC_UNITS}/{WORKER}.d/only-files.conf"
    box.path(only_files).parent.mkdir(exist_ok=True)
    box.path(only_files).write_text(ONLY_FILES)
    box.run("systemctl", "daemon-reload")
    kill_and_restart(box, WORKER)
    box.run("sh", "-c", f"head -c {GIGABYTE} /dev/urandom >/srv/inboxd/digest.bin")
    expected = box.run("sha256sum", "/srv/inboxd/digest.bin").stdout.split()[0]

    box.run("mv", "/srv/inboxd/digest.bin", f"{ROOT}/inbox/digest.bin")

    for attempt in (1, 2):
        helper.wait_until(lambda attempt=attempt: helper.path(f"{STATE}/half{attempt}").exists(), 90, goal="half is read")
        kill_and_restart(helper, WORKER)
    box.wait_until(lambda: is_done(box, "digest.bin"), 120, goal="it is in done/")
    assert helper.path(f"{STATE}/digest").read_text() == f"None {expected}"
    assert attempts(helper, "digest.bin") == [1, 2, 3]
    assert attempts(box, "digest.bin") == []
    assert len(box.journal("-u", WORKER, "EVENT=file_staged")) == 1
    box.wait_until(lambda: not [path for path in sftp.rglob("store/**/*") if path.is_file()], goal="the copy is removed")
