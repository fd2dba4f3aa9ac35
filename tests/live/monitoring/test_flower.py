"""Flower and `celery inspect` show tasks, but nothing of the files' contents."""

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
from support.waiting import PROGRAM_SECONDS

from inboxd.messaging.celery_app import PROCESS

pytestmark = pytest.mark.live

SECRET = "secretbytes"
TASKS = "/tasks/datatable?draw=1&start=0&length=100&search[value]=&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
LONG_BACKOFF = {"retries": 3, "retry_backoff_seconds": 50.0, "retry_backoff_max_seconds": 55.0}
"""Retry settings with which a worker keeps a file that has raised once for longer than the tests take."""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a stand with all programs, its worker started with the options of `inboxd up` and the systemd units."""
    with Stand(tmp_path_factory.mktemp("flower"), {"drop": LONG_BACKOFF}) as new_stand:
        new_stand.worker.argv = (*new_stand.worker.argv, "--without-gossip", "--without-mingle")
        yield new_stand.start()


@pytest.fixture(scope="module")
def flower(stand: Stand) -> Iterator[int]:
    """Start Flower as the README says, wait until it has received task events, and yield its port."""
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
    """Drop a file that waits for its retry, once Flower is running; return its parcel."""
    assert flower
    stand.drop(b"waiting.txt", b"raise_twice " + SECRET.encode())
    stand.wait_until(stand.calls, awaited="the first attempt")
    return stand.calls()[0].parcel


def page(port: int, path: str) -> str:
    """Return a page; "" if the server is unreachable or the status is not 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.read().decode() if response.status == 200 else ""
    except (urllib.error.URLError, OSError):
        return ""


def tasks(port: int) -> list[dict[str, Any]]:
    return json.loads(page(port, TASKS) or '{"data": []}')["data"]


def worker(port: int) -> str:
    (status,) = json.loads(page(port, "/workers?json=1&refresh=1"))["data"]
    return status["hostname"]


def test_every_page_loads(flower: int) -> None:
    for path in ("/", "/workers", "/tasks", "/broker", "/metrics", "/healthcheck", f"/worker/{worker(flower)}"):
        assert page(flower, path), path


def test_flower_shows_a_task_with_its_parcel_and_without_its_files_content(stand: Stand, flower: int, parcel: str) -> None:
    def is_in_retry() -> bool:
        return any(task["uuid"] == parcel and task["state"] == "RETRY" for task in tasks(flower))

    stand.wait_until(is_in_retry)
    (task,) = (task for task in tasks(flower) if task["uuid"] == parcel)

    assert (task["name"], task["args"]) == (PROCESS, parcel)
    assert SECRET not in page(flower, TASKS)
    assert parcel in page(flower, f"/task/{parcel}")
    assert SECRET not in page(flower, f"/task/{parcel}")


def test_the_worker_page_shows_a_waiting_parcel_without_its_content(stand: Stand, flower: int, parcel: str) -> None:
    path = f"/worker/{worker(flower)}?refresh=1"

    stand.wait_until(lambda: parcel in page(flower, path))

    assert SECRET not in page(flower, path)


def test_inspect_scheduled_shows_a_waiting_parcel_without_its_content(stand: Stand, parcel: str) -> None:
    inspected = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "inboxd", "inspect", "scheduled", "--timeout", "3"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False,
    )  # fmt: skip

    assert inspected.returncode == 0, inspected.stderr
    assert parcel in inspected.stdout
    assert SECRET not in inspected.stdout


def test_no_task_events_are_sent_unless_enabled(stand: Stand) -> None:
    other = Stand(stand.folder / "quiet")
    with other:
        other.worker.argv = stand.worker.argv
        other.redis.start()
        other.worker.start()
        subscriber = other.client.pubsub()
        subscriber.psubscribe("*inboxdev*")

        other.watcher.start()
        other.drop(b"a.txt", b"describe me")
        other.wait_until(lambda: other.names("done") == {b"a.txt"})
        time.sleep(0.5)  # any event would have been sent by now

        received = iter(lambda: subscriber.get_message(timeout=0.1), None)
        assert [message for message in received if message["type"] == "pmessage"] == []
