"""`inboxd status` while real programs run, are killed and are missing."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.live.stand import Stand
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live


def status(stand: Stand) -> tuple[int, Any]:
    """Run `inboxd status --json`; return its exit code and its output."""
    result = subprocess.run(
        [sys.executable, "-m", "inboxd", "status", "--json"],
        env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False,
    )  # fmt: skip
    return result.returncode, json.loads(result.stdout)


def problems(stand: Stand) -> list[str]:
    """Return the problems that status reports; assert that the exit code is 1 if there are any, else 0."""
    code, report = status(stand)
    assert code == (1 if report["problems"] else 0)
    return report["problems"]


def wait_for_trouble(stand: Stand, prefix: str) -> None:
    """Wait until status reports one trouble, which begins with ``prefix``."""
    stand.wait_until(lambda: [trouble.startswith(prefix) for trouble in problems(stand)] == [True], awaited=prefix)


def wait_for_no_trouble(stand: Stand) -> None:
    stand.wait_until(lambda: not problems(stand), awaited="a status without problems")


def test_status_reports_each_missing_program_until_it_is_back(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand().start()
    stand.drop(b"a.txt", b"describe me")
    stand.wait_until(lambda: stand.names("done") == {b"a.txt"})
    wait_for_no_trouble(stand)
    drop = status(stand)[1]["inboxes"]["drop"]

    assert (drop["waiting"], drop["in_flight"], drop["done"], drop["done_today"], drop["failed"]) == (0, 0, 1, 1, 0)
    assert drop["watching"] == "inotify"

    stand.beat.kill9()
    wait_for_trouble(stand, "no sweep has run for too long")
    stand.beat.start()

    stand.watcher.kill9()
    wait_for_trouble(stand, "no watcher heartbeat")
    stand.watcher.start()

    stand.redis.kill9()
    wait_for_trouble(stand, "the broker is unavailable")
    stand.redis.start()

    wait_for_no_trouble(stand)


def test_status_reports_the_queues_that_no_worker_consumes(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand()
    original_argv = stand.worker.argv
    stand.worker.argv = (*original_argv, "-Q", "inboxd.work")
    stand.redis.start()
    stand.watcher.start()
    stand.beat.start()
    stand.worker.start()

    assert [trouble.split(" (")[0] for trouble in problems(stand)] == [
        "no worker for large files",
        "no worker for callbacks and sweeps",
    ]

    stand.worker.stop()
    wait_for_trouble(stand, "no worker answers")
    stand.worker.argv = original_argv
    stand.worker.start()

    wait_for_no_trouble(stand)


def test_two_workers_of_one_name_are_told_as_such(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand().start()
    argv = (*stand.worker.argv, "-Q", "inboxd.work")
    stand.program("second", argv).start()
    stand.wait_until(lambda: status(stand)[1]["workers"] == 2)
    argv = (sys.executable, "-m", "inboxd", "status")
    shown = subprocess.run(argv, env=stand.environment(), capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False)

    (problem,) = problems(stand)
    assert problem.startswith("several workers are called ")
    assert problem.endswith(": start each with a name of its own: -n NAME@%h")
    assert shown.stderr == ""
