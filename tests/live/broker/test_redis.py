"""Redis that is flushed, killed, stopped or not yet started loses no file."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from support.live.stand import HANDLERS, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a stand for tests that disturb the server; each of them leaves it running and no file in flight."""
    with Stand(tmp_path_factory.mktemp("redis"), {"drop": {"handler": f"{HANDLERS}:sleep_20_ms"}}) as new_stand:
        yield new_stand.start()


def drop_burst(stand: Stand, name: bytes, count: int) -> dict[bytes, str]:
    """Drop ``count`` files at once and wait until a tenth of them is done; fail the test if all are."""
    dropped = stand.drop_folder(name, {b"%d.txt" % number: b"content %d" % number for number in range(count)})
    stand.wait_until(lambda: sum(done.startswith(name) for done in stand.names("done")) >= count // 10)
    assert not stand.has_no_pending_files(), "all files were done before the outage"
    return dropped


def assert_filed_once(stand: Stand, name: bytes, dropped: dict[bytes, str]) -> None:
    """Wait until a burst is done; assert that done/ contains each of its files once and unchanged, and failed/ none."""
    stand.wait_until(lambda: stand.has_no_pending_files() and dropped.keys() <= stand.names("done"))
    assert {path: digest for path, digest in stand.tree("done").items() if path.startswith(name)} == dropped
    assert stand.names("failed") == set()


def test_a_flush_of_redis_loses_no_file(stand: Stand) -> None:
    pids = (stand.watcher.pid, stand.worker.pid, stand.beat.pid)

    dropped = drop_burst(stand, b"flush", 300)
    stand.client.flushall()
    assert_filed_once(stand, b"flush", dropped)

    assert (stand.watcher.pid, stand.worker.pid, stand.beat.pid) == pids


def test_a_kill_and_restart_of_redis_loses_no_file(stand: Stand) -> None:
    pids = (stand.watcher.pid, stand.worker.pid, stand.beat.pid)

    dropped = drop_burst(stand, b"kill", 200)
    logged_before = len(stand.log_events("broker_unavailable", stand.watcher))
    stand.redis.kill9()
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher)[logged_before:])
    stand.redis.start()
    assert_filed_once(stand, b"kill", dropped)

    assert (stand.watcher.pid, stand.worker.pid, stand.beat.pid) == pids
    assert all(program.running for program in stand.programs.values())


def test_all_files_are_filed_after_redis_has_hung(stand: Stand) -> None:
    pids = (stand.watcher.pid, stand.worker.pid, stand.beat.pid)

    dropped = drop_burst(stand, b"hang", 100)
    stand.redis.send(signal.SIGSTOP)
    hung_at = time.monotonic()
    dropped |= stand.drop_folder(b"hang too", {b"%d.txt" % number: b"meanwhile" for number in range(20)})
    time.sleep(max(hung_at + 8 - time.monotonic(), 0))
    stand.redis.send(signal.SIGCONT)
    assert_filed_once(stand, b"hang", dropped)

    assert (stand.watcher.pid, stand.worker.pid, stand.beat.pid) == pids
    assert all(program.running for program in stand.programs.values())


def test_without_a_broker_the_watcher_claims_nothing_logs_the_outage_once_and_idles(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.drop(b"early.txt", b"content")

    stand.watcher.start()
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher))
    started_at, cpu_before = time.monotonic(), stand.watcher.cpu_seconds()
    stand.drop(b"late.txt", b"content")
    time.sleep(3)
    cpu_share = (stand.watcher.cpu_seconds() - cpu_before) / (time.monotonic() - started_at)

    assert cpu_share < 0.1
    assert stand.names("inbox") == {b"early.txt", b"late.txt"}
    assert list(stand.path("claimed").iterdir()) == []
    assert len(stand.log_events("broker_unavailable", stand.watcher)) == 1
    stand.redis.start()
    stand.worker.start()
    stand.wait_until(lambda: stand.names("done") == {b"early.txt", b"late.txt"})
    assert len(stand.log_events("broker_available", stand.watcher)) == 1


def test_a_redis_outage_during_a_handler_does_not_count_as_a_crash_of_its_file(make_stand: MakeStand) -> None:
    stand = make_stand(work={"crashes_max": 1}).start()
    worker_pid = stand.worker.pid
    for name in (b"1.txt", b"2.txt"):  # gives both worker processes connections, which go stale
        stand.drop(name, b"sleep 0.5")
    stand.wait_until(lambda: len(stand.names("done")) == 2)

    stand.drop(b"running.txt", b"sleep 1")
    stand.wait_until(lambda: stand.calls(b"running.txt"))
    stand.redis.kill9()
    stand.wait_until(lambda: len(stand.log_events("file_handled", stand.worker)) == 3)
    time.sleep(1)  # the outcome can't be stored
    stand.redis.start()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("failed") == set()
    assert stand.names("done") == {b"1.txt", b"2.txt", b"running.txt"}
    assert stand.worker.pid == worker_pid


def occupy_one_slot(stand: Stand, seconds: int) -> None:
    """Start a handler, and wait until the worker's BRPOP is blocked: one message is unacknowledged and one slot free."""
    stand.drop(b"busy.txt", b"sleep %d" % seconds)
    stand.wait_until(lambda: stand.calls(b"busy.txt"))
    stand.wait_until(lambda: any(client["cmd"] == "brpop" and "b" in client["flags"] for client in stand.client.client_list()))


def test_a_worker_with_a_running_handler_and_a_free_slot_survives_the_loss_of_redis(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    worker_pid = stand.worker.pid

    occupy_one_slot(stand, 3)
    stand.redis.kill9()
    stand.wait_until(lambda: "Connection to broker lost" in stand.worker.text())
    stand.redis.start()
    stand.drop(b"next.txt", b"content")
    stand.wait_until(lambda: stand.names("done") == {b"busy.txt", b"next.txt"})

    assert stand.worker.running
    assert stand.worker.pid == worker_pid
    stand.wait_until(stand.has_no_pending_files)


def test_celerys_own_consumer_still_exits_on_the_loss_of_redis(make_stand: MakeStand) -> None:
    """If this test fails, Celery has fixed the bug: delete tasks/hardening/consumer.py and this test."""
    stand = make_stand()
    (stand.folder / "stock.py").write_text(
        "from celery.worker.consumer import Consumer\nfrom inboxd.celery import app\nfrom inboxd.tasks.service import worker\n"
        "worker.SteadyConsumer = lambda *args, quarantine_failed, **kwargs: Consumer(*args, **kwargs)\n"
    )
    stand.worker.argv = tuple("stock" if word == "inboxd" else word for word in stand.worker.argv)
    stand.start()

    occupy_one_slot(stand, 3)
    stand.redis.kill9()
    stand.wait_until(
        lambda: "Unrecoverable error" in stand.worker.text(), 15, awaited="the exit of the worker (is the bug fixed in Celery?)"
    )

    assert "'NoneType' object has no attribute 'hostname'" in stand.worker.text()


def test_a_flush_with_two_thousand_files_in_flight_loses_none(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.client.set("inboxd:seconds_per_file:drop", "0.0001")  # a known fast handler: large parcels from the start
    stand.watcher.start()
    dropped = stand.drop_folder(b"many", {b"%d.txt" % number: b"content %d" % number for number in range(2000)})
    stand.wait_until(lambda: stand.client.llen("inboxd.work") and len(stand.names("claimed")) >= 2000)

    stand.client.flushall()
    stand.worker.start()
    stand.beat.start()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.tree("done") == dropped
    assert stand.duplicates() == {}
