"""Celery's own command line on inboxd's app: inspect, and a worker with a beat of its own."""

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A server and one worker that has its own beat: no watcher, no other beat."""
    with Stand(tmp_path_factory.mktemp("commands")) as made:
        made.worker.argv = (*made.worker.argv, "-B")
        made.worker.death_signal = signal.SIGTERM  # a SIGKILL would leave its beat behind
        made.redis.start()
        made.worker.start()
        yield made


def test_inspect_ping_is_answered(stand: Stand) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "inboxd", "inspect", "ping", "--timeout", "2"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert asked.returncode == 0, asked.stderr
    assert "pong" in asked.stdout
    assert "1 node online" in asked.stdout


def test_a_worker_with_its_own_beat_sweeps(stand: Stand) -> None:
    parcel = f"{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
    name = f"{parcel}/sub/stranded.txt".encode()
    stranded = stand.path("claimed", name)
    stranded.parent.mkdir(parents=True)
    stranded.write_bytes(b"my watcher died before it told anybody")

    stand.wait_until(lambda: stand.path("done", b"sub/stranded.txt").exists())

    assert stand.is_at_rest()
    assert [call.parcel for call in stand.calls()] == [parcel]


def test_a_worker_with_its_own_beat_ends_with_it(stand: Stand) -> None:
    server = [stand.redis.pid]

    assert stand.worker.stop() == 0

    stand.wait_until(lambda: set(stand.live_pids()) <= set(server))
