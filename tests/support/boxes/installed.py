"""inboxd in a box: its paths and services, an administrator's and a dropper's actions, and checks of its behaviour."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager

from support.boxes.box import Box

ROOT = "/srv/inboxd/drop"
SETTINGS = "/etc/inboxd/settings.toml"
REDIS_URL = "/etc/inboxd/redis-url"
INBOXD = "/opt/inboxd/current/bin/inboxd"
INSTALL = "/mnt/inboxd/deploy/install.sh"
UNITS = "/usr/local/lib/systemd/system"
ETC_UNITS = "/etc/systemd/system"
WATCHER, WORKER, BEAT = SERVICES = ("inboxd-watcher.service", "inboxd-worker.service", "inboxd-beat.service")

PASSWORD = "box-secret"
LOCAL_URL = f"redis://:{PASSWORD}@127.0.0.1:6379/0\n"
SERVER_SERVICE = "inboxd-valkey.service"
SOCKET_EXPOSURE = 0.4
"""Maximum exposure of a service that uses no network."""

FAILURE_EVENTS = ("parcel_crashed", "file_retried", "file_failed")
"""Events that count against a file."""

FIRST_SETTINGS = f"""\
state_dir = "/var/lib/inboxd"
work = {{ concurrency = 2, lease_seconds = 3.0, stop_seconds = 2.0 }}
sweep = {{ missed_seconds = 1.0, stale_seconds = 1.0, grace_seconds = 1.0 }}
defaults = {{ handler = "box_handlers:handle", settle_seconds = 0.1 }}

[inbox.drop]
root = "{ROOT}"
"""

_numbers = itertools.count(1)


def drop(box: Box, name: str, *, user: str = "alice", root: str = ROOT) -> None:
    """Write a file into an inbox as a member of the droppers' group."""
    box.run("sh", "-c", 'printf "%s" "$1" >"$1"', "sh", f"{root}/inbox/{name}", user=user)


def is_done(box: Box, name: str, root: str = ROOT) -> bool:
    """Return whether a file is in done/."""
    return box.path(f"{root}/done/{name}").is_file()


def attempts(box: Box, name: str) -> list[int]:
    """Return the attempt numbers of the handler's calls for a file, in order."""
    path = box.path("/var/lib/inboxd/calls")
    calls = [line.rpartition(" ") for line in path.read_text().splitlines()] if path.exists() else []
    return [int(attempt) for filename, _, attempt in calls if filename == name]


def pids(box: Box) -> list[int]:
    """Return the pids of the services' main processes."""
    return [box.pid(service) for service in SERVICES]


def are_active(box: Box) -> bool:
    """Return whether all three services are active."""
    return all(box.show(service, "ActiveState") == "active" for service in SERVICES)


def await_active(box: Box, seconds: float = 30.0) -> None:
    """Wait until all three services are active."""
    box.wait_until(lambda: are_active(box), seconds, goal="all three services are active")


def install(box: Box, *options: str) -> str:
    """Run install.sh without network; return its stdout. Fail the test if it fails."""
    return box.run(INSTALL, "--wheels", "/mnt/wheels", *options).stdout


def edit(box: Box, path: str, old: str, new: str) -> None:
    """Replace a text in a file of the box; fail the test if the file does not contain it."""
    text = box.path(path).read_text()
    assert old in text, f"{path} has no {old!r}"
    box.path(path).write_text(text.replace(old, new))


@contextmanager
def edited(box: Box, path: str, old: str, new: str) -> Iterator[None]:
    """Replace a text in a file of the box, and restore the file at the end of the context."""
    original = box.path(path).read_text()
    edit(box, path, old, new)
    try:
        yield
    finally:
        box.path(path).write_text(original)


def use_drop_in(box: Box, name: str, *services: str) -> None:
    """Install one of the provided drop-ins for some services, as its comment says."""
    for service in services:
        box.run("install", "-D", "-m", "644", f"/mnt/inboxd/deploy/systemd/drop-ins/{name}", f"{ETC_UNITS}/{service}.d/{name}")
    box.run("systemctl", "daemon-reload")


def kill_and_restart(box: Box, *services: str) -> None:
    """Kill and restart services."""
    box.run("systemctl", "kill", "--signal=KILL", *services)
    box.run("systemctl", "restart", *services)


def add_inbox(box: Box, name: str, root: str) -> None:
    """Add an inbox to the settings."""
    with box.path(SETTINGS).open("a") as settings:
        settings.write(f'\n[inbox.{name}]\nroot = "{root}"\n')


def shorten_watchdog(box: Box, unit: str) -> None:
    """Shorten a unit's watchdog timeout, if it has one.

    Also shorten the Redis timeouts: programs extend the watchdog timeout to what a blocked call to Redis may take.
    """
    path = box.path(f"{UNITS}/{unit}")
    short_timeouts = "Environment=INBOXD_REDIS__SOCKET_TIMEOUT_SECONDS=0.2 INBOXD_REDIS__CONNECT_TIMEOUT_SECONDS=0.2\n"
    path.write_text(re.sub(r"^WatchdogSec=.*$", f"WatchdogSec=2s\n{short_timeouts}", path.read_text(), flags=re.MULTILINE))
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", unit)


def is_as_installed(box: Box) -> bool:
    """Return whether a box is, except for dropped files, in the state after the installation."""
    return (
        box.path(SETTINGS).read_text() == FIRST_SETTINGS
        and not any(box.path(ETC_UNITS).glob("inboxd-*.d"))
        and box.show("redis-server", "ActiveState") == "active"
        and are_active(box)
    )


def exposure(box: Box, service: str) -> float:
    """Return systemd's exposure score of a service's sandbox, from 0 (best) to 10 (no sandbox)."""
    last = box.run("systemd-analyze", "security", "--no-pager", service).stdout.strip().splitlines()[-1]
    score = re.search(r": (\d+\.\d+) ", last)
    assert score, last
    return float(score[1])


# behaviour that must hold


def assert_dropped_file_is_filed(box: Box, seconds: float = 30.0) -> None:
    """Fail unless all services run, and a dropped file reaches done/."""
    await_active(box, seconds)
    name = f"{next(_numbers)}.txt"
    drop(box, name)
    box.wait_until(lambda: is_done(box, name), seconds, goal=f"{name} is in done/")


def assert_watchdog_restarts_watcher(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a watcher that hangs is restarted, and dropped files reach done/."""
    await_active(box, seconds)
    shorten_watchdog(box, WATCHER)
    before = box.pid(WATCHER)
    box.run("kill", "-STOP", str(before))
    box.wait_until(lambda: _is_restarted(box, before), seconds, goal="the watcher is restarted")
    assert_dropped_file_is_filed(box, seconds)


def _is_restarted(box: Box, before: int) -> bool:
    assert box.show(WATCHER, "ActiveState") != "failed", "systemd stopped restarting the watcher"
    return box.pid(WATCHER) not in (0, before)


def assert_stop_requeues_running_file(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a stop requeues the file of a running handler without a failure, and a start completes it.

    Only the worker gets a signal; processes that handlers started get none.
    """
    await_active(box, seconds)
    drop(box, "hold.txt")
    box.wait_until(lambda: attempts(box, "hold.txt"), seconds, goal="the handler runs")
    box.run("systemctl", "stop", WORKER)
    assert not box.path("/var/lib/inboxd/quit").exists(), "the handler's child process got SIGQUIT"
    assert not is_done(box, "hold.txt")
    assert box.show(WORKER, "Result") == "success", box.show(WORKER, "Result")
    box.path("/var/lib/inboxd/go").touch()
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "hold.txt"), seconds, goal="hold.txt is in done/")
    assert [line["MESSAGE"] for line in box.journal("-u", WORKER) if line.get("EVENT") in FAILURE_EVENTS] == []


def assert_stop_waits_for_short_handler(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a stop waits for a short handler, so that it is called once."""
    await_active(box, seconds)
    drop(box, "brief.txt")
    box.wait_until(lambda: attempts(box, "brief.txt"), seconds, goal="the handler runs")
    box.run("systemctl", "stop", WORKER)
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "brief.txt"), seconds, goal="brief.txt is in done/")
    assert attempts(box, "brief.txt") == [1]


def assert_droppers_are_isolated(box: Box, seconds: float = 30.0) -> None:
    """Fail if a dropper can list, read, change, rename or delete another's file; inboxd ignores the name "a.part"."""
    await_active(box, seconds)
    drop(box, "a.part", user="alice")
    inbox = f"{ROOT}/inbox"
    for command in (
        ("ls", inbox),
        ("cat", f"{inbox}/a.part"),
        ("sh", "-c", f"echo more >>{inbox}/a.part"),
        ("mv", "-f", f"{inbox}/a.part", f"{inbox}/b.part"),
        ("rm", "-f", f"{inbox}/a.part"),
        ("ls", f"{ROOT}/done"),
        ("ls", f"{ROOT}/claimed"),
    ):
        assert box.run(*command, user="bob", check=False).returncode != 0, command
    assert box.run("cat", f"{inbox}/a.part", user="alice").stdout == f"{inbox}/a.part"
    box.path(f"{inbox}/a.part").unlink()
