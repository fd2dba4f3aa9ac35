"""A Redis elsewhere, and hosts that help: boxes with a cable between them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    BEAT,
    REDIS_URL,
    ROOT,
    SERVICES,
    SETTINGS,
    WATCHER,
    WORKER,
    await_active,
    begin_anew,
    drop,
    edit,
    is_done,
    seen,
    use_drop_in,
)

pytestmark = pytest.mark.systemd

OWNER, HELPER = "10.9.8.1", "10.9.8.2"
URL = f"redis://{OWNER}:6379/0\n"


def connect(boxes: dict[str, Box]) -> None:
    """Lay a cable between two boxes, and give its ends these addresses."""
    one, other = (str(box.leader) for box in boxes.values())
    cable = ("type", "veth", "peer", "name", "cable", "netns", other)
    subprocess.run(["ip", "link", "add", "name", "cable", "netns", one, *cable], check=True)
    for address, box in boxes.items():
        box.run("ip", "address", "add", f"{address}/24", "dev", "cable")
        box.run("ip", "link", "set", "cable", "up")


def open_redis(box: Box) -> None:
    """Let the box's Redis listen to other hosts, too."""
    edit(box, "/etc/systemd/system/redis-server.service", "--bind 127.0.0.1", f"--bind 127.0.0.1 {OWNER} --protected-mode no")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", "redis-server")


def test_a_redis_elsewhere_is_reached_with_the_drop_in_and_not_without(box: Box) -> None:
    await_active(box)
    box.run("ip", "address", "add", f"{OWNER}/32", "dev", "lo")  # no loopback address: the sandbox takes it for another host
    open_redis(box)
    box.path(REDIS_URL).write_text(URL)
    now = box.now()
    begin_anew(box, *SERVICES)
    drop(box, "a.txt")
    box.wait_until(lambda: box.journal(now, "-u", WATCHER, "EVENT=broker_unavailable"), what="Redis is out of reach")
    assert not is_done(box, "a.txt")

    use_drop_in(box, "remote-redis.conf", *SERVICES)
    begin_anew(box, *SERVICES)

    box.wait_until(lambda: is_done(box, "a.txt"), what="a.txt is in done/")


@pytest.fixture
def helper(boot_with: Callable[[dict[str, str]], Box]) -> Box:
    """Boot a host that was made a helper as docs/operations.md says, and has no drop folder."""
    box = boot_with({"/etc/hostname": "helper\n", REDIS_URL: URL})
    use_drop_in(box, "helper-host.conf", WORKER)
    box.run("systemctl", "mask", "--now", "--quiet", WATCHER, BEAT)
    box.run("rm", "-r", ROOT)
    return box


def test_a_helper_works_on_small_files_and_the_owner_files_them(box: Box, helper: Box) -> None:
    await_active(box)
    connect({OWNER: box, HELPER: helper})
    open_redis(box)
    begin_anew(helper, WORKER)
    box.run("systemctl", "stop", WORKER)
    large = Path(ROOT, "inbox", "large.bin")

    drop(box, "small.txt")
    box.run("sh", "-c", f"head -c 100000 /dev/zero >{large}", user="alice")

    helper.wait_until(lambda: seen(helper, "small.txt") == [1], what="the helper's handler is called")
    assert not is_done(box, "small.txt")  # the owner's folders are the owner's business
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "small.txt") and is_done(box, large.name), what="both are in done/")
    assert (seen(box, "small.txt"), seen(helper, "small.txt")) == ([], [1])
    assert (seen(box, large.name), seen(helper, large.name)) == ([1], [])


def test_a_helper_takes_up_settings_whose_folders_it_does_not_have(box: Box, helper: Box) -> None:
    connect({OWNER: box, HELPER: helper})
    open_redis(box)
    begin_anew(helper, WORKER)
    before, now = helper.pid(WORKER), helper.now()
    edit(helper, SETTINGS, "settle_seconds = 0.1", "settle_seconds = 0.2")

    helper.run("systemctl", "reload", WORKER)

    helper.wait_until(lambda: helper.journal(now, "-u", WORKER, "EVENT=settings_applied"), what="the change is taken up")
    assert helper.pid(WORKER) == before
