"""Redis that forgets, dies, hangs, and is not there yet."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from support.live.stand import HANDLERS, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand whose server these tests maltreat; each leaves it running, and everything at rest."""
    with Stand(tmp_path_factory.mktemp("redis"), {"drop": {"handler": f"{HANDLERS}:sleep_20_ms"}}) as made:
        yield made.start()


def burst(stand: Stand, name: bytes, count: int) -> dict[bytes, str]:
    """Drop so many files at once, and wait until some, and not all, are done."""
    dropped = stand.drop_folder(name, {b"%d.txt" % number: b"content %d" % number for number in range(count)})
    stand.wait_until(lambda: sum(done.startswith(name) for done in stand.names("done")) >= count // 10)
    assert not stand.is_at_rest(), "all were done before the trouble began"
    return dropped


def assert_filed_once(stand: Stand, name: bytes, dropped: dict[bytes, str]) -> None:
    """Wait until all of a burst is done, and compare."""
    stand.wait_until(lambda: stand.is_at_rest() and dropped.keys() <= stand.names("done"), 45)
    assert {path: digest for path, digest in stand.tree("done").items() if path.startswith(name)} == dropped
    assert stand.names("failed") == set()


def test_a_redis_that_forgets_everything_loses_no_file(stand: Stand) -> None:
    programs = (stand.watcher.pid, stand.worker.pid, stand.beat.pid)

    dropped = burst(stand, b"flush", 300)
    stand.client.flushall()
    assert_filed_once(stand, b"flush", dropped)

    assert (stand.watcher.pid, stand.worker.pid, stand.beat.pid) == programs


def test_a_redis_that_is_killed_and_comes_back_loses_no_file(stand: Stand) -> None:
    programs = (stand.watcher.pid, stand.worker.pid, stand.beat.pid)

    dropped = burst(stand, b"kill", 200)
    told = len(stand.log_events("broker_unavailable", stand.watcher))
    stand.redis.kill9()
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher)[told:])
    stand.redis.start()
    assert_filed_once(stand, b"kill", dropped)

    assert (stand.watcher.pid, stand.worker.pid, stand.beat.pid) == programs
    assert all(program.running for program in stand.programs.values())


def test_a_redis_that_hangs_holds_nothing_up_for_good(stand: Stand) -> None:
    programs = (stand.watcher.pid, stand.worker.pid, stand.beat.pid)

    dropped = burst(stand, b"hang", 100)
    stand.redis.send(signal.SIGSTOP)
    hung = time.monotonic()
    dropped |= stand.drop_folder(b"hang too", {b"%d.txt" % number: b"meanwhile" for number in range(20)})
    time.sleep(max(hung + 8 - time.monotonic(), 0))
    stand.redis.send(signal.SIGCONT)
    assert_filed_once(stand, b"hang", dropped)

    assert (stand.watcher.pid, stand.worker.pid, stand.beat.pid) == programs
    assert all(program.running for program in stand.programs.values())


def test_without_a_broker_the_watcher_claims_nothing_says_so_once_and_idles(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.drop(b"early.txt", b"nobody can be told of me")

    stand.watcher.start()
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher))
    begun, used = time.monotonic(), stand.watcher.cpu_seconds()
    stand.drop(b"late.txt", b"nor of me")
    time.sleep(3)
    share = (stand.watcher.cpu_seconds() - used) / (time.monotonic() - begun)

    assert share < 0.1
    assert stand.names("inbox") == {b"early.txt", b"late.txt"}
    assert list(stand.path("claimed").iterdir()) == []
    assert len(stand.log_events("broker_unavailable", stand.watcher)) == 1
    stand.redis.start()
    stand.worker.start()
    stand.wait_until(lambda: stand.names("done") == {b"early.txt", b"late.txt"})
    assert len(stand.log_events("broker_available", stand.watcher)) == 1


def test_a_file_that_was_worked_on_while_redis_was_away_is_not_blamed_for_it(make_stand: MakeStand) -> None:
    stand = make_stand(work={"crashes_max": 1}).start()
    worker = stand.worker.pid
    for name in (b"1.txt", b"2.txt"):  # both children have connections now, which go stale
        stand.drop(name, b"sleep 0.5")
    stand.wait_until(lambda: len(stand.names("done")) == 2)

    stand.drop(b"innocent.txt", b"sleep 1")
    stand.wait_until(lambda: stand.calls(b"innocent.txt"))
    stand.redis.kill9()
    stand.wait_until(lambda: len(stand.log_events("file_handled", stand.worker)) == 3)
    time.sleep(1)  # its outcome finds no Redis to be stored in
    stand.redis.start()
    stand.wait_until(stand.is_at_rest)

    assert stand.names("failed") == set()
    assert stand.names("done") == {b"1.txt", b"2.txt", b"innocent.txt"}
    assert stand.worker.pid == worker


def busy_with_a_free_slot(stand: Stand, seconds: int) -> None:
    """Arrange what it takes: one unacknowledged message, and a BRPOP that waits for another one."""
    stand.drop(b"busy.txt", b"sleep %d" % seconds)
    stand.wait_until(lambda: stand.calls(b"busy.txt"))
    stand.wait_until(lambda: any(client["cmd"] == "brpop" and "b" in client["flags"] for client in stand.client.client_list()))


def test_a_worker_that_is_busy_and_has_a_free_slot_survives_the_loss_of_redis(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    main = stand.worker.pid

    busy_with_a_free_slot(stand, 3)
    stand.redis.kill9()
    stand.wait_until(lambda: "Connection to broker lost" in stand.worker.text())
    stand.redis.start()
    stand.drop(b"next.txt", b"still there?")
    stand.wait_until(lambda: stand.names("done") == {b"busy.txt", b"next.txt"})

    assert stand.worker.running
    assert stand.worker.pid == main
    stand.wait_until(stand.is_at_rest)


def test_celerys_own_consumer_still_dies_of_it(make_stand: MakeStand) -> None:
    """When this fails, a newer Celery has mended it: tasks/hardening/consumer.py and this test can go."""
    stand = make_stand()
    (stand.folder / "stock.py").write_text(
        "from celery.worker.consumer import Consumer\nfrom inboxd.celery import app\nfrom inboxd.tasks.service import worker\n"
        "worker.SteadyConsumer = lambda *args, quarantine_failed, **kwargs: Consumer(*args, **kwargs)\n"
    )
    stand.worker.argv = tuple("stock" if word == "inboxd" else word for word in stand.worker.argv)
    stand.start()

    busy_with_a_free_slot(stand, 3)
    stand.redis.kill9()
    stand.wait_until(lambda: "Unrecoverable error" in stand.worker.text(), 15, awaited="the worker to end (mended upstream?)")

    assert "'NoneType' object has no attribute 'hostname'" in stand.worker.text()


def test_a_flush_with_two_thousand_files_in_flight_loses_none(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.client.set(
        "inboxd:seconds_per_file:drop", "0.0001"
    )  # the handler is known to be quick: parcels are large from the start
    stand.watcher.start()
    dropped = stand.drop_folder(b"many", {b"%d.txt" % number: b"content %d" % number for number in range(2000)})
    stand.wait_until(lambda: stand.client.llen("inboxd.work") and len(stand.names("claimed")) >= 2000)

    stand.client.flushall()
    stand.worker.start()
    stand.beat.start()
    stand.wait_until(stand.is_at_rest, 60)

    assert stand.tree("done") == dropped
    assert stand.duplicates() == {}
