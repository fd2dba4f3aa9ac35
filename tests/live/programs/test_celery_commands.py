"""Celery's command line on inboxd's app: inspect, and a worker with an embedded beat."""

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support.live.stand import Stand
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a stand that runs a server and one worker with an embedded beat, but no watcher and no other beat."""
    with Stand(tmp_path_factory.mktemp("commands")) as new_stand:
        new_stand.worker.argv = (*new_stand.worker.argv, "-B")
        new_stand.worker.death_signal = signal.SIGTERM  # SIGKILL would leave the embedded beat running
        new_stand.redis.start()
        new_stand.worker.start()
        yield new_stand


def test_inspect_ping_is_answered(stand: Stand) -> None:
    ping = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "inboxd", "inspect", "ping", "--timeout", "2"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False,
    )  # fmt: skip

    assert ping.returncode == 0, ping.stderr
    assert "pong" in ping.stdout
    assert "1 node online" in ping.stdout


def test_the_sweeps_of_an_embedded_beat_recover_a_stranded_parcel(stand: Stand) -> None:
    parcel = f"{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
    name = f"{parcel}/sub/stranded.txt".encode()
    stranded = stand.path("claimed", name)
    stranded.parent.mkdir(parents=True)
    stranded.write_bytes(b"claimed by a watcher that died before it published the parcel")

    stand.wait_until(lambda: stand.path("done", b"sub/stranded.txt").exists())

    assert stand.has_no_pending_files()
    assert [call.parcel for call in stand.calls()] == [parcel]


def test_an_embedded_beat_exits_with_its_worker(stand: Stand) -> None:
    assert stand.worker.stop() == 0

    stand.wait_until(lambda: set(stand.live_pids()) <= {stand.redis.pid})
