"""The unit files: no warnings, a strict sandbox, and a failing check for each important line that is removed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    BEAT,
    ETC_UNITS,
    ROOT,
    SERVICES,
    SOCKET_EXPOSURE,
    UNITS,
    WATCHER,
    WORKER,
    assert_dropped_file_is_filed,
    assert_droppers_are_isolated,
    assert_stop_requeues_running_file,
    assert_watchdog_restarts_watcher,
    exposure,
)

pytestmark = pytest.mark.systemd

EXPOSURES = {"watcher": 1.2, "worker": 1.1, "beat": 0.9, "web": 1.1}
CAPABILITIES = re.compile(r"^Cap(?:Prm|Eff|Bnd|Amb):\t(\w+)$", re.MULTILINE)


def test_systemd_reports_no_errors_in_the_units(shared_box: Box) -> None:
    units = [f"{UNITS}/{unit}" for unit in (*SERVICES, "inboxd-web.service", "inboxd.target")]

    result = shared_box.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=one", *units)

    assert "inboxd" not in result.stdout + result.stderr


@pytest.mark.parametrize("program", EXPOSURES)
def test_the_exposure_is_below_its_limit(shared_box: Box, program: str) -> None:
    assert exposure(shared_box, f"inboxd-{program}.service") <= EXPOSURES[program]


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_is_lower_with_redis_on_a_unix_socket(shared_box: Box, service: str) -> None:
    drop_in = f"{ETC_UNITS}/{service}.d/unix-redis.conf"
    shared_box.run("install", "-D", "-m", "644", "/mnt/inboxd/deploy/systemd/drop-ins/unix-redis.conf", drop_in)
    shared_box.run("systemctl", "daemon-reload")

    score = exposure(shared_box, service)

    shared_box.run("rm", "-r", f"{ETC_UNITS}/{service}.d")
    shared_box.run("systemctl", "daemon-reload")
    assert score <= SOCKET_EXPOSURE


def test_only_the_watcher_has_a_capability(shared_box: Box) -> None:
    capabilities = {
        service: set(CAPABILITIES.findall(shared_box.path(f"/proc/{shared_box.pid(service)}/status").read_text()))
        for service in SERVICES
    }

    cap_lease = f"{1 << 28:016x}"
    assert capabilities == {WATCHER: {cap_lease}, WORKER: {"0" * 16}, BEAT: {"0" * 16}}


@dataclass(frozen=True)
class Mutation:
    """A change of a unit file, the check that must fail then, and a text that appears in the journal first.

    Without such a text, the check fails after ``seconds``.
    """

    name: str
    path: str
    old: str
    new: str
    check: Callable[..., None]
    journal_text: str = ""
    seconds: float = 2.0


WATCHER_UNIT, WORKER_UNIT = f"{UNITS}/{WATCHER}", f"{UNITS}/{WORKER}"
SANDBOX = ".d/50-inboxes.conf"
MUTATIONS = (
    Mutation("no KillMode", WORKER_UNIT, r"^KillMode=mixed$", "", assert_stop_requeues_running_file, seconds=8.0),
    Mutation("TERM instead of QUIT", WORKER_UNIT, r"^KillSignal=SIGQUIT$", "", assert_stop_requeues_running_file, seconds=8.0),
    Mutation("no ReadWritePaths", WATCHER_UNIT + SANDBOX, r"^(ReadWrite|NoExec)Paths=.*$", "", assert_dropped_file_is_filed,
             "Read-only file system"),
    Mutation("an entry for each folder", WORKER_UNIT + SANDBOX, r'^(ReadWritePaths="-.*)"$',
             r'\1/inbox"\n\1/claimed"\n\1/done"\n\1/failed"', assert_dropped_file_is_filed, "is on another mount"),
    Mutation("an over-tight filter", WORKER_UNIT, r"^SystemCallFilter=~@privileged @resources$",
             "SystemCallFilter=~@privileged @resources @ipc", assert_dropped_file_is_filed, "Operation not permitted"),
    Mutation("no WatchdogSec", WATCHER_UNIT, r"^WatchdogSec=.*$", "", assert_watchdog_restarts_watcher, seconds=8.0),
    Mutation("no Restart", WATCHER_UNIT, r"^Restart=always$", "", assert_watchdog_restarts_watcher, seconds=8.0),
    Mutation("no credential", WORKER_UNIT, r"^LoadCredential=.*$", "", assert_dropped_file_is_filed, "Cannot connect to redis"),
)  # fmt: skip
SHORT_STOP = {f"{ETC_UNITS}/{WORKER}.d/60-short-stop.conf": "[Service]\nTimeoutStopSec=5s\n"}
"""A stop timeout that is sufficient for a stop that succeeds, and limits the wait for one that does not."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_unit_without_an_important_line_fails_a_check(
    installed_snapshot: Path, boot_with: Callable[[dict[str, str]], Box], mutation: Mutation
) -> None:
    text = (installed_snapshot / mutation.path.lstrip("/")).read_text()
    changed, count = re.subn(mutation.old, mutation.new, text, flags=re.MULTILINE)
    assert count, f"{mutation.path} has no {mutation.old}"

    box = boot_with({mutation.path: changed, **SHORT_STOP})

    if mutation.journal_text:
        box.wait_until(lambda: mutation.journal_text in str(box.journal("-u", "inboxd-*")), goal=mutation.journal_text)
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        mutation.check(box, mutation.seconds)


def test_an_inbox_without_sticky_bit_and_default_acl_fails_the_check(box: Box) -> None:
    box.run("chmod", "2770", f"{ROOT}/inbox")

    with pytest.raises((pytest.fail.Exception, AssertionError)):
        assert_droppers_are_isolated(box)
