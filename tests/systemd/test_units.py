"""The unit files: silent, tight, and each of their lines missed when it is gone."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    BEAT,
    CONFIGURED,
    ROOT,
    SERVICES,
    UNITS,
    WATCHER,
    WORKER,
    files_what_is_dropped,
    gives_back_what_it_works_on,
    keeps_droppers_apart,
    replaces_a_stopped_watcher,
)

pytestmark = pytest.mark.systemd

EXPOSURES = {"watcher": 1.3, "worker": 1.2, "beat": 1.0}
SOCKET_EXPOSURE = 0.4
CAPABILITIES = re.compile(r"^Cap(?:Prm|Eff|Bnd|Amb):\t(\w+)$", re.MULTILINE)


def exposure(box: Box, service: str) -> float:
    """Return what systemd thinks of a service's sandbox: 0 is best, 10 is none at all."""
    last = box.run("systemd-analyze", "security", "--no-pager", service).stdout.strip().splitlines()[-1]
    found = re.search(r": (\d+\.\d+) ", last)
    assert found, last
    return float(found[1])


def test_systemd_finds_nothing_to_say_about_the_units(shared: Box) -> None:
    units = [f"{UNITS}/{unit}" for unit in (*SERVICES, "inboxd.target")]

    done = shared.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=one", *units)

    assert "inboxd" not in done.stdout + done.stderr


@pytest.mark.parametrize("program", EXPOSURES)
def test_the_exposure_is_small(shared: Box, program: str) -> None:
    assert exposure(shared, f"inboxd-{program}.service") <= EXPOSURES[program]


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_is_smaller_with_redis_behind_a_socket(shared: Box, service: str) -> None:
    drop_in = f"{CONFIGURED}/{service}.d/unix-redis.conf"
    shared.run("install", "-D", "-m", "644", "/mnt/inboxd/deploy/systemd/drop-ins/unix-redis.conf", drop_in)
    shared.run("systemctl", "daemon-reload")

    found = exposure(shared, service)

    shared.run("rm", "-r", f"{CONFIGURED}/{service}.d")
    shared.run("systemctl", "daemon-reload")
    assert found <= SOCKET_EXPOSURE


def test_the_watcher_holds_one_capability_and_the_others_none(shared: Box) -> None:
    held = {
        service: set(CAPABILITIES.findall(shared.path(f"/proc/{shared.pid(service)}/status").read_text()))
        for service in SERVICES
    }

    lease = f"{1 << 28:016x}"
    assert held == {WATCHER: {lease}, WORKER: {"0" * 16}, BEAT: {"0" * 16}}


@dataclass(frozen=True)
class Mutation:
    """A unit that is not as it should be, what the journal says of that, and what does not hold then.

    Where there is nothing to be said, there is nothing to wait for: the check itself takes as long as it takes.
    """

    name: str
    path: str
    old: str
    new: str
    broken: Callable[..., None]
    sign: str = ""
    seconds: float = 2.0


WATCHER_UNIT, WORKER_UNIT = f"{UNITS}/{WATCHER}", f"{UNITS}/{WORKER}"
SANDBOX = ".d/50-inboxes.conf"
MUTATIONS = (
    Mutation("no KillMode", WORKER_UNIT, r"^KillMode=mixed$", "", gives_back_what_it_works_on, seconds=8.0),
    Mutation("TERM instead of QUIT", WORKER_UNIT, r"^KillSignal=SIGQUIT$", "", gives_back_what_it_works_on, seconds=8.0),
    Mutation("no ReadWritePaths", WATCHER_UNIT + SANDBOX, r"^ReadWritePaths=.*$", "", files_what_is_dropped,
             "Read-only file system"),
    Mutation("an entry for each folder", WORKER_UNIT + SANDBOX, r'^(ReadWritePaths="-.*)"$',
             r'\1/inbox"\n\1/claimed"\n\1/done"\n\1/failed"', files_what_is_dropped, "is on another mount"),
    Mutation("an over-tight filter", WORKER_UNIT, r"^SystemCallFilter=~@privileged @resources$",
             "SystemCallFilter=~@privileged @resources @ipc", files_what_is_dropped, "Operation not permitted"),
    Mutation("no WatchdogSec", WATCHER_UNIT, r"^WatchdogSec=.*$", "", replaces_a_stopped_watcher, seconds=8.0),
    Mutation("no Restart", WATCHER_UNIT, r"^Restart=always$", "", replaces_a_stopped_watcher, seconds=8.0),
    Mutation("no credential", WORKER_UNIT, r"^LoadCredential=.*$", "", files_what_is_dropped, "Cannot connect to redis"),
)  # fmt: skip
HASTE = {f"{CONFIGURED}/{WORKER}.d/60-hasty.conf": "[Service]\nTimeoutStopSec=5s\n"}
"""Enough for a stop that succeeds, and all that one which doesn't is waited for."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_unit_without_one_of_its_lines_is_noticed(
    seeded: Path, boot_with: Callable[[dict[str, str]], Box], mutation: Mutation
) -> None:
    text = (seeded / mutation.path.lstrip("/")).read_text()
    changed, count = re.subn(mutation.old, mutation.new, text, flags=re.MULTILINE)
    assert count == 1, f"{mutation.path} has no {mutation.old}"

    box = boot_with({mutation.path: changed, **HASTE})

    if mutation.sign:
        box.wait_until(lambda: mutation.sign in str(box.journal("-u", "inboxd-*")), what=mutation.sign)
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        mutation.broken(box, mutation.seconds)


def test_an_inbox_without_its_sticky_bit_and_list_is_noticed(box: Box) -> None:
    box.run("chmod", "2770", f"{ROOT}/inbox")

    with pytest.raises((pytest.fail.Exception, AssertionError)):
        keeps_droppers_apart(box)
