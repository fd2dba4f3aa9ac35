"""A root that vanishes and comes back, as a mount does: unknown is never empty, and nobody need lend a hand."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

SEEN_SECONDS = 2.0
LOOK_SECONDS = 3.0


@pytest.fixture
def stand(make_stand: MakeStand) -> Stand:
    """A watcher that can be made to misbehave, and its server; nobody works on what it claims."""
    made = make_stand({"drop": {}, "other": {}})
    made.watcher.argv = (sys.executable, "-m", "support.live.faulty_watcher")
    made.redis.start()
    made.watcher.start()
    stand_still(made)
    return made


def stand_still(stand: Stand) -> None:
    """Have a file claimed: the next look at the inbox is seconds away, if nothing happens."""
    drop_and_wait(stand, b"warm %d.txt" % time.monotonic_ns(), "drop")


def drop_and_wait(stand: Stand, name: bytes, inbox: str) -> str:
    stand.drop(name, b"content", inbox)
    return claimed(stand, name)


def claimed(stand: Stand, name: bytes, seconds: float = 40.0) -> str:
    """Wait until a file is claimed, and return what has brought it to notice."""
    found: list[str] = []

    def is_claimed() -> bool:
        found[:] = [line["found_by"] for line in stand.log_events("file_claimed") if line["file"] == name.decode()]
        return bool(found)

    stand.wait_until(is_claimed, seconds, awaited=f"{name!r} claimed")
    return found[0]


def unmount(stand: Stand, while_away: bytes = b"") -> Path:
    away = stand.root().rename(stand.folder / "away")
    if while_away:
        (away / "inbox" / while_away.decode()).write_bytes(b"content")
    return away


def trouble(stand: Stand) -> str:
    """Return what the watcher's sign of life says of the inbox, "" if all is well."""
    beat = json.loads(stand.client.get("inboxd:watcher:stand") or b"{}")
    return str((beat["inboxes"]["drop"]["outage"] or "") if beat else "")


def test_a_root_that_is_away_or_empty_pauses_its_inbox_says_why_and_does_not_flood_the_log(stand: Stand) -> None:
    away = unmount(stand, b"waiting.txt")
    stand.wait_until(lambda: str(stand.root()) in trouble(stand))
    stand.root().mkdir()  # the empty mount point
    stand.wait_until(lambda: str(stand.path("inbox")) in trouble(stand))
    argv = (sys.executable, "-m", "inboxd", "status", "--settings", str(stand.settings_file))
    status = subprocess.run(argv, env=stand.environment(), capture_output=True, text=True, check=False, timeout=30)
    begun, used, lines = time.monotonic(), stand.watcher.cpu_seconds(), len(stand.log_lines(stand.watcher))
    time.sleep(LOOK_SECONDS)
    share = (stand.watcher.cpu_seconds() - used) / (time.monotonic() - begun)
    more = len(stand.log_lines(stand.watcher)) - lines
    meanwhile = drop_and_wait(stand, b"elsewhere.txt", "other")

    assert "No such file or directory" in status.stdout.replace("\n", " ")
    assert len(stand.log_events("folder_unavailable")) == 2  # once for each reason
    assert more == 0
    assert share < 0.1
    assert meanwhile == "event"
    assert list(stand.root().iterdir()) == []
    stand.root().rmdir()
    away.rename(stand.root())
    claimed(stand, b"waiting.txt")
    stand.wait_until(lambda: not trouble(stand))
    assert len(stand.log_events("folder_available")) == 1


def test_a_root_that_goes_away_is_noticed_within_two_seconds(stand: Stand) -> None:
    unmount(stand)
    begun = time.monotonic()
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    took = time.monotonic() - begun

    assert took < SEEN_SECONDS


def test_a_root_that_is_back_is_looked_at_within_two_seconds(stand: Stand) -> None:
    away = unmount(stand, b"waiting.txt")
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    time.sleep(4.0)  # looks are 4 s apart by now

    away.rename(stand.root())
    claimed(stand, b"waiting.txt", SEEN_SECONDS)


def test_a_root_that_is_away_while_the_observer_is_replaced_is_watched_when_it_is_back(stand: Stand) -> None:
    away = unmount(stand)
    (stand.folder / "fault").write_text("handler")
    stand.drop(b"deadly.txt", b"content", "other")
    stand.wait_until(lambda: [line["inbox"] for line in stand.log_events("watching")].count("other") == 2)
    away.rename(stand.root())
    time.sleep(2.0)  # two rounds of supervision

    begun = time.monotonic()
    found_by = [drop_and_wait(stand, b"by event %d.txt" % number, "drop") for number in range(3)]
    took = time.monotonic() - begun

    assert found_by == ["event"] * 3
    assert took < SEEN_SECONDS


def test_a_root_that_vanishes_with_files_in_flight_gets_them_filed_when_it_is_back_and_once(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    stand.drop(b"running.txt", b"sleep 1")
    stand.wait_until(stand.calls)

    away = unmount(stand, b"waiting.txt")
    stand.root().mkdir()
    stand.wait_until(lambda: stand.log_events("file_handled") and stand.log_events("folder_unavailable", stand.worker))
    lines = len(stand.log_lines(stand.worker))
    time.sleep(3.0)  # three of each sweep
    more = len(stand.log_lines(stand.worker)) - lines
    stand.root().rmdir()
    away.rename(stand.root())
    stand.wait_until(lambda: stand.names("done") == {b"running.txt", b"waiting.txt"})

    assert more <= 8  # one line for each sweep that finds it away
    assert stand.is_at_rest()
    assert stand.duplicates() == {}
    assert stand.names("failed") == set()
