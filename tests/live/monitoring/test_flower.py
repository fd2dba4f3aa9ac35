"""Flower, and Celery's own inspection: tasks are shown, and nothing of what the files hold."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from support.free_port import free_port
from support.live.stand import Stand

from inboxd.messaging.celery_app import PROCESS

pytestmark = pytest.mark.live

SECRET = "secretbytes"
TASKS = "/tasks/datatable?draw=1&start=0&length=100&search[value]=&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
HELD = {"retries": 3, "retry_backoff_seconds": 50.0, "retry_backoff_max_seconds": 55.0}
"""What has raised once is held by its worker for longer than the tests take."""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """All programs, the worker as `inboxd up` and the systemd units start it."""
    with Stand(tmp_path_factory.mktemp("flower"), {"drop": HELD}) as made:
        made.worker.argv = (*made.worker.argv, "--without-gossip", "--without-mingle")
        yield made.start()


@pytest.fixture(scope="module")
def flower(stand: Stand) -> Iterator[int]:
    """Start Flower as the README says, and return its port, once a task's events arrive there."""
    port = free_port()
    argv = (sys.executable, "-m", "celery", "-A", "inboxd", "flower", "--address=127.0.0.1", f"--port={port}")
    program = stand.program("flower", argv)
    program.spawn()
    stand.wait_until(lambda: not program.running or tasks(port), awaited="tasks in Flower")
    assert program.running
    yield port
    program.kill9()


@pytest.fixture(scope="module")
def parcel(stand: Stand, flower: int) -> str:
    """Drop a file that its worker will hold, when Flower is there; return its parcel."""
    assert flower
    stand.drop(b"held.txt", b"raise_twice " + SECRET.encode())
    stand.wait_until(stand.calls, awaited="the first attempt")
    return stand.calls()[0].parcel


def page(port: int, path: str) -> str:
    """Fetch a page; "" while nobody answers or the answer is not 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode() if answer.status == 200 else ""
    except (urllib.error.URLError, OSError):
        return ""


def tasks(port: int) -> list[dict[str, Any]]:
    return json.loads(page(port, TASKS) or '{"data": []}')["data"]


def worker(port: int) -> str:
    (one,) = json.loads(page(port, "/workers?json=1&refresh=1"))["data"]
    return one["hostname"]


def test_every_page_loads(flower: int) -> None:
    for path in ("/", "/workers", "/tasks", "/broker", "/metrics", "/healthcheck", f"/worker/{worker(flower)}"):
        assert page(flower, path), path


def test_a_task_is_shown_by_its_parcel_and_without_what_its_file_holds(stand: Stand, flower: int, parcel: str) -> None:
    def is_held() -> bool:
        return any(task["uuid"] == parcel and task["state"] == "RETRY" for task in tasks(flower))

    stand.wait_until(is_held)
    (shown,) = (task for task in tasks(flower) if task["uuid"] == parcel)

    assert (shown["name"], shown["args"]) == (PROCESS, parcel)
    assert SECRET not in page(flower, TASKS)
    assert parcel in page(flower, f"/task/{parcel}")
    assert SECRET not in page(flower, f"/task/{parcel}")


def test_the_worker_s_page_shows_what_it_holds_and_not_what_is_in_it(stand: Stand, flower: int, parcel: str) -> None:
    path = f"/worker/{worker(flower)}?refresh=1"

    stand.wait_until(lambda: parcel in page(flower, path))

    assert SECRET not in page(flower, path)


def test_inspect_tells_of_what_is_held_and_not_what_is_in_it(stand: Stand, parcel: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "inboxd", "inspect", "scheduled", "--timeout", "3"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert asked.returncode == 0, asked.stderr
    assert parcel in asked.stdout
    assert SECRET not in asked.stdout


def test_no_events_are_sent_before_somebody_asks_for_them(stand: Stand) -> None:
    other = Stand(stand.folder / "quiet")
    with other:
        other.worker.argv = stand.worker.argv
        other.redis.start()
        other.worker.start()
        ear = other.client.pubsub()
        ear.psubscribe("*inboxdev*")

        other.watcher.start()
        other.drop(b"a.txt", b"describe me")
        other.wait_until(lambda: other.names("done") == {b"a.txt"})
        time.sleep(0.5)  # what was to be sent is sent by now

        heard = [message for message in iter(lambda: ear.get_message(timeout=0.1), None) if message["type"] == "pmessage"]
        assert heard == []
