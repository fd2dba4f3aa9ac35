"""Inboxes with files from before the start, with missing or replaced folders, and with more files than the in-flight limit."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.live.stand import FOLDERS, HANDLERS, Stand, names

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

EARLY = {b"%d.txt" % number: b"early %d" % number for number in range(20)}
IN_FLIGHT_MAX = 10


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    inboxes = {
        "drop": {},
        "other": {},
        "narrow": {"handler": f"{HANDLERS}:sleep_20_ms", "in_flight_files_max": IN_FLIGHT_MAX},
    }
    with Stand(tmp_path_factory.mktemp("folders"), inboxes) as new_stand:
        new_stand.drop_folder(b"early", EARLY)
        new_stand.drop(b"early.txt", b"dropped before the start")
        yield new_stand.start()


def test_files_dropped_before_the_start_are_filed(stand: Stand) -> None:
    stand.wait_until(lambda: stand.names("done") >= {b"early.txt", *(b"early/" + name for name in EARLY)})

    assert stand.has_no_pending_files()
    assert stand.duplicates(b"early") == {}


def test_the_sweep_claims_files_dropped_while_the_watcher_is_down(stand: Stand) -> None:
    stand.watcher.kill9()

    dropped = stand.drop_folder(b"unseen", EARLY)
    stand.wait_until(lambda: dropped.items() <= stand.tree("done").items())

    assert {line["found_by"] for line in stand.log_events("file_claimed", stand.worker)} == {"sweep"}
    assert stand.duplicates(b"unseen") == {}
    stand.watcher.start()


def test_at_most_in_flight_files_max_files_are_claimed_at_a_time(stand: Stand) -> None:
    claimed_max = 0

    def all_done() -> bool:
        nonlocal claimed_max
        parcels = list(stand.path("claimed", inbox="narrow").iterdir())  # one listing: later claims are not counted
        claimed_max = max(claimed_max, sum(len(list(names(parcel))) for parcel in parcels))
        return dropped.keys() <= stand.names("done", "narrow")

    dropped = stand.drop_folder(b"many", {b"%d.txt" % number: b"%d" % number for number in range(100)}, "narrow")
    started_at = time.monotonic()
    stand.wait_until(all_done)
    elapsed = time.monotonic() - started_at

    assert IN_FLIGHT_MAX // 2 < claimed_max <= IN_FLIGHT_MAX
    assert stand.duplicates(b"many") == {}
    assert elapsed < 30, "files must be claimed when others are done, not at the next tick: the handlers take 1 s in all"


def test_a_missing_folder_pauses_only_its_own_inbox(stand: Stand) -> None:
    moved = stand.path("done").rename(stand.root() / "done.moved")
    logged_before = len(stand.log_events("folder_unavailable", stand.watcher))

    stand.drop(b"waiting.txt", b"content")
    stand.drop(b"elsewhere.txt", b"content", "other")
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher)[logged_before:])
    stand.wait_until(lambda: stand.path("done", b"elsewhere.txt", "other").exists())
    assert stand.path("inbox", b"waiting.txt").exists()
    moved.rename(stand.path("done"))
    stand.wait_until(lambda: stand.path("done", b"waiting.txt").exists())

    (line,) = stand.log_events("folder_unavailable", stand.watcher)[logged_before:]
    assert str(stand.path("done")) in line["error"]
    assert len(stand.log_events("folder_available", stand.watcher)) == 1


def test_a_folder_that_is_missing_during_a_handler_gets_the_file_when_it_is_back(stand: Stand) -> None:
    stand.wait_until(stand.has_no_pending_files)  # other files, if this test is the first one on its stand
    stand.drop(b"returning.txt", b"sleep 1")
    stand.wait_until(lambda: stand.calls(b"returning.txt"))
    moved = stand.path("done").rename(stand.root() / "done.moved")
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.worker))
    assert [name.rpartition(b"/")[2] for name in stand.names("claimed")] == [b"returning.txt"]

    moved.rename(stand.path("done"))
    stand.wait_until(lambda: stand.path("done", b"returning.txt").exists())

    assert len(stand.calls(b"returning.txt")) == 1
    assert not stand.path("failed", b"returning.txt").exists()


def test_a_replaced_root_is_watched_by_events_again(stand: Stand) -> None:
    logged_before = len(stand.log_events("folder_unavailable", stand.watcher))
    old = stand.root().rename(stand.root().with_name("old"))
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher)[logged_before:])

    for name in FOLDERS:
        stand.path(name).mkdir(parents=True)
    stand.wait_until(lambda: stand.log_events("observer_restarted", stand.watcher))
    stand.drop(b"after.txt", b"content")
    stand.wait_until(lambda: stand.path("done", b"after.txt").exists())

    (claimed,) = [line for line in stand.log_events("file_claimed", stand.watcher) if line["file"] == "after.txt"]
    assert claimed["found_by"] == "event"
    assert not (old / "done" / "after.txt").exists()
    assert stand.watcher.running


def test_no_test_of_this_module_has_caused_an_unexpected_error(stand: Stand) -> None:
    assert [line for line in stand.log_lines() if line["level"] in {"error", "critical"} or "exception" in line] == []


def test_a_watcher_of_many_inboxes_has_few_threads(make_stand: MakeStand) -> None:
    stand = make_stand({f"inbox{number}": {} for number in range(60)}).start()

    for name in ("inbox0", "inbox59"):
        stand.drop(b"a.txt", b"x", inbox=name)

    stand.wait_until(lambda: all(stand.names("done", inbox=name) == {b"a.txt"} for name in ("inbox0", "inbox59")))
    assert len(list(Path(f"/proc/{stand.watcher.pid}/task").iterdir())) < 20
