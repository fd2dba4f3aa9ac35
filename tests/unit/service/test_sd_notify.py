"""Notifications to the service manager, received on a real socket."""

import time
from collections.abc import Iterator

import pytest
import structlog
from support.live.datagrams import Manager

from inboxd.logs import events
from inboxd.service.sd_notify import STATUS_CHARS_MAX, from_environment

PID = 4711


@pytest.fixture
def manager() -> Iterator[Manager]:
    with Manager() as listening:
        yield listening


def environment(manager: Manager, **variables: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.address, "PATH": "/bin", **variables}


@pytest.mark.parametrize("abstract", [False, True])
def test_each_state_is_a_separate_datagram(abstract: bool) -> None:
    with Manager(abstract=abstract) as manager:
        notify = from_environment(environment(manager), PID)
        notify.notify_ready()
        notify.set_status("watching 1 inbox")
        notify.notify_stopping()

        assert manager.look() == ["READY=1", "STATUS=watching 1 inbox", "STOPPING=1"]


def test_a_reload_is_sent_with_the_monotonic_time(manager: Manager) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    from_environment(environment(manager), PID).notify_reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    ((state, timestamp),) = (datagram.split("\n") for datagram in manager.look())
    assert state == "RELOADING=1"
    assert before <= int(timestamp.removeprefix("MONOTONIC_USEC=")) <= after


def test_without_a_manager_nothing_is_sent_and_nothing_fails() -> None:
    notify = from_environment({"WATCHDOG_USEC": "1000000"}, PID)

    for send in (notify.notify_ready, notify.ping_watchdog, notify.notify_reloading, notify.notify_stopping):
        send()
    notify.set_status("watching")
    notify.extend_watchdog(60.0)

    assert notify.watchdog_seconds is None


def test_the_variables_are_removed_so_that_children_do_not_inherit_them(manager: Manager) -> None:
    variables = environment(manager, WATCHDOG_USEC="5000000", WATCHDOG_PID=str(PID))

    from_environment(variables, PID)

    assert variables == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(PID)}, 5.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(PID + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-3"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_only_a_watchdog_of_this_process_is_pinged(manager: Manager, variables: dict[str, str], seconds: float | None) -> None:
    notify = from_environment(environment(manager, **variables), PID)

    notify.ping_watchdog()

    assert notify.watchdog_seconds == seconds
    assert manager.look() == (["WATCHDOG=1"] if seconds else [])


def test_the_watchdog_is_pinged_four_times_per_timeout(manager: Manager) -> None:
    notify = from_environment(environment(manager, WATCHDOG_USEC="400000"), PID)

    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        notify.ping_watchdog()

    assert 3 <= len(manager.look()) <= 6


def test_the_watchdog_is_pinged_if_healthy_and_health_is_checked_only_when_a_ping_is_due(manager: Manager) -> None:
    notify, checks = from_environment(environment(manager, WATCHDOG_USEC="5000000"), PID), []

    for is_healthy in (False, True, True):
        notify.ping_watchdog(lambda is_healthy=is_healthy: checks.append(is_healthy) or is_healthy)

    assert manager.look() == ["WATCHDOG=1"]
    assert checks == [False, True]


def test_a_watchdog_timeout_that_is_too_short_is_extended(manager: Manager) -> None:
    notify = from_environment(environment(manager, WATCHDOG_USEC="2000000"), PID)

    notify.extend_watchdog(1.0)
    notify.extend_watchdog(30.0)

    assert manager.look() == ["WATCHDOG_USEC=30000000"]
    assert notify.watchdog_seconds == 30.0


def test_a_status_is_one_escaped_line_and_is_sent_once(manager: Manager) -> None:
    notify = from_environment(environment(manager), PID)

    for _ in range(2):
        notify.set_status("paused: x\nREADY=1\x1b[2J" + "!" * 10_000)

    (state,) = manager.look()
    assert state.startswith("STATUS=paused: x\\nREADY=1\\x1b[2J!!")
    assert state.isprintable()
    assert len(state) == len("STATUS=") + STATUS_CHARS_MAX


def test_an_unreachable_manager_is_logged_once_and_raises_nothing(manager: Manager) -> None:
    notify = from_environment(environment(manager), PID)
    manager.close()

    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        notify.notify_ready()
        notify.notify_stopping()
    manager.open()
    notify.notify_ready()

    assert [line["event"] for line in lines] == [events.NOTIFY_FAILED]
    assert manager.look() == ["READY=1"]


def test_an_address_of_another_family_is_ignored() -> None:
    assert from_environment({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1000000"}, PID).watchdog_seconds is None
