"""`inboxd explain` while real programs are at work: a file in a handler's hands, and one that waits for its next attempt."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live


def explained(stand: Stand, path: str) -> dict[str, Any]:
    """Ask for a path below the current folder; return the only answer, {} if there is none."""
    argv = [sys.executable, "-m", "inboxd", "explain", "--json", path]
    ran = subprocess.run(argv, env=stand.environment(), cwd=stand.root(), capture_output=True, check=False, timeout=30)
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads(ran.stdout)["found"]
    return found[0] if found else {}


def test_a_file_is_explained_on_its_way(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand({"drop": {"retries": 1, "retry_backoff_seconds": 8.0, "retry_backoff_max_seconds": 8.0}}).start()
    stand.drop(b"slow.txt", b"sleep 6")
    stand.drop(b"bad.txt", b"always_raise on purpose")
    told: list[dict[str, Any]] = []

    def says(path: str, **wanted: object) -> bool:
        told.append(explained(stand, path))
        return all(told[-1].get(key) == value for key, value in wanted.items())

    stand.wait_until(lambda: says("inbox/slow.txt", state="running"), what="a worker has it")
    running = told[-1]
    stand.wait_until(lambda: says("inbox/bad.txt", state="queued", outcome="retry"), what="it waits for its next attempt")
    waiting = told[-1]
    stand.wait_until(lambda: says("inbox/bad.txt", state="failed"), what="it has failed")
    failed = told[-1]
    stand.wait_until(lambda: says("inbox/slow.txt", state="done"), what="it is done")

    assert str(running["worker"]).startswith("stand/")
    assert "works on the parcel, attempt 1" in " ".join(running["why"])
    assert "holds the message until the next attempt" in " ".join(waiting["why"])
    assert waiting["retry_at"] > waiting["since"]
    assert "on purpose" in " ".join(waiting["why"])
    assert failed["attempts"] == 2
    assert "on purpose" in failed["reason"]
