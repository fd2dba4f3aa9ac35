"""Another Celery app on the same Redis: neither app redelivers the other's messages or fails on its broadcasts."""

import sys
from collections.abc import Callable

import pytest
from celery import Celery
from support.live.stand import Program, Stand

from inboxd.broker.connection import celery_broker_url
from inboxd.config.settings import Settings

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

SHORT_SECONDS = 2
"""Visibility timeout of one app, shorter than the other app's tasks of LONG_SECONDS."""
LONG_SECONDS = SHORT_SECONDS + 3
HOUR_SECONDS = 3600


def add_other_worker(stand: Stand, visibility_timeout: int) -> Program:
    """Add a worker of the other app."""
    environment = stand.environment(OTHER_BROKER=celery_url(stand), OTHER_VISIBILITY_TIMEOUT=str(visibility_timeout))
    celery = (sys.executable, "-m", "celery", "-A", "support.live.other_app")
    argv = (*celery, "worker", "-c", "1", "-n", "other@%h", "-l", "info")
    added = stand.program("other", argv, lambda start: " ready." in added.text(start), environment=environment)
    return added


def celery_url(stand: Stand) -> str:
    return celery_broker_url(Settings(redis={"url": f"unix://{stand.socket}"}))


def make_other_app(stand: Stand, control_exchange: str = "celery") -> Celery:
    """Return an app with Celery's default serializer, JSON."""
    app = Celery("other", broker=celery_url(stand), set_as_current=False)
    app.conf.control_exchange = control_exchange
    return app


def test_another_app_with_a_short_visibility_timeout_does_not_redeliver_our_messages(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    add_other_worker(stand, SHORT_SECONDS).start()

    stand.drop(b"long.txt", b"sleep %d" % LONG_SECONDS)
    stand.wait_until(lambda: stand.path("done", b"long.txt").exists())

    assert [call.attempt for call in stand.calls()] == [1]
    assert stand.log_events("duplicate_ignored") == [], "the message was redelivered"


def test_our_worker_does_not_redeliver_messages_of_an_app_with_a_long_visibility_timeout(make_stand: MakeStand) -> None:
    stand = make_stand()
    options = f"{{**app.conf.broker_transport_options, 'visibility_timeout': {SHORT_SECONDS}}}"
    (stand.folder / "short_timeout.py").write_text(
        f"from inboxd.celery import app\napp.conf.broker_transport_options = {options}\n"
    )
    stand.worker.argv = tuple("short_timeout" if word == "inboxd" else word for word in stand.worker.argv)
    stand.redis.start()
    stand.worker.start()
    add_other_worker(stand, HOUR_SECONDS).start()
    calls_file = stand.folder / "calls.txt"

    with make_other_app(stand) as app:
        app.send_task("other.sleep", args=[LONG_SECONDS, str(calls_file)], queue="other")
    stand.wait_until(calls_file.exists)
    stand.wait_until(lambda: stand.client.hlen("unacked") == 0 and stand.client.llen("other") == 0)

    assert calls_file.read_text("ascii") == "called\n"


def test_our_worker_does_not_receive_another_apps_broadcasts(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.worker.start()

    broadcast(stand, "celery")

    assert_worker_runs(stand)
    assert [line for line in stand.log_lines(stand.worker) if line["level"] in {"error", "critical"}] == []


def test_a_broadcast_in_json_on_our_own_exchange_is_refused(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.worker.start()

    broadcast(stand, "inboxd")
    stand.wait_until(lambda: stand.log_events("broadcast_refused", stand.worker))

    assert_worker_runs(stand)


def broadcast(stand: Stand, control_exchange: str) -> None:
    """Send commands, such as shutdown, to all workers on this control exchange."""
    client = stand.client
    stand.wait_until(lambda: client.pubsub_channels() or client.pubsub_numpat(), awaited="a worker's subscription")
    with make_other_app(stand, control_exchange) as app:
        for command in ("ping", "no_such_command", "shutdown"):
            app.control.broadcast(command)


def assert_worker_runs(stand: Stand) -> None:
    """Assert that the same worker process handles another file."""
    worker_pid = stand.worker.pid
    stand.watcher.start()
    stand.drop(b"after.txt", b"content")
    stand.wait_until(lambda: stand.path("done", b"after.txt").exists())
    assert stand.worker.running
    assert stand.worker.pid == worker_pid
