"""Celery's own command line on inboxd's app: inspect, Flower, and a worker with a beat of its own."""

import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from support.stand import Stand

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A server and one worker that has its own beat: no watcher, no other beat."""
    with Stand(tmp_path_factory.mktemp("commands")) as made:
        made.worker.argv = (*made.worker.argv, "-B")
        made.worker.dies_by = signal.SIGTERM  # a SIGKILL would leave its beat behind
        made.redis.start()
        made.worker.start()
        yield made


def test_inspect_ping_is_answered(stand: Stand) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks.app", "inspect", "ping", "--timeout", "2"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert asked.returncode == 0, asked.stderr
    assert "pong" in asked.stdout
    assert "1 node online" in asked.stdout


def test_flower_shows_the_worker(stand: Stand) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = (sys.executable, "-m", "celery", "-A", "tasks.app", "flower", "--address=127.0.0.1", f"--port={port}")
    flower = stand.program("flower", argv)

    flower.spawn()
    stand.wait_until(lambda: not flower.running or "celery@" in _page(port, "/workers?json=1&refresh=1"))

    assert flower.running
    assert "Flower" in _page(port, "/")
    flower.kill9()


def _page(port: int, path: str) -> str:
    """Fetch a page; "" while nobody answers or the answer is not 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.read().decode() if answer.status == 200 else ""
    except (urllib.error.URLError, OSError):
        return ""


def test_a_worker_with_its_own_beat_sweeps(stand: Stand) -> None:
    parcel = f"{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
    name = f"{parcel}/sub/stranded.txt".encode()
    stranded = stand.path("claimed", name)
    stranded.parent.mkdir(parents=True)
    stranded.write_bytes(b"my watcher died before it told anybody")

    stand.wait_until(lambda: stand.path("done", b"sub/stranded.txt").exists())

    assert stand.is_at_rest()
    assert [seen.parcel for seen in stand.seen()] == [parcel]


def test_a_worker_with_its_own_beat_ends_with_it(stand: Stand) -> None:
    server = [stand.redis.pid]

    assert stand.worker.stop() == 0

    stand.wait_until(lambda: set(stand.survivors()) <= set(server))
