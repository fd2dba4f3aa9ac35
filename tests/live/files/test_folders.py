"""Folders that hold files before anybody looks, that are replaced, that are missing, and that fill faster than they empty."""

import time
from collections.abc import Iterator

import pytest
from support.live.stand import FOLDERS, HANDLERS, Stand, names

pytestmark = pytest.mark.live

EARLY = {b"%d.txt" % number: b"early %d" % number for number in range(20)}
IN_FLIGHT_MAX = 10


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    inboxes = {
        "drop": {},
        "other": {},
        "narrow": {"handler": f"{HANDLERS}:sleep_20_ms", "in_flight_files_max": IN_FLIGHT_MAX},
    }
    with Stand(tmp_path_factory.mktemp("folders"), inboxes) as made:
        made.drop_folder(b"early", EARLY)
        made.drop(b"early.txt", b"before anybody looked")
        yield made.start()


def test_files_that_were_there_before_the_start_are_filed(stand: Stand) -> None:
    stand.wait_until(lambda: stand.names("done") >= {b"early.txt", *(b"early/" + name for name in EARLY)})

    assert stand.is_at_rest()
    assert stand.duplicates(b"early") == {}


def test_files_dropped_while_the_watcher_is_down_are_taken_by_the_sweep(stand: Stand) -> None:
    stand.watcher.kill9()

    dropped = stand.drop_folder(b"unseen", EARLY)
    stand.wait_until(lambda: dropped.items() <= stand.tree("done").items())

    assert {line["found_by"] for line in stand.log_events("file_claimed", stand.worker)} == {"sweep"}
    assert stand.duplicates(b"unseen") == {}
    stand.watcher.start()


def test_no_more_files_are_claimed_at_a_time_than_the_settings_allow(stand: Stand) -> None:
    most = 0

    def all_done() -> bool:
        nonlocal most
        parcels = list(stand.path("claimed", inbox="narrow").iterdir())  # one look: what is claimed after it is not counted
        most = max(most, sum(len(list(names(parcel))) for parcel in parcels))
        return dropped.keys() <= stand.names("done", "narrow")

    dropped = stand.drop_folder(b"many", {b"%d.txt" % number: b"%d" % number for number in range(100)}, "narrow")
    begun = time.monotonic()
    stand.wait_until(all_done)
    took = time.monotonic() - begun

    assert IN_FLIGHT_MAX // 2 < most <= IN_FLIGHT_MAX
    assert stand.duplicates(b"many") == {}
    assert took < 8, "the next ones left when the clock ticked, not when others returned: it is one second's work"


def test_a_missing_folder_pauses_its_inbox_and_no_other(stand: Stand) -> None:
    away = stand.path("done").rename(stand.root() / "done.away")
    told = len(stand.log_events("folder_unavailable", stand.watcher))

    stand.drop(b"patience.txt", b"where should I go?")
    stand.drop(b"elsewhere.txt", b"nothing is missing here", "other")
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher)[told:])
    stand.wait_until(lambda: stand.path("done", b"elsewhere.txt", "other").exists())
    assert stand.path("inbox", b"patience.txt").exists()
    away.rename(stand.path("done"))
    stand.wait_until(lambda: stand.path("done", b"patience.txt").exists())

    (line,) = stand.log_events("folder_unavailable", stand.watcher)[told:]
    assert str(stand.path("done")) in line["error"]
    assert len(stand.log_events("folder_available", stand.watcher)) == 1


def test_a_folder_that_goes_missing_while_its_files_are_worked_on_gets_them_when_it_is_back(stand: Stand) -> None:
    stand.drop(b"returning.txt", b"sleep 1")
    stand.wait_until(lambda: stand.calls(b"returning.txt"))
    away = stand.path("done").rename(stand.root() / "done.away")
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.worker))
    assert [name.rpartition(b"/")[2] for name in stand.names("claimed")] == [b"returning.txt"]

    away.rename(stand.path("done"))
    stand.wait_until(lambda: stand.path("done", b"returning.txt").exists())

    assert len(stand.calls(b"returning.txt")) == 1
    assert not stand.path("failed", b"returning.txt").exists()


def test_a_root_that_is_replaced_is_watched_anew(stand: Stand) -> None:
    told = len(stand.log_events("folder_unavailable", stand.watcher))
    old = stand.root().rename(stand.root().with_name("old"))
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher)[told:])

    for name in FOLDERS:
        stand.path(name).mkdir(parents=True)
    stand.wait_until(lambda: stand.log_events("observer_restarted", stand.watcher))
    stand.drop(b"new ground.txt", b"first here")
    stand.wait_until(lambda: stand.path("done", b"new ground.txt").exists())

    (claimed,) = [line for line in stand.log_events("file_claimed", stand.watcher) if line["file"] == "new ground.txt"]
    assert claimed["found_by"] == "event"
    assert not (old / "done" / "new ground.txt").exists()
    assert stand.watcher.running


def test_nothing_has_raised_what_nobody_expected(stand: Stand) -> None:
    assert [line for line in stand.log_lines() if line["level"] in {"error", "critical"} or "exception" in line] == []
