"""A root that is removed and restored, like a mount: the inbox pauses and continues without a restart."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import Stand
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

NOTICED_SECONDS = 10.0
OBSERVED_SECONDS = 3.0


@pytest.fixture
def stand(make_stand: MakeStand) -> Stand:
    """Return a stand that runs a server and a watcher that can be made faulty, but no worker."""
    new_stand = make_stand({"drop": {}, "other": {}})
    new_stand.watcher.argv = (sys.executable, "-m", "support.live.faulty_watcher")
    new_stand.redis.start()
    new_stand.watcher.start()
    claim_one_file(new_stand)
    return new_stand


def claim_one_file(stand: Stand) -> None:
    """Let the watcher claim a file: without an event the next scan is several seconds later."""
    drop_and_wait(stand, b"warm %d.txt" % time.monotonic_ns(), "drop")


def drop_and_wait(stand: Stand, name: bytes, inbox: str) -> str:
    stand.drop(name, b"content", inbox)
    return wait_for_claim(stand, name)


def wait_for_claim(stand: Stand, name: bytes, seconds: float = 90.0) -> str:
    """Wait until a file is claimed; return how it was found: "event", "scan", "overflow" or "sweep"."""
    found_by: list[str] = []

    def is_claimed() -> bool:
        found_by[:] = [line["found_by"] for line in stand.log_events("file_claimed") if line["file"] == name.decode()]
        return bool(found_by)

    stand.wait_until(is_claimed, seconds, awaited=f"the claim of {name!r}")
    return found_by[0]


def unmount(stand: Stand, late_file: bytes = b"") -> Path:
    """Move the root elsewhere, and write a file into its inbox there; return its new path."""
    moved = stand.root().rename(stand.folder / "moved")
    if late_file:
        (moved / "inbox" / late_file.decode()).write_bytes(b"content")
    return moved


def outage(stand: Stand) -> str:
    """Return the inbox's outage as the watcher's heartbeat reports it, "" if there is none."""
    heartbeat = json.loads(stand.client.get("inboxd:watcher:stand") or b"{}")
    return str((heartbeat["inboxes"]["drop"]["outage"] or "") if heartbeat else "")


def test_a_missing_or_empty_root_pauses_its_inbox_and_logs_each_reason_once(stand: Stand) -> None:
    moved = unmount(stand, b"waiting.txt")
    stand.wait_until(lambda: str(stand.root()) in outage(stand))
    stand.root().mkdir()  # the empty mount point
    stand.wait_until(lambda: str(stand.path("inbox")) in outage(stand))
    argv = (sys.executable, "-m", "inboxd", "status", "--settings", str(stand.settings_file))
    status = subprocess.run(argv, env=stand.environment(), capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS)
    started_at, cpu_before, lines = time.monotonic(), stand.watcher.cpu_seconds(), len(stand.log_lines(stand.watcher))
    time.sleep(OBSERVED_SECONDS)
    cpu_share = (stand.watcher.cpu_seconds() - cpu_before) / (time.monotonic() - started_at)
    new_lines = len(stand.log_lines(stand.watcher)) - lines
    found_by = drop_and_wait(stand, b"elsewhere.txt", "other")

    assert "No such file or directory" in status.stdout.replace("\n", " ")
    assert len(stand.log_events("folder_unavailable")) == 2  # once for each reason
    assert new_lines == 0
    assert cpu_share < 0.1
    assert found_by == "event"
    assert list(stand.root().iterdir()) == []
    stand.root().rmdir()
    moved.rename(stand.root())
    wait_for_claim(stand, b"waiting.txt")
    stand.wait_until(lambda: not outage(stand))
    assert len(stand.log_events("folder_available")) == 1


def test_a_removed_root_is_noticed_soon(stand: Stand) -> None:
    unmount(stand)
    started_at = time.monotonic()
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    elapsed = time.monotonic() - started_at

    assert elapsed < NOTICED_SECONDS


def test_a_restored_root_is_scanned_soon(stand: Stand) -> None:
    moved = unmount(stand, b"waiting.txt")
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    time.sleep(4.0)  # by now scans are 4 s apart

    moved.rename(stand.root())
    wait_for_claim(stand, b"waiting.txt", NOTICED_SECONDS)


def test_a_root_that_was_missing_during_an_observer_restart_is_watched_once_restored(stand: Stand) -> None:
    moved = unmount(stand)
    (stand.folder / "fault").write_text("handler")
    stand.drop(b"deadly.txt", b"content", "other")
    stand.wait_until(lambda: [line["inbox"] for line in stand.log_events("watching")].count("other") == 2)
    moved.rename(stand.root())
    time.sleep(2.0)  # two checks of the observer

    started_at = time.monotonic()
    found_by = [drop_and_wait(stand, b"by event %d.txt" % number, "drop") for number in range(3)]
    elapsed = time.monotonic() - started_at

    assert found_by == ["event"] * 3
    assert elapsed < NOTICED_SECONDS


def test_files_in_flight_in_a_removed_root_are_filed_once_after_it_is_restored(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    stand.drop(b"running.txt", b"sleep 1")
    stand.wait_until(stand.calls)

    moved = unmount(stand, b"waiting.txt")
    stand.root().mkdir()
    stand.wait_until(lambda: stand.log_events("file_handled") and stand.log_events("folder_unavailable", stand.worker))
    lines = len(stand.log_lines(stand.worker))
    time.sleep(3.0)  # three runs of each sweep
    new_lines = len(stand.log_lines(stand.worker)) - lines
    stand.root().rmdir()
    moved.rename(stand.root())
    stand.wait_until(lambda: stand.names("done") == {b"running.txt", b"waiting.txt"})

    assert new_lines <= 8  # one line per sweep that finds the root missing
    assert stand.has_no_pending_files()
    assert stand.duplicates() == {}
    assert stand.names("failed") == set()
