"""While Redis is not started, without data or out of memory, the programs wait, log why, and continue by themselves."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from support.live.stand import HANDLERS, Program, Stand, Table
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

SLOW_INBOX = {"drop": {"handler": f"{HANDLERS}:sleep_20_ms"}}


def pids(stand: Stand) -> tuple[int, ...]:
    """Return the process ids of those of the three programs that run."""
    return tuple(program.pid for program in (stand.watcher, stand.worker, stand.beat) if program.running)


def wait_until_some_are_done(stand: Stand, dropped: dict[bytes, str]) -> None:
    """Wait until a tenth of these files is done; fail the test if all are."""
    stand.wait_until(lambda: len(stand.names("done") & dropped.keys()) >= len(dropped) // 10)
    assert not stand.has_no_pending_files(), "all files were done before the outage"


def assert_all_done_once(stand: Stand, dropped: dict[bytes, str], seconds: float = 60.0) -> None:
    """Wait until all files are filed; assert that done/ contains each of them once and unchanged, and failed/ none."""
    stand.wait_until(lambda: stand.has_no_pending_files() and dropped.keys() <= stand.names("done"), seconds)
    assert stand.tree("done") == dropped
    assert stand.names("failed") == set()


def status(stand: Stand) -> tuple[int, Table]:
    """Run `inboxd status --json`; return its exit code and its output."""
    result = subprocess.run(
        [sys.executable, "-m", "inboxd", "status", "--json"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False,
    )  # fmt: skip
    return result.returncode, json.loads(result.stdout)


def test_programs_started_before_redis_begin_work_once_redis_starts(make_stand: MakeStand) -> None:
    stand = make_stand()
    files = {b"%d.txt" % number: b"early %d" % number for number in range(20)}
    dropped = stand.drop_folder(b"early", files)
    for program in (stand.watcher, stand.worker, stand.beat):
        program.spawn()
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher))
    stand.wait_until(lambda: "annot connect to" in stand.worker.text() and "beat: Starting" in stand.beat.text())
    before = pids(stand)

    stand.redis.start()
    assert_all_done_once(stand, dropped)

    assert pids(stand) == before
    assert len(before) == 3
    assert len(stand.log_events("broker_unavailable", stand.watcher)) == 1
    assert stand.duplicates() == {}


def test_a_redis_restart_without_data_loses_no_file(make_stand: MakeStand) -> None:
    stand = make_stand(SLOW_INBOX).start()
    before = pids(stand)

    dropped = stand.drop_folder(b"load", {b"%d.txt" % number: b"content %d" % number for number in range(300)})
    wait_until_some_are_done(stand, dropped)
    stand.redis.kill9()
    shutil.rmtree(stand.folder / "redis")
    (stand.folder / "redis").mkdir()
    stand.redis.start()
    assert_all_done_once(stand, dropped)

    assert pids(stand) == before


def restart_if_exited(program: Program) -> bool:
    """Start a program that has exited, as a service manager does; return True. Other tests check that no program exits."""
    if not program.running:
        program.spawn()
    return True


def exhaust_memory(stand: Stand) -> None:
    """Make the server refuse commands that need memory."""
    stand.client.config_set("maxmemory-policy", "noeviction")
    stand.client.config_set("maxmemory", 1)


def restore_memory(stand: Stand) -> None:
    """Remove the server's memory limit."""
    stand.client.config_set("maxmemory", 0)


def test_while_redis_is_out_of_memory_nothing_is_claimed_and_log_and_status_say_why(make_stand: MakeStand) -> None:
    stand = make_stand(SLOW_INBOX).start()
    dropped = stand.drop_folder(b"load", {b"%d.txt" % number: b"content %d" % number for number in range(300)})
    wait_until_some_are_done(stand, dropped)

    worker_pid = stand.worker.pid
    exhaust_memory(stand)
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher))
    claimed = stand.names("claimed")
    dropped |= stand.drop_folder(b"later", {b"%d.txt" % number: b"meanwhile %d" % number for number in range(20)})
    code, report = status(stand)
    (outage,) = stand.log_events("broker_unavailable", stand.watcher)
    waiting, claimed_since = stand.names("inbox"), stand.names("claimed") - claimed
    restore_memory(stand)
    stand.wait_until(lambda: restart_if_exited(stand.worker) and stand.has_no_pending_files())
    assert_all_done_once(stand, dropped)

    assert claimed_since == set()
    assert {name for name in dropped if name.startswith(b"later/")} <= waiting
    assert "maxmemory" in outage["error"]
    assert code == 1
    assert "maxmemory" in report["broker"]["why"]
    stand.wait_until(lambda: stand.log_events("broker_available", stand.watcher))
    assert len(stand.log_events("broker_unavailable", stand.watcher)) == 1
    # a worker that has exited with its first error reply repeats what its two processes had in hand
    assert len(stand.duplicates()) <= (0 if stand.worker.pid == worker_pid else 2)


def has_blocked_brpop(stand: Stand) -> bool:
    """Return whether a worker's BRPOP is blocked, waiting for a message."""
    return any(client["cmd"] == "brpop" and "b" in client["flags"] for client in stand.client.client_list())


def stop_during_brpop(stand: Stand) -> bool:
    """Stop the worker and return True; continue it and return False if no BRPOP was blocked."""
    stand.worker.send(signal.SIGSTOP)
    if has_blocked_brpop(stand):
        return True
    stand.worker.send(signal.SIGCONT)
    return False


def test_a_worker_that_receives_a_message_while_redis_is_out_of_memory_continues(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    worker_pid = stand.worker.pid

    stand.wait_until(lambda: stop_during_brpop(stand))
    stand.drop(b"message.txt", b"content")
    stand.wait_until(lambda: not has_blocked_brpop(stand), awaited="the reply to the stopped worker's BRPOP")
    stand.wait_until(lambda: stand.log_events("file_claimed", stand.watcher))
    exhaust_memory(stand)
    stand.worker.send(signal.SIGCONT)
    stand.wait_until(lambda: "OutOfMemoryError" in stand.worker.text())
    restore_memory(stand)
    stand.wait_until(lambda: stand.has_no_pending_files() or not stand.worker.running)

    assert stand.worker.running
    assert stand.worker.pid == worker_pid
    assert stand.names("done") == {b"message.txt"}


def test_a_worker_started_while_redis_is_out_of_memory_waits(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    exhaust_memory(stand)

    stand.worker.spawn()
    stand.wait_until(lambda: "maxmemory" in stand.worker.text())
    stand.drop(b"early.txt", b"content")
    stand.watcher.start()
    restore_memory(stand)
    stand.wait_until(lambda: stand.has_no_pending_files() or not stand.worker.running)

    assert stand.worker.running
    assert stand.names("done") == {b"early.txt"}
