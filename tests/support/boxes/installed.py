"""inboxd in a box: where its parts are there, and what a person does with it."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager

from support.boxes.box import Box

ROOT = "/srv/inboxd/drop"
SETTINGS = "/etc/inboxd/settings.toml"
REDIS_URL = "/etc/inboxd/redis-url"
INSTALL = "/mnt/inboxd/deploy/install.sh"
UNITS = "/usr/local/lib/systemd/system"
CONFIGURED = "/etc/systemd/system"
WATCHER, WORKER, BEAT = SERVICES = ("inboxd-watcher.service", "inboxd-worker.service", "inboxd-beat.service")

BLAME = ("parcel_crashed", "file_retried", "file_failed")
"""Events by which a file's own account is charged."""

FIRST_SETTINGS = f"""\
state_dir = "/var/lib/inboxd"
work = {{ concurrency = 2, lease_seconds = 3.0, stop_seconds = 2.0 }}
sweep = {{ missed_seconds = 1.0, stale_seconds = 1.0, grace_seconds = 1.0 }}
defaults = {{ handler = "box_handlers:obey", settle_seconds = 0.1 }}

[inbox.drop]
root = "{ROOT}"
"""

_numbers = itertools.count(1)


def drop(box: Box, name: str, *, user: str = "alice", root: str = ROOT) -> None:
    """Drop a file, as a member of the group does it."""
    box.run("sh", "-c", 'printf "%s" "$1" >"$1"', "sh", f"{root}/inbox/{name}", user=user)


def is_done(box: Box, name: str, root: str = ROOT) -> bool:
    """Tell whether a file is in done/."""
    return box.path(f"{root}/done/{name}").is_file()


def seen(box: Box, name: str) -> list[int]:
    """Return which attempts of a file the handler was given, in order."""
    path = box.path("/var/lib/inboxd/seen")
    calls = [line.rpartition(" ") for line in path.read_text().splitlines()] if path.exists() else []
    return [int(attempt) for called, _, attempt in calls if called == name]


def pids(box: Box) -> list[int]:
    """Return the services' main processes."""
    return [box.pid(service) for service in SERVICES]


def are_active(box: Box) -> bool:
    """Tell whether all three services run and are ready."""
    return all(box.show(service, "ActiveState") == "active" for service in SERVICES)


def await_active(box: Box, seconds: float = 30.0) -> None:
    """Wait until all three services run."""
    box.wait_until(lambda: are_active(box), seconds, what="all three services are active")


def install(box: Box) -> str:
    """Run install.sh without a network; returns what it said. Fails the test when it fails."""
    return box.run(INSTALL, "--wheels", "/mnt/wheels").stdout


def edit(box: Box, path: str, old: str, new: str) -> None:
    """Replace a text in a file of the box; fail the test when it is not there."""
    text = box.path(path).read_text()
    assert old in text, f"{path} has no {old!r}"
    box.path(path).write_text(text.replace(old, new))


@contextmanager
def edited(box: Box, path: str, old: str, new: str) -> Iterator[None]:
    """Replace a text in a file of the box for a while."""
    before = box.path(path).read_text()
    edit(box, path, old, new)
    try:
        yield
    finally:
        box.path(path).write_text(before)


def use_drop_in(box: Box, name: str, *services: str) -> None:
    """Use one of the drop-ins that are shipped, as its first lines say."""
    for service in services:
        box.run("install", "-D", "-m", "644", f"/mnt/inboxd/deploy/systemd/drop-ins/{name}", f"{CONFIGURED}/{service}.d/{name}")
    box.run("systemctl", "daemon-reload")


def begin_anew(box: Box, *services: str) -> None:
    """Start services anew without waiting for a stop."""
    box.run("systemctl", "kill", "--signal=KILL", *services)
    box.run("systemctl", "restart", *services)


def add_inbox(box: Box, name: str, root: str) -> None:
    """Add an inbox to the settings."""
    with box.path(SETTINGS).open("a") as settings:
        settings.write(f'\n[inbox.{name}]\nroot = "{root}"\n')


def quicken(box: Box, unit: str) -> None:
    """Make a unit's watchdog impatient; one that has none stays as it is.

    A program asks for as much patience as a Redis that hangs may need; so that gets little time, too.
    """
    path = box.path(f"{UNITS}/{unit}")
    hurried = "Environment=INBOXD_REDIS__SOCKET_TIMEOUT_SECONDS=0.2 INBOXD_REDIS__CONNECT_TIMEOUT_SECONDS=0.2\n"
    path.write_text(re.sub(r"^WatchdogSec=.*$", f"WatchdogSec=2s\n{hurried}", path.read_text(), flags=re.MULTILINE))
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", unit)


def is_as_installed(box: Box) -> bool:
    """Tell whether a box is as it was when inboxd had been installed, but for what was dropped."""
    return (
        box.path(SETTINGS).read_text() == FIRST_SETTINGS
        and not any(box.path(CONFIGURED).glob("inboxd-*.d"))
        and box.show("redis-server", "ActiveState") == "active"
        and are_active(box)
    )


# what must hold, whichever way it is brought about


def files_what_is_dropped(box: Box, seconds: float = 30.0) -> None:
    """Fail unless all services run, and a dropped file is handled and filed."""
    await_active(box, seconds)
    name = f"{next(_numbers)}.txt"
    drop(box, name)
    box.wait_until(lambda: is_done(box, name), seconds, what=f"{name} is in done/")


def replaces_a_stopped_watcher(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a watcher that hangs is replaced, and its successor files."""
    await_active(box, seconds)
    quicken(box, WATCHER)
    before = box.pid(WATCHER)
    box.run("kill", "-STOP", str(before))
    box.wait_until(lambda: _is_another(box, before), seconds, what="another watcher")
    files_what_is_dropped(box, seconds)


def _is_another(box: Box, before: int) -> bool:
    assert box.show(WATCHER, "ActiveState") != "failed", "the watcher was given up"
    return box.pid(WATCHER) not in (0, before)


def gives_back_what_it_works_on(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a stop puts a running handler's file back unblamed, and a start brings it to its end.

    The worker alone is told to stop: what handlers have started hears of it from nobody.
    """
    await_active(box, seconds)
    drop(box, "hold.txt")
    box.wait_until(lambda: seen(box, "hold.txt"), seconds, what="the handler runs")
    box.run("systemctl", "stop", WORKER)
    assert not box.path("/var/lib/inboxd/told").exists(), "the handler's program was told to quit"
    assert not is_done(box, "hold.txt")
    assert box.show(WORKER, "Result") == "success", box.show(WORKER, "Result")
    box.path("/var/lib/inboxd/go").touch()
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "hold.txt"), seconds, what="hold.txt is in done/")
    assert [line["MESSAGE"] for line in box.journal("-u", WORKER) if line.get("EVENT") in BLAME] == []


def lets_what_is_brief_end(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a stop waits for handlers that end soon: they are called once."""
    await_active(box, seconds)
    drop(box, "brief.txt")
    box.wait_until(lambda: seen(box, "brief.txt"), seconds, what="the handler runs")
    box.run("systemctl", "stop", WORKER)
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "brief.txt"), seconds, what="brief.txt is in done/")
    assert seen(box, "brief.txt") == [1]


def keeps_droppers_apart(box: Box, seconds: float = 30.0) -> None:
    """Fail if one dropper can list, read, change, rename or delete another's files; "a.part" is a name that is left lying."""
    await_active(box, seconds)
    drop(box, "a.part", user="alice")
    inbox = f"{ROOT}/inbox"
    for attempt in (
        ("ls", inbox),
        ("cat", f"{inbox}/a.part"),
        ("sh", "-c", f"echo more >>{inbox}/a.part"),
        ("mv", "-f", f"{inbox}/a.part", f"{inbox}/b.part"),
        ("rm", "-f", f"{inbox}/a.part"),
        ("ls", f"{ROOT}/done"),
        ("ls", f"{ROOT}/claimed"),
    ):
        assert box.run(*attempt, user="bob", check=False).returncode != 0, attempt
    assert box.run("cat", f"{inbox}/a.part", user="alice").stdout == f"{inbox}/a.part"
    box.path(f"{inbox}/a.part").unlink()
