"""The programs as services: what they tell the service manager, at the other end of a real socket."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from support.live.datagrams import Manager
from support.live.stand import Program, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
WATCHDOG_SECONDS = 2.0
HASTE = {"connect_timeout_seconds": 0.1, "socket_timeout_seconds": 0.3}
"""So that a call to Redis is over well within the watchdog's patience."""


@pytest.fixture
def managers() -> Iterator[dict[str, Manager]]:
    with Manager() as watcher, Manager() as worker, Manager() as beat:
        yield {"watcher": watcher, "worker": worker, "beat": beat}


@pytest.fixture
def stand(make_stand: MakeStand, managers: dict[str, Manager]) -> Stand:
    made = make_stand({"drop": {}}, redis=HASTE, work={"lease_seconds": 3.0, "silent_seconds": 20.0})
    for name, manager in managers.items():
        program = made.programs[name]
        watched = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6))}
        program.environment = made.environment(**watched)
    return made


def count(states: list[str], state: str) -> int:
    return sum(1 for found in states if found.startswith(state))


@pytest.mark.parametrize(
    ("name", "status"),
    [("watcher", "STATUS=watching drop (inotify)"), ("worker", "STATUS=consuming"), ("beat", "STATUS=sweeping")],
)
def test_a_program_says_that_it_is_ready_and_alive_and_reloading_and_stopping(
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
    reloading = next(at for at, state in enumerate(manager.states) if state.startswith("RELOADING=1"))
    assert "READY=1" in manager.states[reloading:]
    assert manager.look()[-1] == "STOPPING=1" or "STOPPING=1" in manager.states[reloading:]
    assert code == 0


@pytest.mark.parametrize("name", ["watcher", "worker", "beat"])
def test_a_refused_reload_is_over_too(stand: Stand, managers: dict[str, Manager], name: str) -> None:
    program, manager = stand.programs[name], managers[name]
    stand.redis.start()
    program.spawn()
    manager.wait_for(lambda states: "READY=1" in states)

    stand.settings_file.write_text("broken = [")
    program.send(signal.SIGHUP)
    manager.wait_for(lambda states: count(states, "RELOADING=1") and count(states, "READY=1") == 2)

    assert stand.log_events("settings_rejected", program)


@pytest.mark.parametrize("when", ["at the start", "later", "hangs"])
def test_without_redis_a_program_is_ready_and_feeds_its_watchdog(stand: Stand, managers: dict[str, Manager], when: str) -> None:
    if when != "at the start":
        stand.redis.start()
    chosen = {name: stand.programs[name] for name in managers}
    for program in chosen.values():
        program.spawn()
    for manager in managers.values():
        manager.wait_for(lambda states: "READY=1" in states)
    if when == "later":
        stand.redis.kill9()
    if when == "hangs":
        stand.redis.send(signal.SIGSTOP)

    silences = longest_silences(managers, seconds=8.0)

    assert all(silences[name] < patience(manager) for name, manager in managers.items()), silences
    assert all(program.running for program in chosen.values())
    assert any("paused" in state for state in managers["watcher"].look())


def test_a_watcher_that_is_stopped_is_silent(stand: Stand, managers: dict[str, Manager]) -> None:
    stand.redis.start()
    stand.watcher.spawn()
    managers["watcher"].wait_for(lambda states: "READY=1" in states)

    stand.watcher.send(signal.SIGSTOP)

    manager = managers["watcher"]
    assert longest_silences({"watcher": manager}, seconds=5.0)["watcher"] > patience(manager)


def test_a_handler_that_takes_long_is_no_reason_to_be_silent(stand: Stand, managers: dict[str, Manager]) -> None:
    programs: list[Program] = [stand.redis, stand.watcher, stand.worker]
    for program in programs:
        program.start()
    for name in (b"1.txt", b"2.txt"):  # as many as it has slots
        stand.drop(name, b"sleep 6")
    stand.wait_until(lambda: len(stand.calls()) == 2)

    silence = longest_silences({"worker": managers["worker"]}, seconds=5.0)["worker"]

    assert silence < patience(managers["worker"])
    assert stand.names("done") == set()


def patience(manager: Manager) -> float:
    """Return how long the service manager waits for a sign of life: what the program has asked for, at most 5 s."""
    asked = [int(state.partition("=")[2]) / 1e6 for state in manager.look() if state.startswith("WATCHDOG_USEC=")]
    assert all(seconds < 5.0 for seconds in asked), asked
    return max([WATCHDOG_SECONDS, *asked])


def longest_silences(managers: dict[str, Manager], seconds: float) -> dict[str, float]:
    """Return for how long each watchdog was not fed at the longest."""
    begun = time.monotonic()
    fed, longest = dict.fromkeys(managers, begun), dict.fromkeys(managers, 0.0)
    seen = {name: count(manager.look(), "WATCHDOG=1") for name, manager in managers.items()}
    while (now := time.monotonic()) < begun + seconds:
        for name, manager in managers.items():
            longest[name] = max(longest[name], now - fed[name])
            if (fresh := count(manager.look(), "WATCHDOG=1")) > seen[name]:
                fed[name], seen[name] = now, fresh
        time.sleep(0.01)
    return longest
