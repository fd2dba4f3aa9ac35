"""The programs as services: the states that they send to the service manager over a real socket."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from support.live.datagrams import Manager
from support.live.stand import Program, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
WATCHDOG_SECONDS = 2.0
SHORT_TIMEOUTS = {"connect_timeout_seconds": 0.1, "socket_timeout_seconds": 0.3}
"""Redis timeouts in seconds, with which a call takes much less than the watchdog timeout."""


@pytest.fixture
def managers() -> Iterator[dict[str, Manager]]:
    with Manager() as watcher, Manager() as worker, Manager() as beat:
        yield {"watcher": watcher, "worker": worker, "beat": beat}


@pytest.fixture
def stand(make_stand: MakeStand, managers: dict[str, Manager]) -> Stand:
    new_stand = make_stand({"drop": {}}, redis=SHORT_TIMEOUTS, work={"lease_seconds": 3.0, "silent_seconds": 20.0})
    for name, manager in managers.items():
        program = new_stand.programs[name]
        variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6))}
        program.environment = new_stand.environment(**variables)
    return new_stand


def count(states: list[str], prefix: str) -> int:
    return sum(state.startswith(prefix) for state in states)


@pytest.mark.parametrize(
    ("name", "status"),
    [("watcher", "STATUS=watching drop (inotify)"), ("worker", "STATUS=consuming"), ("beat", "STATUS=sweeping")],
)
def test_a_program_reports_ready_watchdog_reloading_and_stopping(
    stand: Stand, managers: dict[str, Manager], name: str, status: str
) -> None:
    program, manager = stand.programs[name], managers[name]
    stand.redis.start()

    program.spawn()
    manager.wait_for(lambda states: "READY=1" in states and count(states, status) and count(states, "WATCHDOG=1") > 2)
    ready = manager.states.index("READY=1")
    program.send(signal.SIGHUP)
    manager.wait_for(lambda states: count(states, "RELOADING=1\nMONOTONIC_USEC=") and count(states, "READY=1") == 2)
    code = program.stop()

    assert not any(state.startswith(("WATCHDOG=1", "STOPPING=1")) for state in manager.states[:ready] if name != "watcher")
    reloading = next(index for index, state in enumerate(manager.states) if state.startswith("RELOADING=1"))
    assert "READY=1" in manager.states[reloading:]
    assert manager.look()[-1] == "STOPPING=1" or "STOPPING=1" in manager.states[reloading:]
    assert code == 0


@pytest.mark.parametrize("name", ["watcher", "worker", "beat"])
def test_a_refused_reload_ends_with_ready_too(stand: Stand, managers: dict[str, Manager], name: str) -> None:
    program, manager = stand.programs[name], managers[name]
    stand.redis.start()
    program.spawn()
    manager.wait_for(lambda states: "READY=1" in states)

    stand.settings_file.write_text("broken = [")
    program.send(signal.SIGHUP)
    manager.wait_for(lambda states: count(states, "RELOADING=1") and count(states, "READY=1") == 2)

    assert stand.log_events("settings_rejected", program)


@pytest.mark.parametrize("when", ["at the start", "later", "hangs"])
def test_without_redis_each_program_notifies_its_watchdog(stand: Stand, managers: dict[str, Manager], when: str) -> None:
    if when != "at the start":
        stand.redis.start()
    programs = [stand.programs[name] for name in managers]
    for program in programs:
        program.spawn()
    for manager in managers.values():
        manager.wait_for(lambda states: "READY=1" in states)
    if when == "later":
        stand.redis.kill9()
    if when == "hangs":
        stand.redis.send(signal.SIGSTOP)

    silences = longest_silences(managers, seconds=8.0)

    assert all(silences[name] < watchdog_timeout(manager) for name, manager in managers.items()), silences
    assert all(program.running for program in programs)
    assert any("paused" in state for state in managers["watcher"].look())


def test_a_stopped_watcher_exceeds_its_watchdog_timeout(stand: Stand, managers: dict[str, Manager]) -> None:
    stand.redis.start()
    stand.watcher.spawn()
    managers["watcher"].wait_for(lambda states: "READY=1" in states)

    stand.watcher.send(signal.SIGSTOP)

    manager = managers["watcher"]
    assert longest_silences({"watcher": manager}, seconds=5.0)["watcher"] > watchdog_timeout(manager)


def test_long_handlers_in_all_slots_do_not_delay_watchdog_notifications(stand: Stand, managers: dict[str, Manager]) -> None:
    programs: list[Program] = [stand.redis, stand.watcher, stand.worker]
    for program in programs:
        program.start()
    for name in (b"1.txt", b"2.txt"):  # one per slot
        stand.drop(name, b"sleep 6")
    stand.wait_until(lambda: len(stand.calls()) == 2)

    silence = longest_silences({"worker": managers["worker"]}, seconds=5.0)["worker"]

    assert silence < watchdog_timeout(managers["worker"])
    assert stand.names("done") == set()


def watchdog_timeout(manager: Manager) -> float:
    """Return the watchdog timeout in seconds: WATCHDOG_SECONDS, or the longest that the program requested, below 5 s."""
    requested = [int(state.partition("=")[2]) / 1e6 for state in manager.look() if state.startswith("WATCHDOG_USEC=")]
    assert all(seconds < 5.0 for seconds in requested), requested
    return max([WATCHDOG_SECONDS, *requested])


def longest_silences(managers: dict[str, Manager], seconds: float) -> dict[str, float]:
    """Watch for ``seconds``; return each program's longest time between two WATCHDOG=1 states, in seconds."""
    started_at = time.monotonic()
    notified_at, longest = dict.fromkeys(managers, started_at), dict.fromkeys(managers, 0.0)
    counts = {name: count(manager.look(), "WATCHDOG=1") for name, manager in managers.items()}
    while (now := time.monotonic()) < started_at + seconds:
        for name, manager in managers.items():
            longest[name] = max(longest[name], now - notified_at[name])
            if (current := count(manager.look(), "WATCHDOG=1")) > counts[name]:
                notified_at[name], counts[name] = now, current
        time.sleep(0.01)
    return longest
