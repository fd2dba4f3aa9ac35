"""Dropped events, dead watchdog threads and inotify limits: files are still found within seconds."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

REPAIRED_SECONDS = 10.0
"""Maximum time until the watcher works again, on a machine that is busy with other tests."""
QUEUED_EVENTS_MAX = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def stand(make_stand: MakeStand) -> Stand:
    """Return a stand with a server and a watcher that can be made faulty, but no worker."""
    new_stand = make_stand({"drop": {}, "other": {}})
    new_stand.watcher.argv = (sys.executable, "-m", "support.live.faulty_watcher")
    new_stand.redis.start()
    return new_stand


def are_found_by_events(stand: Stand, inbox: str = "drop") -> bool:
    """Drop three files, each after the claim of the last, so that no scan finds all; return whether events found them."""
    found_by = []
    for _ in range(3):
        name = f"by event {time.monotonic_ns()}.txt"
        stand.drop(name.encode(), b"content", inbox)
        found_by.append(wait_for_claim(stand, name))
    return found_by == ["event"] * 3


def start_watching(stand: Stand) -> None:
    """Start the watcher, and wait until its first scan is over, too, which may find a file before its event."""
    stand.watcher.start()
    wait_for_rescan(stand)


def wait_for_rescan(stand: Stand) -> None:
    """Wait until the inboxes are watched again: a file that is dropped before may be found by the scan that follows."""
    for inbox in ("drop", "other"):
        name = f"before events {time.monotonic_ns()}.txt"
        stand.drop(name.encode(), b"content", inbox)
        wait_for_claim(stand, name)


def wait_for_claim(stand: Stand, name: str) -> str:
    """Wait until a file is claimed; return how it was found: "start", "event", "scan", "overflow" or "sweep"."""
    stand.wait_until(lambda: any(line["file"] == name for line in stand.log_events("file_claimed")), awaited=f"claim of {name}")
    return str(next(line["found_by"] for line in stand.log_events("file_claimed") if line["file"] == name))


def set_fault(stand: Stand, fault: str) -> None:
    (stand.folder / "fault.new").write_text(fault)
    (stand.folder / "fault.new").rename(stand.folder / "fault")


def test_files_whose_events_the_kernel_dropped_are_found_soon(stand: Stand) -> None:
    start_watching(stand)
    assert are_found_by_events(stand)
    assert are_found_by_events(stand, "other")
    event_sources = [stand.path("inbox", name) for name in (b".one", b".two")]

    stand.watcher.send(signal.SIGSTOP)
    for number in range(int(QUEUED_EVENTS_MAX.read_text()) + 100):
        event_sources[number % 2].write_bytes(b"")  # alternating, since the kernel merges equal events
    stand.drop(b"unannounced.txt", b"no event announces this file", "other")
    time.sleep(0.2)  # until the file has settled
    stand.watcher.send(signal.SIGCONT)
    started_at = time.monotonic()
    found_by = wait_for_claim(stand, "unannounced.txt")
    elapsed = time.monotonic() - started_at

    assert found_by == "overflow"
    assert elapsed < REPAIRED_SECONDS
    assert {line["inbox"] for line in stand.log_events("events_lost")} == {"drop", "other"}
    assert are_found_by_events(stand)
    assert are_found_by_events(stand, "other")


@pytest.mark.parametrize("thread", ["reader", "handler"])
def test_a_watchdog_thread_that_raises_is_replaced_and_the_file_of_its_event_is_claimed(stand: Stand, thread: str) -> None:
    start_watching(stand)
    assert are_found_by_events(stand)

    set_fault(stand, thread)
    started_at = time.monotonic()
    stand.drop(b"deadly.txt", b"the event of this file kills the thread")
    wait_for_claim(stand, "deadly.txt")
    stand.wait_until(lambda: stand.log_events("observer_restarted"))
    elapsed = time.monotonic() - started_at

    assert elapsed < REPAIRED_SECONDS
    assert [line["why"] for line in stand.log_events("observer_restarted")] == ["an observer thread has ended"]
    wait_for_rescan(stand)
    assert are_found_by_events(stand)
    assert are_found_by_events(stand, "other")


def test_a_replaced_inbox_is_watched_by_events_again(stand: Stand) -> None:
    start_watching(stand)
    assert are_found_by_events(stand)

    old = stand.path("inbox").rename(stand.root() / "old")
    stand.path("inbox").mkdir()
    started_at = time.monotonic()
    stand.wait_until(lambda: stand.log_events("observer_restarted"))
    elapsed = time.monotonic() - started_at

    assert elapsed < REPAIRED_SECONDS
    wait_for_rescan(stand)
    assert are_found_by_events(stand)
    assert list(old.iterdir()) == []


@pytest.mark.parametrize("limit", ["no watches", "no instances"])
def test_without_inotify_watches_the_watcher_polls_and_logs_which_limit_to_raise(stand: Stand, limit: str) -> None:
    set_fault(stand, limit)
    stand.watcher.start()
    wait_for_rescan(stand)

    started_at = time.monotonic()
    stand.drop(b"polled.txt", b"content")
    found_by = wait_for_claim(stand, "polled.txt")
    elapsed = time.monotonic() - started_at

    assert found_by == "scan"
    assert elapsed < REPAIRED_SECONDS  # poll_seconds, not the 5 s of the rescan
    assert all("raise fs.inotify.max_user_watches" in line["error"] for line in stand.log_events("events_lost"))
    assert [line["mode"] for line in stand.log_events("watching")] == ["polling", "polling"]


@pytest.mark.parametrize("limit", ["no watches", "no instances"])
def test_after_the_limit_is_raised_files_are_found_by_events_without_a_restart(stand: Stand, limit: str) -> None:
    set_fault(stand, limit)
    stand.watcher.start()
    stand.wait_until(lambda: len(stand.log_events("events_lost")) == 2)

    (stand.folder / "fault").unlink()
    stand.wait_until(lambda: stand.log_events("watching")[-1]["mode"] == "inotify", 5.0)

    assert are_found_by_events(stand)


def test_the_sweep_claims_the_files_that_a_hung_watcher_missed(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    assert are_found_by_events(stand)
    stand.wait_until(lambda: b'"is_busy": false' in (stand.client.get("inboxd:watcher:stand") or b""))

    stand.watcher.send(signal.SIGSTOP)
    stand.drop(b"missed.txt", b"content")
    found_by = wait_for_claim(stand, "missed.txt")
    stand.watcher.send(signal.SIGCONT)

    assert found_by == "sweep"
    stand.wait_until(lambda: stand.log_events("events_missed", stand.worker))
    assert [line["files"] for line in stand.log_events("events_missed", stand.worker)] == [1]
    assert are_found_by_events(stand)
