"""Redis on another host, and helper hosts: two boxes with a virtual network link."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    BEAT,
    INBOXD,
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
    is_done,
    kill_and_restart,
    use_drop_in,
)
from support.boxes.tls_redis import denied_commands, start_tls_redis

pytestmark = pytest.mark.systemd

OWNER, HELPER = "10.9.8.1", "10.9.8.2"
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
