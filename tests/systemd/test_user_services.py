"""One user's own services, without root, under the user's own service manager."""

from collections.abc import Callable

import pytest
from support.boxes.box import Box
from support.boxes.installed import INSTALL, SERVICES

pytestmark = pytest.mark.systemd

HOME = "/home/alice"
AsAlice = Callable[..., str]


@pytest.fixture
def as_alice(empty_box: Box) -> AsAlice:
    """Log alice in for good; returns what runs a command in her session, and returns what it said."""
    empty_box.run("systemctl", "unmask", "--quiet", "systemd-logind.service")
    empty_box.run("systemctl", "start", "systemd-logind.service")
    empty_box.run("loginctl", "enable-linger", "alice")
    runtime = f"/run/user/{empty_box.run('id', '-u', 'alice').stdout.strip()}"
    empty_box.wait_until(lambda: empty_box.path(f"{runtime}/systemd/notify").exists(), what="alice's manager runs")

    def run(*argv: str, check: bool = True) -> str:
        session = ("env", f"HOME={HOME}", f"XDG_RUNTIME_DIR={runtime}")
        done = empty_box.run(*session, *argv, user="alice", check=check)
        return done.stdout + done.stderr

    return run


def test_a_user_installs_drops_and_takes_away(empty_box: Box, as_alice: AsAlice) -> None:
    as_alice(INSTALL, "--user", "--wheels", "/mnt/wheels")

    states = as_alice("systemctl", "--user", "is-active", *SERVICES).split()
    as_alice("sh", "-c", f"echo a >{HOME}/inboxd/inbox/a.txt")
    empty_box.wait_until(lambda: empty_box.path(f"{HOME}/inboxd/done/a.txt").exists(), what="a.txt is in done/")
    as_alice("systemctl", "--user", "reload", *SERVICES)
    as_alice(INSTALL, "--user", "uninstall")

    assert states == ["active"] * 3
    assert empty_box.path(f"{HOME}/inboxd/done/a.txt").exists()
    assert not list(empty_box.path(f"{HOME}/.config/systemd/user").glob("inboxd*.service"))
