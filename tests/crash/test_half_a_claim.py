"""What recovery finds in a parcel, it publishes; and a scan takes what is in inbox/: so no half of a move may lie there."""

from pathlib import Path

import pytest
from support.crash.spool_scenarios import FAR, MOVING, Way, crashes
from support.disk.disks import LinkingDisk, TwoDisks
from support.disk.spools import AT_ONCE

from inboxd.fs.syscalls import Disk
from inboxd.intake.readiness import Ready, Refuse
from inboxd.intake.scan import ScannedEntry, scan
from inboxd.spool.claims import list_files, list_parcels

WAYS = [(way, disk) for way in MOVING for disk in (Disk(), LinkingDisk())]
WAYS += [(way, TwoDisks()) for way in MOVING if way.name == "claim"]


def named(value: object) -> str:
    return value.name if isinstance(value, Way) else type(value).__name__


@pytest.mark.parametrize(("way", "disk"), WAYS, ids=named)
def test_what_a_later_pass_would_work_on_is_always_a_whole_file(way: Way, disk: Disk, tmp_path: Path) -> None:
    for spool in crashes(way, tmp_path, disk):
        lying = spool.files()
        with spool.folders() as folders:
            seen = list(scan(Disk(), folders.inbox, spool.inbox(), AT_ONCE, lambda: FAR))
            paths = [
                b"inbox/" + one.path
                for one in seen
                if isinstance(one, ScannedEntry) and isinstance(one.decision, Ready | Refuse)
            ]
            for parcel in list_parcels(Disk(), folders):
                paths += [b"claimed/%s/%s" % (parcel.encode(), path) for path in list_files(Disk(), folders, parcel)]

        assert {lying[path] for path in paths} <= way.contents
