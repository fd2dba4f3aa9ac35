"""The unit files: silent, tight, and each of their lines missed when it is gone."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support.box import Box
from support.installed import (
    BEAT,
    CONFIGURED,
    ROOT,
    SERVICES,
    UNITS,
    WATCHER,
    WORKER,
    await_active,
    files_what_is_dropped,
    gives_back_what_it_works_on,
    keeps_droppers_apart,
    replaces_a_stopped_watcher,
)

pytestmark = pytest.mark.systemd

EXPOSURES = {"watcher": 1.3, "worker": 1.2, "beat": 1.0}
SOCKET_EXPOSURE = 0.4
IMPATIENCE_SECONDS = 8.0
CAPABILITIES = re.compile(r"^Cap(?:Prm|Eff|Bnd|Amb):\t(\w+)$", re.MULTILINE)


def exposure(box: Box, service: str) -> float:
    """Return what systemd thinks of a service's sandbox: 0 is best, 10 is none at all."""
    last = box.run("systemd-analyze", "security", "--no-pager", service).stdout.strip().splitlines()[-1]
    found = re.search(r": (\d+\.\d+) ", last)
    assert found, last
    return float(found[1])


def test_systemd_finds_nothing_to_say_about_the_units(box: Box) -> None:
    units = [f"{UNITS}/{unit}" for unit in (*SERVICES, "inboxd.target")]

    done = box.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=one", *units)

    assert "inboxd" not in done.stdout + done.stderr


@pytest.mark.parametrize("program", EXPOSURES)
def test_the_exposure_is_small(box: Box, program: str) -> None:
    assert exposure(box, f"inboxd-{program}.service") <= EXPOSURES[program]


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_is_smaller_with_redis_behind_a_socket(box: Box, service: str) -> None:
    shipped = "/mnt/inboxd/deploy/systemd/drop-ins/unix-redis.conf"
    box.run("install", "-D", "-m", "644", shipped, f"{CONFIGURED}/{service}.d/unix-redis.conf")
    box.run("systemctl", "daemon-reload")

    assert exposure(box, service) <= SOCKET_EXPOSURE


def test_the_watcher_holds_one_capability_and_the_others_none(box: Box) -> None:
    await_active(box)

    held = {
        service: set(CAPABILITIES.findall(box.path(f"/proc/{box.pid(service)}/status").read_text())) for service in SERVICES
    }

    lease = f"{1 << 28:016x}"
    assert held == {WATCHER: {lease}, WORKER: {"0" * 16}, BEAT: {"0" * 16}}


@dataclass(frozen=True)
class Mutation:
    """A unit or folder that is not as it should be, and what does not hold then."""

    name: str
    path: str
    old: str
    new: str
    broken: Callable[..., None]


MUTATIONS = (
    # without KillMode, the pool's children are told to stop, too: their files go back all the same, and no test can tell
    Mutation("TERM instead of QUIT", f"{UNITS}/{WORKER}", r"^KillSignal=SIGQUIT$", "", gives_back_what_it_works_on),
    Mutation("no ReadWritePaths", f"{UNITS}/{WATCHER}.d/50-inboxes.conf", r"^ReadWritePaths=.*$", "", files_what_is_dropped),
    Mutation("an entry for each folder", f"{UNITS}/{WORKER}.d/50-inboxes.conf", r'^(ReadWritePaths="-.*)"$',
             r'\1/inbox"\n\1/claimed"\n\1/done"\n\1/failed"', files_what_is_dropped),
    Mutation("an over-tight filter", f"{UNITS}/{WORKER}", r"^SystemCallFilter=~@privileged @resources$",
             "SystemCallFilter=~@privileged @resources @ipc", files_what_is_dropped),
    Mutation("no WatchdogSec", f"{UNITS}/{WATCHER}", r"^WatchdogSec=.*$", "", replaces_a_stopped_watcher),
    Mutation("no Restart", f"{UNITS}/{WATCHER}", r"^Restart=always$", "", replaces_a_stopped_watcher),
    Mutation("no credential", f"{UNITS}/{WORKER}", r"^LoadCredential=.*$", "", files_what_is_dropped),
)  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_unit_without_one_of_its_lines_is_noticed(box: Box, mutation: Mutation) -> None:
    path = box.path(mutation.path)
    changed, count = re.subn(mutation.old, mutation.new, path.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{mutation.path} has no {mutation.old}"
    path.write_text(changed)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", *SERVICES, check=False)

    with pytest.raises((pytest.fail.Exception, AssertionError)):
        mutation.broken(box, IMPATIENCE_SECONDS)


def test_an_inbox_without_its_sticky_bit_and_list_is_noticed(box: Box) -> None:
    box.run("chmod", "2770", f"{ROOT}/inbox")

    with pytest.raises((pytest.fail.Exception, AssertionError)):
        keeps_droppers_apart(box)
