"""inboxd in a box: where its parts are there, and what a person does with it."""

import re
from pathlib import Path

import pytest
from support.box import Box

ROOT = "/srv/inboxd/drop"
SETTINGS = "/etc/inboxd/settings.toml"
INSTALL = "/mnt/inboxd/deploy/install.sh"
UNITS = "/usr/local/lib/systemd/system"
CONFIGURED = "/etc/systemd/system"
WATCHER, WORKER, BEAT = SERVICES = ("inboxd-watcher.service", "inboxd-worker.service", "inboxd-beat.service")

FIRST_SETTINGS = f"""\
state_dir = "/var/lib/inboxd"
work = {{ concurrency = 2, lease_seconds = 3.0, stop_seconds = 3.0 }}
sweep = {{ missed_seconds = 1.0, stale_seconds = 1.0, grace_seconds = 1.0 }}
defaults = {{ handler = "box_handlers:obey", settle_seconds = 0.1 }}

[inbox.drop]
root = "{ROOT}"
"""


def drop(box: Box, name: str, *, user: str = "alice", root: str = ROOT) -> None:
    """Drop a file, as a member of the group does it."""
    box.run("sh", "-c", 'printf "%s" "$1" >"$1"', "sh", f"{root}/inbox/{name}", user=user)


def is_done(box: Box, name: str, root: str = ROOT) -> bool:
    """Tell whether a file is in done/."""
    return box.path(f"{root}/done/{name}").is_file()


def seen(box: Box) -> list[str]:
    """Return what the handler was given, in order: name and attempt."""
    path = box.path("/var/lib/inboxd/seen")
    return path.read_text().splitlines() if path.exists() else []


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


# what must hold, whichever way it is brought about


def files_what_is_dropped(box: Box, seconds: float = 30.0) -> None:
    """Fail unless all services run, and a dropped file is handled and filed."""
    await_active(box, seconds)
    drop(box, "a.txt")
    box.wait_until(lambda: is_done(box, "a.txt"), seconds, what="a.txt is in done/")


def replaces_a_stopped_watcher(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a watcher that hangs is replaced, and its successor files."""
    await_active(box, seconds)
    quicken(box, WATCHER)
    before = box.pid(WATCHER)
    box.run("kill", "-STOP", str(before))
    box.wait_until(lambda: box.pid(WATCHER) not in (0, before), seconds, what="another watcher")
    files_what_is_dropped(box, seconds)


def gives_back_what_it_works_on(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a stop puts a running handler's file back unblamed, and a start brings it to its end."""
    await_active(box, seconds)
    drop(box, "hold.txt")
    box.wait_until(lambda: seen(box), seconds, what="the handler runs")
    box.run("systemctl", "stop", WORKER)
    assert not is_done(box, "hold.txt")
    assert box.show(WORKER, "Result") == "success", box.show(WORKER, "Result")
    box.path("/var/lib/inboxd/go").touch()
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "hold.txt"), seconds, what="hold.txt is in done/")
    crashes = [line for line in box.journal("-u", WORKER) if "parcel_crashed" in str(line["MESSAGE"])]
    if crashes:
        pytest.fail(f"the stop was taken for a crash: {crashes}")


def lets_what_is_brief_end(box: Box, seconds: float = 30.0) -> None:
    """Fail unless a stop waits for handlers that end soon: they are called once."""
    await_active(box, seconds)
    drop(box, "brief.txt")
    box.wait_until(lambda: seen(box), seconds, what="the handler runs")
    box.run("systemctl", "stop", WORKER)
    box.run("systemctl", "start", WORKER)
    box.wait_until(lambda: is_done(box, "brief.txt"), seconds, what="brief.txt is in done/")
    assert seen(box) == ["brief.txt 1"]


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


def path_of_repository() -> Path:
    """Return the checkout that these tests belong to."""
    return Path(__file__).parents[2]
