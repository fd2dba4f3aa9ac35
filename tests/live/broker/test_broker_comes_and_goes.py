"""Redis that comes late, comes back empty, or is full: the programs wait, say why, and go on by themselves."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from support.live.stand import HANDLERS, Program, Stand, Table

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

SLOWLY = {"drop": {"handler": f"{HANDLERS}:sleep_20_ms"}}


def pids(stand: Stand) -> tuple[int, ...]:
    """Return the numbers of the three programs; fails when one has ended."""
    return tuple(program.pid for program in (stand.watcher, stand.worker, stand.beat) if program.running)


def some_are_done(stand: Stand, dropped: dict[bytes, str]) -> None:
    """Wait until some of these files, and not all, are done."""
    stand.wait_until(lambda: len(stand.names("done") & dropped.keys()) >= len(dropped) // 10)
    assert not stand.is_at_rest(), "all were done before the trouble began"


def assert_all_done_once(stand: Stand, dropped: dict[bytes, str], seconds: float = 60.0) -> None:
    """Wait until all is filed, and compare what lies in done/ with what was dropped."""
    stand.wait_until(lambda: stand.is_at_rest() and dropped.keys() <= stand.names("done"), seconds)
    assert stand.tree("done") == dropped
    assert stand.names("failed") == set()


def status(stand: Stand) -> tuple[int, Table]:
    """Ask `inboxd status --json`; returns its exit code and its answer."""
    asked = subprocess.run(
        [sys.executable, "-m", "inboxd", "status", "--json"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return asked.returncode, json.loads(asked.stdout)


def test_programs_that_were_started_before_redis_begin_by_themselves_when_it_comes(make_stand: MakeStand) -> None:
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


def test_a_redis_that_comes_back_without_its_data_loses_no_file(make_stand: MakeStand) -> None:
    stand = make_stand(SLOWLY).start()
    before = pids(stand)

    dropped = stand.drop_folder(b"load", {b"%d.txt" % number: b"content %d" % number for number in range(300)})
    some_are_done(stand, dropped)
    stand.redis.kill9()
    shutil.rmtree(stand.folder / "redis")
    (stand.folder / "redis").mkdir()
    stand.redis.start()
    assert_all_done_once(stand, dropped)

    assert pids(stand) == before


def tend(program: Program) -> bool:
    """Do a service manager's part. Whether it should come to that is another test's question."""
    if not program.running:
        program.spawn()
    return True


def fill_up(stand: Stand) -> None:
    """Let the server refuse whatever needs memory."""
    stand.client.config_set("maxmemory-policy", "noeviction")
    stand.client.config_set("maxmemory", 1)


def empty_out(stand: Stand) -> None:
    """Give the server all the memory that it wants."""
    stand.client.config_set("maxmemory", 0)


def test_while_redis_is_full_nothing_is_claimed_and_everybody_says_why(make_stand: MakeStand) -> None:
    stand = make_stand(SLOWLY).start()
    dropped = stand.drop_folder(b"load", {b"%d.txt" % number: b"content %d" % number for number in range(300)})
    some_are_done(stand, dropped)

    fill_up(stand)
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher))
    claimed = stand.names("claimed")
    dropped |= stand.drop_folder(b"later", {b"%d.txt" % number: b"meanwhile %d" % number for number in range(20)})
    code, said = status(stand)
    (told,) = stand.log_events("broker_unavailable", stand.watcher)
    waiting, claimed_since = stand.names("inbox"), stand.names("claimed") - claimed
    empty_out(stand)
    stand.wait_until(lambda: tend(stand.worker) and stand.is_at_rest(), 60)
    assert_all_done_once(stand, dropped)

    assert claimed_since == set()
    assert {name for name in dropped if name.startswith(b"later/")} <= waiting
    assert "maxmemory" in told["error"]
    assert code == 1
    assert "maxmemory" in said["broker"]["why"]
    stand.wait_until(lambda: stand.log_events("broker_available", stand.watcher))
    assert len(stand.log_events("broker_unavailable", stand.watcher)) == 1
    assert stand.duplicates() == {}


def a_worker_waits(stand: Stand) -> bool:
    """Tell whether a BRPOP waits for a message."""
    return any(client["cmd"] == "brpop" and "b" in client["flags"] for client in stand.client.client_list())


def stops_while_it_waits(stand: Stand) -> bool:
    """Stop the worker; let it go on if it was not just waiting for a message."""
    stand.worker.send(signal.SIGSTOP)
    if a_worker_waits(stand):
        return True
    stand.worker.send(signal.SIGCONT)
    return False


def test_a_worker_that_gets_a_message_just_when_redis_is_full_goes_on(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    worker = stand.worker.pid

    stand.wait_until(lambda: stops_while_it_waits(stand))
    stand.drop(b"message.txt", b"just now")
    stand.wait_until(lambda: not a_worker_waits(stand), awaited="its BRPOP to be answered, of which it does not know yet")
    stand.wait_until(lambda: stand.log_events("file_claimed", stand.watcher))
    fill_up(stand)
    stand.worker.send(signal.SIGCONT)
    stand.wait_until(lambda: "OutOfMemoryError" in stand.worker.text())
    empty_out(stand)
    stand.wait_until(lambda: stand.is_at_rest() or not stand.worker.running)

    assert stand.worker.running
    assert stand.worker.pid == worker
    assert stand.names("done") == {b"message.txt"}


def test_a_worker_that_is_started_while_redis_is_full_waits_for_it(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    fill_up(stand)

    stand.worker.spawn()
    stand.wait_until(lambda: "maxmemory" in stand.worker.text())
    stand.drop(b"early.txt", b"take me")
    stand.watcher.start()
    empty_out(stand)
    stand.wait_until(lambda: stand.is_at_rest() or not stand.worker.running)

    assert stand.worker.running
    assert stand.names("done") == {b"early.txt"}
