"""Files survive programs that are killed during their work."""

import time
from collections.abc import Callable

import pytest
from support.live.stand import DEFAULTS, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

LEASE_SECONDS = DEFAULTS["work"]["lease_seconds"]
SWEEP_SECONDS = DEFAULTS["sweep"]["stale_seconds"]


def test_a_watcher_killed_while_it_claims_files_loses_and_duplicates_none(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"parcel_files_max": 1}}).start()

    dropped = stand.drop_folder(b"burst", {b"%d.txt" % number: b"content %d" % number for number in range(500)})
    for claimed in (20, 120, 250):
        stand.wait_until(lambda claimed=claimed: len(stand.log_events("file_claimed")) >= claimed)
        assert stand.names("inbox"), "the watcher had already claimed every file"
        stand.watcher.kill9()
        stand.watcher.start()
    stand.wait_until(lambda: stand.has_no_pending_files() and len(stand.names("done")) == 500)

    assert stand.tree("done") == dropped
    assert stand.names("failed") == set()
    assert {call.path for call in stand.calls()} == dropped.keys()
    assert stand.duplicates() == {}, "only the watcher was killed, so no file may be handled twice"


def test_the_next_worker_handles_the_files_of_a_worker_killed_during_its_handlers(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    handler_seconds = 2

    stand.drop(b"large/by reference.bin", b"sleep %d\n" % handler_seconds + bytes(100_000))
    stand.drop(b"inline.txt", b"sleep %d" % handler_seconds)
    stand.wait_until(lambda: len(stand.calls()) == 2)
    stand.worker.kill9()
    stand.worker.start()
    restarted_at = time.monotonic()
    stand.wait_until(stand.has_no_pending_files)
    recovery_seconds = time.monotonic() - restarted_at

    assert recovery_seconds < LEASE_SECONDS + 2 * SWEEP_SECONDS + handler_seconds + 30
    assert stand.names("done") == {b"large/by reference.bin", b"inline.txt"}
    assert stand.names("failed") == set()
    assert stand.duplicates() == {b"large/by reference.bin": 2, b"inline.txt": 2}
    assert len(stand.log_events("parcel_crashed")) == 2
