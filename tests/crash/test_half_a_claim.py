"""A crash leaves no incomplete file in a parcel, where recovery would publish it, or in inbox/, where a scan would find it."""

from pathlib import Path

import pytest
from support.crash.spool_scenarios import FAR_FUTURE, MOVING, SpoolScenario, crashes
from support.disk.disks import LinkingDisk, TwoDisks
from support.disk.spools import NO_WAITS

from inboxd.fs.syscalls import Disk
from inboxd.intake.readiness import Ready, Refuse
from inboxd.intake.scan import ScannedEntry, scan
from inboxd.spool.claims import list_files, list_parcels

CASES = [(scenario, disk) for scenario in MOVING for disk in (Disk(), LinkingDisk())]
CASES += [(scenario, TwoDisks()) for scenario in MOVING if scenario.name == "claim"]


def case_id(value: object) -> str:
    return value.name if isinstance(value, SpoolScenario) else type(value).__name__


@pytest.mark.parametrize(("scenario", "disk"), CASES, ids=case_id)
def test_the_next_pass_finds_complete_files_only(scenario: SpoolScenario, disk: Disk, tmp_path: Path) -> None:
    for spool in crashes(scenario, tmp_path, disk):
        files = spool.files()
        with spool.folders() as folders:
            entries = list(scan(Disk(), folders.inbox, spool.inbox(), NO_WAITS, lambda: FAR_FUTURE))
            paths = [
                b"inbox/" + entry.path
                for entry in entries
                if isinstance(entry, ScannedEntry) and isinstance(entry.decision, Ready | Refuse)
            ]
            for parcel in list_parcels(Disk(), folders):
                paths += [b"claimed/%s/%s" % (parcel.encode(), path) for path in list_files(Disk(), folders, parcel)]

        assert {files[path] for path in paths} <= scenario.contents
