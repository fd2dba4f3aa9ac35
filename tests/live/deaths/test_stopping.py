"""Programs that are stopped at the worst moment exit in time, and the next start continues their work."""

import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from support.live.stand import Program, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

STOP_SECONDS = 10.0
AT_ONCE_SECONDS = 40.0
"""Maximum time from a start until all files are filed: four starts of Python on busy cores, but no lease or sweep interval."""
LONG_STOP = {
    "redis": {"connect_timeout_seconds": 1.0, "socket_timeout_seconds": 1.0, "visibility_timeout_seconds": 3600},
    "work": {"concurrency": 2, "lease_seconds": 90.0, "outage_seconds": 2.0, "stop_seconds": 60.0},
    "sweep": {"missed_seconds": 90.0, "stale_seconds": 90.0, "grace_seconds": 5.0},
}
"""Leases and sweeps so rare that none of them can be what continues the work."""
SHORT_STOP = {**LONG_STOP, "work": {**LONG_STOP["work"], "stop_seconds": 1.0}}
STOPPING = "worker: Warm shutdown"
RUNNING = (b"running 1.txt", b"running 2.txt")
WAITING = tuple(b"waiting %d.txt" % number for number in range(4))


def up(stand: Stand) -> Program:
    """Add `inboxd up`, which also starts the server, for the one user that it has."""
    text = stand.settings_file.read_text("utf-8")
    stand.settings_file.write_text(text.replace(stand.url, f"unix://{stand.socket}"), "utf-8")
    argv = (sys.executable, "-m", "inboxd", "up", "--settings", str(stand.settings_file))
    words = ('"event": "started"', " ready.", "beat: Starting")
    return stand.program("up", argv, lambda start: all(word in stand.programs["up"].text(start) for word in words))


def fill_worker(stand: Stand, command: bytes) -> None:
    """Start a handler in both slots, and claim four more files that wait for a slot."""
    for name in RUNNING:
        stand.drop(name, command)
    stand.wait_until(lambda: {call.path for call in stand.calls()} == set(RUNNING))
    for name in WAITING:
        stand.drop(name, b"quick")
    stand.wait_until(lambda: not stand.names("inbox"))


def send_and_wait(program: Program, *numbers: signal.Signals, seconds: float = 90.0) -> tuple[int, float]:
    """Send signals one second apart; return the exit code and the seconds from the last signal to the exit."""
    for count, number in enumerate(numbers):
        time.sleep(1.0 if count else 0.0)
        program.send(number)
    started_at = time.monotonic()
    return program.wait(seconds), time.monotonic() - started_at


def release(stand: Stand) -> None:
    """Let the handlers that hold return, now and at the next start."""
    (stand.folder / "release").touch()


def start_again(stand: Stand, *programs: Program) -> float:
    """Start the programs again; return the seconds until all files are in done/ and no parcel remains."""
    started_at = time.monotonic()
    for program in programs:
        program.spawn()
    stand.wait_until(lambda: stand.has_no_pending_files() and not list(stand.path("claimed").iterdir()))
    assert stand.names("done") == {*RUNNING, *WAITING}
    assert stand.names("failed") == set()
    return time.monotonic() - started_at


def test_a_watcher_under_load_stops_soon_and_claims_no_more_files(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}})
    stand.redis.start()
    dropped = stand.drop_folder(b"burst", {b"%d.txt" % number: b"content" for number in range(400)})
    stand.watcher.start()
    stand.wait_until(lambda: len(stand.log_events("file_claimed")) >= 20)

    signalled_at = time.time()
    code, elapsed = send_and_wait(stand.watcher, signal.SIGTERM)
    claims = [datetime.fromisoformat(line["timestamp"]).timestamp() - signalled_at for line in stand.log_events("file_claimed")]

    assert code == 0
    assert elapsed < STOP_SECONDS
    assert len(claims) < len(dropped), "the watcher had already claimed every file"
    assert max(claims) < 5.0
    for program in (stand.worker, stand.watcher, stand.beat):
        program.spawn()
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.tree("done") == dropped)
    assert stand.duplicates() == {}


def test_a_watcher_stops_within_the_redis_timeouts_while_redis_hangs(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **LONG_STOP)
    stand.redis.start()
    stand.drop_folder(b"burst", {b"%d.txt" % number: b"content" for number in range(400)})
    stand.watcher.start()
    stand.wait_until(lambda: len(stand.log_events("file_claimed")) >= 20)

    stand.redis.send(signal.SIGSTOP)
    code, elapsed = send_and_wait(stand.watcher, signal.SIGTERM)
    stand.redis.send(signal.SIGCONT)

    assert code == 0
    assert elapsed < 2 * (1.0 + 1.0) + STOP_SECONDS  # every call is tried twice, each with a connect and a socket timeout
    assert stand.names("inbox"), "the watcher had already claimed every file"


def test_a_stopping_worker_starts_no_handler_and_the_next_worker_continues_at_once(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **LONG_STOP).start()
    fill_worker(stand, b"hold")

    stand.worker.send(signal.SIGTERM)
    stand.wait_until(lambda: STOPPING in stand.worker.text(), awaited="the worker's stop")
    release(stand)
    code = stand.worker.wait(90.0)
    called, filed = {call.path for call in stand.calls()}, stand.names("done")
    elapsed = start_again(stand, stand.worker)

    assert code == 0
    assert called == filed == set(RUNNING)
    assert elapsed < AT_ONCE_SECONDS
    assert stand.duplicates() == {}


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_without_redis_all_programs_stop_within_stop_seconds_and_timeouts(make_stand: MakeStand, fault: signal.Signals) -> None:
    stand = make_stand(**SHORT_STOP).start()
    stand.wait_until(lambda: stand.client.exists("inboxd:swept:stand"))

    stand.redis.send(fault)
    time.sleep(2.5)  # longer than the 2 s between Celery's heartbeats
    started_at = time.monotonic()
    for program in (stand.watcher, stand.beat, stand.worker):
        program.send(signal.SIGTERM)
    stand.wait_until(lambda: not (stand.watcher.running or stand.beat.running or stand.worker.running))
    elapsed = time.monotonic() - started_at

    assert (stand.watcher.code, stand.beat.code) == (0, 0)
    assert elapsed < 30


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_up_lets_handlers_finish_that_end_within_stop_seconds(make_stand: MakeStand, signum: signal.Signals) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **LONG_STOP)
    all_programs = up(stand)
    all_programs.start()
    fill_worker(stand, b"hold")

    all_programs.send(signum)
    stand.wait_until(lambda: STOPPING in all_programs.text(), awaited="the worker's stop")
    release(stand)
    code = all_programs.wait(90.0)
    handled = {line["file"].encode() for line in stand.log_events("file_handled")}
    remaining = stand.live_pids()
    elapsed = start_again(stand, all_programs)

    assert code == 0
    assert remaining == []
    assert handled == set(RUNNING)
    assert elapsed < AT_ONCE_SECONDS
    assert stand.duplicates() == {}


def test_handlers_that_run_longer_than_stop_seconds_are_interrupted_and_called_again_at_the_next_start(
    make_stand: MakeStand,
) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1, "retries": 0}}, **SHORT_STOP)
    all_programs = up(stand)
    all_programs.start()
    fill_worker(stand, b"hold")

    code, stop_elapsed = send_and_wait(all_programs, signal.SIGTERM)
    release(stand)
    elapsed = start_again(stand, all_programs)

    assert code == 0
    assert stop_elapsed < 1.0 + 5.0 + 2 * STOP_SECONDS  # stop_seconds, then SIGQUIT; beat, watcher and server
    assert elapsed < AT_ONCE_SECONDS
    assert stand.duplicates() == dict.fromkeys(RUNNING, 2)
    assert stand.log_events("parcel_crashed") == []


def test_handlers_that_ignore_signals_are_killed_and_called_again_at_the_next_start(make_stand: MakeStand) -> None:
    stand = make_stand(
        {"drop": {"parcel_files_max": 1, "ignore_changes": True}}, **SHORT_STOP
    )  # the test changes claimed files
    all_programs = up(stand)
    all_programs.start()
    fill_worker(stand, b"ignore_stop")

    code, stop_elapsed = send_and_wait(all_programs, signal.SIGTERM)
    remaining = stand.live_pids()
    for name in stand.names("claimed"):
        stand.path("claimed", name).write_bytes(b"content without a command")
    elapsed = start_again(stand, all_programs)

    assert code == 0
    assert remaining == []
    assert stop_elapsed < 1.0 + 5.0 + 2 * STOP_SECONDS
    assert elapsed < AT_ONCE_SECONDS
    assert stand.duplicates() == dict.fromkeys(RUNNING, 2)


def test_a_second_sigint_stops_all_programs_at_once_and_the_next_start_loses_no_file(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}, **LONG_STOP)
    all_programs = up(stand)
    all_programs.start()
    fill_worker(stand, b"hold")

    code, stop_elapsed = send_and_wait(all_programs, signal.SIGINT, signal.SIGINT)
    remaining = stand.live_pids()
    release(stand)
    elapsed = start_again(stand, all_programs)

    assert code == 0
    assert remaining == []
    assert stop_elapsed < STOP_SECONDS
    assert elapsed < AT_ONCE_SECONDS
    assert stand.duplicates() == dict.fromkeys(RUNNING, 2)
