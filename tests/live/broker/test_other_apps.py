"""Another Celery app on the same Redis: neither takes the other's messages for lost ones, nor chokes on its broadcasts."""

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
"""A visibility timeout, after which a message of one's own would be handed out again."""
LONG_SECONDS = SHORT_SECONDS + 3
PATIENT_SECONDS = 3600


def their_worker(stand: Stand, visibility_timeout: int) -> Program:
    """Add the neighbour's worker."""
    more = {"NEIGHBOUR_BROKER": celery_url(stand), "NEIGHBOUR_VISIBILITY_TIMEOUT": str(visibility_timeout)}
    argv = (
        sys.executable,
        "-m",
        "celery",
        "-A",
        "support.live.neighbour",
        "worker",
        "-c",
        "1",
        "-n",
        "neighbour@%h",
        "-l",
        "info",
    )
    added = stand.program(
        "neighbour", argv, lambda start: " ready." in added.text(start), environment=stand.environment(**more)
    )
    return added


def celery_url(stand: Stand) -> str:
    return celery_broker_url(Settings(redis={"url": f"unix://{stand.socket}"}))


def their_app(stand: Stand, control_exchange: str = "celery") -> Celery:
    """Return an app as somebody else would make one: JSON throughout."""
    app = Celery("theirs", broker=celery_url(stand), set_as_current=False)
    app.conf.control_exchange = control_exchange
    return app


def test_an_app_with_a_short_visibility_timeout_does_not_hand_our_messages_out_again(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    their_worker(stand, SHORT_SECONDS).start()

    stand.drop(b"long.txt", b"sleep %d" % LONG_SECONDS)
    stand.wait_until(lambda: stand.path("done", b"long.txt").exists())

    assert [call.attempt for call in stand.calls()] == [1]
    assert stand.log_events("duplicate_ignored") == [], "a second copy of its message has come"


def test_our_worker_does_not_hand_out_again_what_a_patient_app_works_on(make_stand: MakeStand) -> None:
    stand = make_stand()
    options = f"{{**app.conf.broker_transport_options, 'visibility_timeout': {SHORT_SECONDS}}}"
    (stand.folder / "hasty.py").write_text(f"from inboxd.celery import app\napp.conf.broker_transport_options = {options}\n")
    stand.worker.argv = tuple("hasty" if word == "inboxd" else word for word in stand.worker.argv)
    stand.redis.start()
    stand.worker.start()
    their_worker(stand, PATIENT_SECONDS).start()
    record = stand.folder / "calls.txt"

    with their_app(stand) as app:
        app.send_task("neighbour.work", args=[LONG_SECONDS, str(record)], queue="neighbour")
    stand.wait_until(record.exists)
    stand.wait_until(lambda: stand.client.hlen("unacked") == 0 and stand.client.llen("neighbour") == 0)

    assert record.read_text("ascii") == "called\n"


def test_another_apps_broadcasts_are_not_heard(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.worker.start()

    broadcast(stand, "celery")

    assert_works(stand)
    assert [line for line in stand.log_lines(stand.worker) if line["level"] in {"error", "critical"}] == []


def test_a_broadcast_in_json_on_our_own_exchange_is_refused(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.worker.start()

    broadcast(stand, "inboxd")
    stand.wait_until(lambda: "Refusing to deserialize" in stand.worker.text())

    assert_works(stand)


def broadcast(stand: Stand, control_exchange: str) -> None:
    """Send commands to all workers that listen there, one of them to end."""
    with their_app(stand, control_exchange) as app:
        for command in ("ping", "no_such_command", "shutdown"):
            app.control.broadcast(command)


def assert_works(stand: Stand) -> None:
    """See that the worker still is the same, and at work."""
    worker = stand.worker.pid
    stand.watcher.start()
    stand.drop(b"after.txt", b"still there?")
    stand.wait_until(lambda: stand.path("done", b"after.txt").exists())
    assert stand.worker.running
    assert stand.worker.pid == worker
