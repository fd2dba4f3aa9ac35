"""The parcels in flight, as listed in claimed/, against the inbox's limits."""

import time
from pathlib import Path

import pytest
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import RECENT_SECONDS
from inboxd.intake.in_flight import InFlight
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id

DAY_SECONDS = 86_400.0


@pytest.mark.parametrize(
    ("age", "recent"),
    [(0.0, 1), (RECENT_SECONDS + 0.5, 0), pytest.param(-DAY_SECONDS, 0, id="the clock was set back by a day")],
)
def test_only_parcels_of_the_last_second_are_recent(age: float, recent: int, tmp_path: Path) -> None:
    """Small batches wait for recent parcels: one from the future would hold them up until the clock has caught up."""
    spool = Spool.make(tmp_path / "drop")
    spool.put(b"claimed/%s/a" % new_parcel_id(time.time() - age).encode())
    in_flight = InFlight(spool.inbox())

    with spool.folders() as folders:
        in_flight.refresh(Disk(), folders)

    assert in_flight.recent_parcels == recent


def test_a_parcel_that_was_just_sent_counts_before_the_next_listing(tmp_path: Path) -> None:
    spool = Spool.make(tmp_path / "drop")
    inbox = spool.inbox()
    spool.put(b"claimed/%s/a" % new_parcel_id().encode())
    in_flight = InFlight(inbox)
    with spool.folders() as folders:
        in_flight.refresh(Disk(), folders)

    in_flight.add(Parcel(new_parcel_id(), inbox.name, "host", b"/", (_part(b"b"), _part(b"c"))))

    assert in_flight.capacity == inbox.in_flight_files_max - 3
    assert in_flight.recent_parcels == 2


def _part(name: bytes) -> FilePart:
    return FilePart(name, "text/plain", 1, {"id": "1"}, b"1")
