"""A call to a Redis server that hangs takes no longer than the timeouts in the settings imply."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from support.live.stand import Stand

from inboxd.broker.connection import make_client
from inboxd.broker.heartbeat import Heartbeat, write_heartbeat
from inboxd.broker.leases import Leases
from inboxd.config.settings import Settings
from inboxd.console.status.snapshot import take_snapshot
from inboxd.errors import BrokerUnavailable
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.messaging.publishing import Publisher
from inboxd.spool.layout import new_parcel_id

pytestmark = pytest.mark.live

CONNECT_TIMEOUT, SOCKET_TIMEOUT = 0.3, 0.4
BOUND_SECONDS = 2 * 2 * (CONNECT_TIMEOUT + SOCKET_TIMEOUT) + 10.0
"""Maximum time of a call: two tries, each with up to two connection attempts. Measured: at most 4 socket timeouts."""
PING_SECONDS = 1.0


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a stand that runs only the server."""
    with Stand(tmp_path_factory.mktemp("bounds")) as new_stand:
        new_stand.redis.start()
        yield new_stand


@pytest.fixture
def settings(stand: Stand) -> Settings:
    timeouts = {"connect_timeout_seconds": CONNECT_TIMEOUT, "socket_timeout_seconds": SOCKET_TIMEOUT}
    inbox = {"root": str(stand.root())}
    return Settings(host="here", redis={"url": f"unix://{stand.socket}", **timeouts}, inbox={"drop": inbox})


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    with make_app(settings) as new_app:
        yield new_app


Call = Callable[[], object]


@pytest.fixture
def calls(settings: Settings, app: Celery) -> Iterator[dict[str, Call]]:
    part = FilePart(b"a.txt", "text/plain", 1, {"id": "1"}, b"x")
    with make_client(settings) as client:
        leases = Leases(client, keep_seconds=60)
        publisher = Publisher(app, leases)
        yield {
            "send": lambda: publisher.publish(
                Parcel(new_parcel_id(), "drop", "here", b"/srv", (part,)), settings.inbox["drop"]
            ),
            "a lease": lambda: leases.queue(new_parcel_id(), "drop", 5.0),
            "the heartbeat": lambda: write_heartbeat(client, "here", Heartbeat(time.time(), {})),
            "counting workers": lambda: app.control.inspect(timeout=PING_SECONDS).ping(),
        }


@contextlib.contextmanager
def hanging_redis(stand: Stand) -> Iterator[None]:
    """Stop the server: connections to it succeed, but it sends no reply."""
    stand.redis.send(signal.SIGSTOP)
    try:
        yield
    finally:
        stand.redis.send(signal.SIGCONT)


@pytest.mark.parametrize("is_connected", [True, False], ids=["connected before", "first call"])
@pytest.mark.parametrize("name", ["send", "a lease", "the heartbeat", "counting workers"])
def test_a_call_to_a_hanging_redis_fails_in_time(stand: Stand, calls: dict[str, Call], name: str, is_connected: bool) -> None:
    if is_connected:
        calls[name]()

    with hanging_redis(stand):
        started_at = time.monotonic()
        with pytest.raises((BrokerUnavailable, OperationalError, redis.RedisError)):
            calls[name]()
        elapsed = time.monotonic() - started_at

    assert elapsed < BOUND_SECONDS


def test_status_reports_a_hanging_redis_in_time(stand: Stand, settings: Settings) -> None:
    with hanging_redis(stand):
        started_at = time.monotonic()
        status = take_snapshot(settings, time.time(), Path("settings.toml"))
        elapsed = time.monotonic() - started_at

    assert "Timeout" in status.broker_error
    assert elapsed < BOUND_SECONDS
