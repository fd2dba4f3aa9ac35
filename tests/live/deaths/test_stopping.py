"""Programs that are told to stop, at the worst of times: they end soon, and the next start goes on where they were."""

import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from support.live.stand import Program, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

STOP_SECONDS = 2.0
AT_ONCE_SECONDS = 8.0
"""From a start until all is handled: a cold start of Python, four times on few cores. Any wait for a clock is longer:"""
UNHURRIED = {
    "redis": {"connect_timeout_seconds": 1.0, "socket_timeout_seconds": 1.0, "visibility_timeout_seconds": 3600},
    "work": {"concurrency": 2, "lease_seconds": 15.0, "outage_seconds": 2.0, "stop_seconds": 30.0},
    "sweep": {"missed_seconds": 15.0, "stale_seconds": 15.0, "grace_seconds": 5.0},
}
"""The settings' own defaults, where it counts."""
HURRIED = {**UNHURRIED, "work": {**UNHURRIED["work"], "stop_seconds": 1.0}}
RUNNING = (b"running 1.txt", b"running 2.txt")
WAITING = tuple(b"waiting %d.txt" % number for number in range(4))


def up(stand: Stand) -> Program:
    """Add `inboxd up`, which starts the server too."""
    argv = (sys.executable, "-m", "inboxd", "up", "--settings", str(stand.settings_file))
    words = ('"event": "started"', " ready.", "beat: Starting")
    return stand.program("up", argv, lambda start: all(word in stand.programs["up"].text(start) for word in words))


def get_busy(stand: Stand, command: bytes) -> None:
    """Have two handlers running, and more files waiting than there is room for."""
    for name in RUNNING:
        stand.drop(name, command)
    stand.wait_until(lambda: {call.path for call in stand.calls()} == set(RUNNING))
    for name in WAITING:
        stand.drop(name, b"quick")
    stand.wait_until(lambda: not stand.names("inbox"))


def send_and_wait(program: Program, *numbers: signal.Signals, seconds: float = 40.0) -> tuple[int, float]:
    """Send signals, a second apart; returns the exit code, and the seconds from the last one until the end."""
    for count, number in enumerate(numbers):
        time.sleep(1.0 if count else 0.0)
        program.send(number)
    begun = time.monotonic()
    return program.wait(seconds), time.monotonic() - begun


def start_again(stand: Stand, *programs: Program) -> float:
    """Start what was stopped; returns the seconds until every handler had been called to the end, and all was filed once."""
    begun = time.monotonic()
    for program in programs:
        program.spawn()
    stand.wait_until(lambda: stand.is_at_rest() and not list(stand.path("claimed").iterdir()), 45)
    assert stand.names("done") == {*RUNNING, *WAITING}
    assert stand.names("failed") == set()
    return time.monotonic() - begun


def test_a_watcher_under_load_stops_at_once_and_claims_nothing_more(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}})
    stand.redis.start()
    dropped = stand.drop_folder(b"burst", {b"%d.txt" % number: b"content" for number in range(400)})
    stand.watcher.start()
    stand.wait_until(lambda: len(stand.log_events("file_claimed")) >= 20)

    told = time.time()
    code, took = send_and_wait(stand.watcher, signal.SIGTERM)
    claims = [datetime.fromisoformat(line["timestamp"]).timestamp() - told for line in stand.log_events("file_claimed")]

    assert code == 0
    assert took < STOP_SECONDS
    assert len(claims) < len(dropped), "it was not in the middle of it"
    assert max(claims) < 0.5
    for program in (stand.worker, stand.watcher, stand.beat):
        program.spawn()
    stand.wait_until(lambda: stand.is_at_rest() and stand.tree("done") == dropped)
    assert stand.duplicates() == {}


def test_a_watcher_stops_within_the_timeouts_of_a_server_that_hangs(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **UNHURRIED)
    stand.redis.start()
    stand.drop_folder(b"burst", {b"%d.txt" % number: b"content" for number in range(400)})
    stand.watcher.start()
    stand.wait_until(lambda: len(stand.log_events("file_claimed")) >= 20)

    stand.redis.send(signal.SIGSTOP)
    code, took = send_and_wait(stand.watcher, signal.SIGTERM)
    stand.redis.send(signal.SIGCONT)

    assert code == 0
    assert took < 2 * (1.0 + 1.0) + STOP_SECONDS  # every call is tried twice: to connect, and to get an answer
    assert stand.names("inbox"), "it was not in the middle of it"


def test_a_worker_that_stops_begins_nothing_new_and_the_next_one_goes_on_at_once(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **UNHURRIED).start()
    get_busy(stand, b"sleep 1")

    code, _ = send_and_wait(stand.worker, signal.SIGTERM)
    begun, filed = {call.path for call in stand.calls()}, stand.names("done")
    took = start_again(stand, stand.worker)

    assert code == 0
    assert begun == filed == set(RUNNING)
    assert took < AT_ONCE_SECONDS
    assert stand.duplicates() == {}


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_without_a_server_all_programs_stop_within_the_time_that_the_settings_name(
    make_stand: MakeStand, fault: signal.Signals
) -> None:
    stand = make_stand(**HURRIED).start()
    stand.wait_until(lambda: stand.client.exists("inboxd:swept:stand"))

    stand.redis.send(fault)
    time.sleep(2.5)  # Celery would send a heartbeat every 2 s
    begun = time.monotonic()
    for program in (stand.watcher, stand.beat, stand.worker):
        program.send(signal.SIGTERM)
    stand.wait_until(lambda: not (stand.watcher.running or stand.beat.running or stand.worker.running), 12)
    took = time.monotonic() - begun

    assert (stand.watcher.code, stand.beat.code) == (0, 0)
    assert took < 12


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_handlers_that_end_in_time_end_in_peace_when_everything_stops(make_stand: MakeStand, signum: signal.Signals) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **UNHURRIED)
    everything = up(stand)
    everything.start()
    get_busy(stand, b"sleep 2")

    code, _ = send_and_wait(everything, signum)
    handled = {line["file"].encode() for line in stand.log_events("file_handled")}
    left = stand.live_pids()
    took = start_again(stand, everything)

    assert code == 0
    assert left == []
    assert handled == set(RUNNING)
    assert took < AT_ONCE_SECONDS
    assert stand.duplicates() == {}


def test_handlers_that_do_not_end_in_time_are_interrupted_and_begin_anew_at_the_next_start(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1, "retries": 0}}, **HURRIED)
    everything = up(stand)
    everything.start()
    get_busy(stand, b"sleep 4")

    code, took_to_stop = send_and_wait(everything, signal.SIGTERM)
    took = start_again(stand, everything)

    assert code == 0
    assert took_to_stop < 1.0 + 5.0 + 2 * STOP_SECONDS  # stop_seconds, then SIGQUIT; beat, watcher and server
    assert took < AT_ONCE_SECONDS + 4
    assert stand.duplicates() == dict.fromkeys(RUNNING, 2)
    assert stand.log_events("parcel_crashed") == []


def test_handlers_that_ignore_every_signal_are_killed_and_their_files_begin_anew(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **HURRIED)
    everything = up(stand)
    everything.start()
    get_busy(stand, b"ignore_stop")

    code, took_to_stop = send_and_wait(everything, signal.SIGTERM)
    left = stand.live_pids()
    for name in stand.names("claimed"):
        stand.path("claimed", name).write_bytes(b"reformed")
    took = start_again(stand, everything)

    assert code == 0
    assert left == []
    assert took_to_stop < 1.0 + 5.0 + 2 * STOP_SECONDS
    assert took < AT_ONCE_SECONDS
    assert stand.duplicates() == dict.fromkeys(RUNNING, 2)


def test_a_second_signal_ends_everything_and_the_next_start_loses_nothing(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **UNHURRIED)
    everything = up(stand)
    everything.start()
    get_busy(stand, b"sleep 3")

    code, took_to_stop = send_and_wait(everything, signal.SIGINT, signal.SIGINT)
    left = stand.live_pids()
    took = start_again(stand, everything)

    assert code == 0
    assert left == []
    assert took_to_stop < STOP_SECONDS
    assert took < AT_ONCE_SECONDS + 3
    assert stand.duplicates() == dict.fromkeys(RUNNING, 2)
