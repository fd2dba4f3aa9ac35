"""`inboxd explain` with real programs: a file whose handler runs, and one that waits for its next attempt."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.live.stand import Stand
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live


def explain(stand: Stand, path: str) -> dict[str, Any]:
    """Run `inboxd explain --json` on a path below the root; return its first result, {} if there is none."""
    argv = [sys.executable, "-m", "inboxd", "explain", "--json", path]
    result = subprocess.run(
        argv, env=stand.environment(), cwd=stand.root(), capture_output=True, check=False, timeout=PROGRAM_SECONDS
    )
    assert result.returncode in (0, 1), result.stderr
    found = json.loads(result.stdout)["found"]
    return found[0] if found else {}


def test_a_file_is_explained_while_running_while_waiting_and_when_filed(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand({"drop": {"retries": 1, "retry_backoff_seconds": 20.0, "retry_backoff_max_seconds": 20.0}}).start()
    stand.drop(b"slow.txt", b"sleep 6")
    stand.drop(b"bad.txt", b"always_raise on purpose")
    results: list[dict[str, Any]] = []

    def is_explained(path: str, **expected: object) -> bool:
        results.append(explain(stand, path))
        return expected.items() <= results[-1].items()

    stand.wait_until(lambda: is_explained("inbox/slow.txt", state="running"), awaited="a handler runs")
    running = results[-1]
    stand.wait_until(lambda: is_explained("inbox/bad.txt", state="queued", outcome="retry"), awaited="the wait for the retry")
    waiting = results[-1]
    stand.wait_until(lambda: is_explained("inbox/bad.txt", state="failed"))
    failed = results[-1]
    stand.wait_until(lambda: is_explained("inbox/slow.txt", state="done"))

    assert str(running["worker"]).startswith("stand/")
    assert "works on the parcel, attempt 1" in " ".join(running["why"])
    assert "holds the message until the next attempt" in " ".join(waiting["why"])
    assert waiting["retry_at"] > waiting["since"]
    assert "on purpose" in " ".join(waiting["why"])
    assert failed["attempts"] == 2
    assert "on purpose" in failed["reason"]
