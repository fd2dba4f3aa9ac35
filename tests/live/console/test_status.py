"""`inboxd status` while real programs run, die and are missing."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live


def status(stand: Stand) -> tuple[int, Any]:
    """Return the exit code and what was told."""
    asked = subprocess.run(
        [sys.executable, "-m", "inboxd", "status", "--json"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return asked.returncode, json.loads(asked.stdout)


def needs(stand: Stand, what: str) -> None:
    """Wait until a person is needed, of which the one reason begins so."""
    seen: list[str] = []

    def told() -> bool:
        code, now = status(stand)
        seen[:] = now["troubles"]
        assert code == (1 if seen else 0)
        return [trouble.startswith(what) for trouble in seen] == [True]

    stand.wait_until(told, what=what)


def nobody_is_needed(stand: Stand) -> bool:
    code, now = status(stand)
    assert code == (1 if now["troubles"] else 0)
    return code == 0


def test_each_program_that_is_missing_needs_a_person_and_its_return_does_not(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand().start()
    stand.drop(b"a.txt", b"describe me")
    stand.wait_until(lambda: stand.names("done") == {b"a.txt"})
    stand.wait_until(lambda: nobody_is_needed(stand), what="all is well")
    drop = status(stand)[1]["inboxes"]["drop"]

    assert (drop["waiting"], drop["in_flight"], drop["done"], drop["done_today"], drop["failed"]) == (0, 0, 1, 1, 0)
    assert drop["watching"] == "inotify"

    stand.beat.kill9()
    needs(stand, "no sweep has run for too long")
    stand.beat.start()

    stand.watcher.kill9()
    needs(stand, "no watcher heartbeat")
    stand.watcher.start()

    stand.redis.kill9()
    needs(stand, "the broker is unavailable")
    stand.redis.start()

    stand.wait_until(lambda: nobody_is_needed(stand), what="all is well again")


def test_a_worker_that_only_helps_files_nothing_away(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand()
    worker = stand.worker.argv
    stand.worker.argv = (*worker, "-Q", "inboxd.work")
    stand.redis.start()
    stand.watcher.start()
    stand.beat.start()
    stand.worker.start()

    troubles = status(stand)[1]["troubles"]

    assert [trouble.split(" (")[0] for trouble in troubles] == [
        "no worker for large files",
        "no worker for callbacks and sweeps",
    ]

    stand.worker.stop()
    needs(stand, "no worker answers")
    stand.worker.argv = worker
    stand.worker.start()

    stand.wait_until(lambda: nobody_is_needed(stand), what="one of this host takes everything")
