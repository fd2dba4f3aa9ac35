"""Services of a user, without root, under the user's service manager."""

from collections.abc import Callable

import pytest
from support.boxes.box import Box
from support.boxes.installed import INSTALL, SERVICES

pytestmark = pytest.mark.systemd

HOME = "/home/alice"
AsAlice = Callable[..., str]


@pytest.fixture
def as_alice(empty_box: Box) -> AsAlice:
    """Enable lingering for alice; return a function that runs a command in her session and returns its output."""
    empty_box.run("systemctl", "unmask", "--quiet", "systemd-logind.service")
    empty_box.run("systemctl", "start", "systemd-logind.service")
    empty_box.run("loginctl", "enable-linger", "alice")
    runtime = f"/run/user/{empty_box.run('id', '-u', 'alice').stdout.strip()}"
    empty_box.wait_until(lambda: empty_box.path(f"{runtime}/systemd/notify").exists(), goal="alice's service manager runs")

    def run(*argv: str, check: bool = True) -> str:
        session = ("env", f"HOME={HOME}", f"XDG_RUNTIME_DIR={runtime}")
        result = empty_box.run(*session, *argv, user="alice", check=check)
        return result.stdout + result.stderr

    return run


def test_a_user_can_install_use_and_uninstall_inboxd(empty_box: Box, as_alice: AsAlice) -> None:
    as_alice(INSTALL, "--user", "--wheels", "/mnt/wheels")

    states = as_alice("systemctl", "--user", "is-active", *SERVICES).split()
    as_alice("sh", "-c", f"echo a >{HOME}/inboxd/inbox/a.txt")
    empty_box.wait_until(lambda: empty_box.path(f"{HOME}/inboxd/done/a.txt").exists(), goal="a.txt is in done/")
    as_alice("systemctl", "--user", "reload", *SERVICES)
    as_alice(INSTALL, "--user", "uninstall")

    assert states == ["active"] * 3
    assert empty_box.path(f"{HOME}/inboxd/done/a.txt").exists()
    assert not list(empty_box.path(f"{HOME}/.config/systemd/user").glob("inboxd*.service"))
