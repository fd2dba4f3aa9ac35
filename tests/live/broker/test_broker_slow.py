"""A slow Redis, and a failover to another server, both simulated by a proxy."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
from support.live.slow_proxy import SlowProxy
from support.live.stand import DEFAULTS, HANDLERS, Program, Stand, Table, server_binary

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

SOCKET_TIMEOUT: float = DEFAULTS["redis"]["socket_timeout_seconds"]
CONNECT_TIMEOUT: float = DEFAULTS["redis"]["connect_timeout_seconds"]

RARE_SWEEPS = {"missed_seconds": 15.0, "stale_seconds": 15.0}
"""The settings' defaults: a sweep needs a dozen replies; one per second, as in other tests, would leave no time for work."""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Yield a folder for unix sockets, whose paths have at most 108 bytes."""
    with TemporaryDirectory(prefix="inboxd-test-") as folder:
        yield Path(folder)


@pytest.fixture
def proxy(short_folder: Path) -> SlowProxy:
    return SlowProxy(short_folder)


def start_stand(make_stand: MakeStand, proxy: SlowProxy, inboxes: dict[str, Table] | None = None, **settings: Table) -> Stand:
    """Return a started stand whose programs reach Redis only through the proxy."""
    stand = make_stand(inboxes, redis={"url": proxy.url}, **settings)
    proxy.start(stand)
    return stand.start()


def pids(stand: Stand) -> list[int]:
    """Return the process ids of those of the three programs that run."""
    return [program.pid for program in (stand.watcher, stand.worker, stand.beat) if program.running]


def test_a_redis_that_replies_within_the_timeout_causes_no_outage(make_stand: MakeStand, proxy: SlowProxy) -> None:
    stand = start_stand(make_stand, proxy, sweep=RARE_SWEEPS)
    before = pids(stand)

    proxy.route(stand.socket, delay_seconds=0.05)
    dropped = stand.drop_folder(b"slow", {b"%d.txt" % number: b"content %d" % number for number in range(6)})
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())
    proxy.route(stand.socket, delay_seconds=SOCKET_TIMEOUT / 2)
    dropped |= stand.drop_folder(b"slower", {b"%d.txt" % number: b"content %d" % number for number in range(20)})
    stand.wait_until(lambda: len(stand.log_events("file_claimed", stand.watcher)) > 6)
    proxy.route(stand.socket)
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())

    assert stand.tree("done") == dropped
    assert stand.log_events("broker_unavailable", stand.watcher) == []
    assert stand.duplicates() == {}
    assert pids(stand) == before


def test_a_redis_slower_than_the_timeout_is_an_outage_until_it_is_fast_again(make_stand: MakeStand, proxy: SlowProxy) -> None:
    stand = start_stand(make_stand, proxy, {"drop": {"handler": f"{HANDLERS}:sleep_20_ms"}})
    before = pids(stand)

    dropped = stand.drop_folder(b"load", {b"%d.txt" % number: b"content %d" % number for number in range(200)})
    stand.wait_until(lambda: len(stand.names("done")) >= 20)
    proxy.route(stand.socket, delay_seconds=1.5 * SOCKET_TIMEOUT)
    slow_since = time.monotonic()
    stand.wait_until(lambda: stand.log_events("broker_unavailable", stand.watcher))
    noticed_seconds = time.monotonic() - slow_since
    time.sleep(2 * SOCKET_TIMEOUT)  # the worker's calls time out, too; what it was at decides whether it logs that
    dropped |= stand.drop_folder(b"later", {b"%d.txt" % number: b"meanwhile" for number in range(20)})
    assert {name for name in dropped if name.startswith(b"later")} <= stand.names("inbox"), "claimed during the outage"
    proxy.route(stand.socket)
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") >= dropped.keys())

    assert noticed_seconds < 2 * 2 * (CONNECT_TIMEOUT + SOCKET_TIMEOUT) + 10.0, "see test_broker_bounds.py"
    assert stand.tree("done") == dropped
    assert stand.names("failed") == set()
    assert len(stand.log_events("broker_unavailable", stand.watcher)) == 1
    assert pids(stand) == before


def test_a_failover_to_an_empty_redis_loses_no_file(make_stand: MakeStand, proxy: SlowProxy, short_folder: Path) -> None:
    stand = start_stand(make_stand, proxy, {"drop": {"handler": f"{HANDLERS}:sleep_20_ms"}})
    other = start_second_redis(stand, short_folder / "o.sock")
    before = pids(stand)

    dropped = stand.drop_folder(b"load", {b"%d.txt" % number: b"content %d" % number for number in range(200)})
    stand.wait_until(lambda: len(stand.names("done")) >= 20)
    assert not stand.has_no_pending_files()
    proxy.route(short_folder / "o.sock")
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") >= dropped.keys())

    assert stand.tree("done") == dropped
    assert stand.names("failed") == set()
    assert pids(stand) == before
    assert other.running


def start_second_redis(stand: Stand, socket: Path) -> Program:
    """Start a second server without data; return its program."""
    argv = (server_binary(), "--port", "0", "--unixsocket", str(socket), "--dir", str(socket.parent), "--save", "")

    def is_replying(_start: int) -> bool:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    other = stand.program("other redis", argv, is_replying)
    other.start()
    return other
