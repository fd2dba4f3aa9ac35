"""Watching that goes wrong: events dropped, threads that die, limits reached. Files are noticed all the same, and soon."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

REPAIRED_SECONDS = 2.0
SOON_SECONDS = 2.5
"""Long before an inbox is looked at without an event."""
QUEUED_EVENTS_MAX = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def stand(make_stand: MakeStand) -> Stand:
    """A watcher that can be made to misbehave, and its server; nobody works on what it claims."""
    made = make_stand({"drop": {}, "other": {}})
    made.watcher.argv = (sys.executable, "-m", "support.live.faulty_watcher")
    made.redis.start()
    return made


def by_events(stand: Stand, inbox: str = "drop") -> bool:
    """Drop three files, one after the other, and tell whether each was announced by an event: one scan can't find them all."""
    begun = time.monotonic()
    found = []
    for _ in range(3):
        name = f"by event {time.monotonic_ns()}.txt"
        stand.drop(name.encode(), b"content", inbox)
        found.append(claimed(stand, name))
    return found == ["event"] * 3 and time.monotonic() - begun < SOON_SECONDS


def claimed(stand: Stand, name: str) -> str:
    """Wait until a file is claimed, and return what has brought it to notice."""
    stand.wait_until(lambda: any(line["file"] == name for line in stand.log_events("file_claimed")), what=f"{name} claimed")
    return str(next(line["found_by"] for line in stand.log_events("file_claimed") if line["file"] == name))


def set_fault(stand: Stand, fault: str) -> None:
    (stand.folder / "fault.new").write_text(fault)
    (stand.folder / "fault.new").rename(stand.folder / "fault")


def test_events_that_the_kernel_has_dropped_cost_no_inbox_its_files(stand: Stand) -> None:
    stand.watcher.start()
    assert by_events(stand)
    assert by_events(stand, "other")
    noisy = [stand.path("inbox", name) for name in (b".one", b".two")]

    stand.watcher.send(signal.SIGSTOP)
    for number in range(int(QUEUED_EVENTS_MAX.read_text()) + 100):
        noisy[number % 2].write_bytes(b"")  # in turns: of two equal events the kernel keeps one
    stand.drop(b"unheard.txt", b"no event tells of me", "other")
    time.sleep(0.2)  # it has settled
    stand.watcher.send(signal.SIGCONT)
    begun = time.monotonic()
    found_by = claimed(stand, "unheard.txt")
    took = time.monotonic() - begun

    assert found_by == "overflow"
    assert took < REPAIRED_SECONDS
    assert {line["inbox"] for line in stand.log_events("events_lost")} == {"drop", "other"}
    assert by_events(stand)
    assert by_events(stand, "other")


@pytest.mark.parametrize("thread", ["reader", "emitter", "handler"])
def test_a_thread_that_raises_is_replaced_and_the_file_whose_event_it_kept_is_taken(stand: Stand, thread: str) -> None:
    stand.watcher.start()
    assert by_events(stand)

    set_fault(stand, thread)
    begun = time.monotonic()
    stand.drop(b"kept.txt", b"my event is the one that kills")
    claimed(stand, "kept.txt")
    stand.wait_until(lambda: stand.log_events("observer_restarted"))
    took = time.monotonic() - begun

    assert took < REPAIRED_SECONDS
    assert [line["why"] for line in stand.log_events("observer_restarted")] == ["an observer thread has ended"]
    assert by_events(stand)
    assert by_events(stand, "other")


def test_an_inbox_that_is_replaced_is_watched_anew(stand: Stand) -> None:
    stand.watcher.start()
    assert by_events(stand)

    old = stand.path("inbox").rename(stand.root() / "old")
    stand.path("inbox").mkdir()
    begun = time.monotonic()
    stand.wait_until(lambda: stand.log_events("observer_restarted"))
    took = time.monotonic() - begun

    assert took < REPAIRED_SECONDS
    assert by_events(stand)
    assert list(old.iterdir()) == []


@pytest.mark.parametrize("limit", ["no watches", "no instances"])
def test_where_the_system_refuses_events_we_poll_and_say_what_to_raise(stand: Stand, limit: str) -> None:
    set_fault(stand, limit)
    stand.watcher.start()

    begun = time.monotonic()
    stand.drop(b"polled.txt", b"content")
    found_by = claimed(stand, "polled.txt")
    took = time.monotonic() - begun

    assert found_by == "scan"
    assert took < REPAIRED_SECONDS  # poll_seconds, and not the rescan's five
    assert all("raise fs.inotify.max_user_watches" in line["error"] for line in stand.log_events("events_lost"))
    assert [line["mode"] for line in stand.log_events("watching")] == ["polling", "polling"]


@pytest.mark.parametrize("limit", ["no watches", "no instances"])
def test_limits_that_were_raised_bring_the_events_back_without_a_restart(stand: Stand, limit: str) -> None:
    set_fault(stand, limit)
    stand.watcher.start()
    stand.wait_until(lambda: len(stand.log_events("events_lost")) == 2)

    (stand.folder / "fault").unlink()
    stand.wait_until(lambda: stand.log_events("watching")[-1]["mode"] == "inotify", 5.0)

    assert by_events(stand)


def test_a_watcher_that_hangs_is_found_out_by_the_sweep(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    assert by_events(stand)
    stand.wait_until(lambda: b'"is_busy": false' in (stand.client.get("inboxd:watcher:stand") or b""))

    stand.watcher.send(signal.SIGSTOP)
    stand.drop(b"missed.txt", b"content")
    found_by = claimed(stand, "missed.txt")
    stand.watcher.send(signal.SIGCONT)

    assert found_by == "sweep"
    stand.wait_until(lambda: stand.log_events("events_missed", stand.worker))
    assert [line["files"] for line in stand.log_events("events_missed", stand.worker)] == [1]
    assert by_events(stand)
