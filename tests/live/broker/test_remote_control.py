"""Celery's remote control, which any client of Redis can use: it ends no worker, and loses no file."""

import base64
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from support.live.stand import Stand
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
CHANNEL = "/0.inboxd.pidbox"
SLOW = (b"slow 1", b"slow 2")
"""One for each of the worker's processes."""

JUNK = {
    "a list": b"[]",
    "a map": b"{}",
    "headers that are a list": json.dumps({"headers": [], "properties": {}, "body": ""}).encode(),
    "bad base64": json.dumps({"headers": {}, "properties": {"body_encoding": "base64"}, "body": "%%"}).encode(),
    "a gzip bomb": json.dumps({
        "headers": {"compression": "application/x-gzip"}, "properties": {"body_encoding": "base64"},
        "content-type": "application/x-msgpack", "content-encoding": "binary",
        "body": base64.b64encode(gzip.compress(bytes(50_000_000))).decode(),
    }).encode(),
}  # fmt: skip


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a stand whose worker must survive all broadcasts."""
    with Stand(tmp_path_factory.mktemp("control")) as new_stand:
        yield new_stand.start()


def celery(stand: Stand, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Celery's own command against the stand."""
    argv = [sys.executable, "-m", "celery", "-A", "inboxd", *command]
    return subprocess.run(
        argv, env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
    )


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_a_broadcast_that_is_junk_ends_no_worker(junk: bytes, stand: Stand) -> None:
    pid = stand.worker.pid

    for _ in range(10):
        stand.client.publish(CHANNEL, junk)
    stand.drop(b"%d.txt" % time.monotonic_ns(), b"content")

    stand.wait_until(stand.has_no_pending_files)
    assert (stand.worker.running, stand.worker.pid) == (True, pid)
    assert "pong" in celery(stand, "inspect", "ping").stdout


@pytest.mark.parametrize("command", [("shutdown",), ("pool_shrink", "1"), ("cancel_consumer", "inboxd.work")])
def test_a_command_that_changes_something_is_refused(command: tuple[str, ...], stand: Stand) -> None:
    pid = stand.worker.pid

    celery(stand, "control", "--timeout", "0.2", *command)
    stand.drop(b"%d.txt" % time.monotonic_ns(), b"content")

    stand.wait_until(stand.has_no_pending_files)
    assert (stand.worker.running, stand.worker.pid) == (True, pid)


def test_what_reads_is_answered(stand: Stand) -> None:
    for command in ("active", "active_queues", "stats", "registered", "conf", "report"):
        result = celery(stand, "inspect", command)
        assert "OK" in result.stdout, (command, result.stderr)


def test_a_parcel_that_is_revoked_fails_as_cancelled(make_stand: MakeStand) -> None:
    stand = make_stand(work={"remote_control": "all"}).start()
    for name in SLOW:
        stand.drop(name, b"hold")
    stand.wait_until(lambda: len(stand.calls()) == len(SLOW))
    stand.drop(b"revoked", b"describe")
    stand.wait_until(lambda: stand.log_events("file_claimed", stand.watcher)[len(SLOW) :])
    parcel = stand.log_events("file_claimed", stand.watcher)[-1]["parcel"]

    celery(stand, "control", "revoke", parcel)
    (stand.folder / "release").touch()

    stand.wait_until(lambda: stand.path("failed", b"revoked").exists())
    assert "cancelled by an operator" in stand.note(b"revoked")
    stand.wait_until(lambda: stand.names("done") == set(SLOW))
    assert len(stand.calls()) == len(SLOW)
