"""Each fault at each operation of sharing folders: nobody sees more than the settings say, and the next start completes it."""

import errno
import itertools
import os
import struct
from pathlib import Path

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.faults import FAULTS, Fault
from support.crash.fuse import ProcessDied
from support.crash.spool_scenarios import PARCEL, P, note, places
from support.disk.spools import Spool

from inboxd.fs.sharing import ACCESS_LIST, MARK
from inboxd.fs.syscalls import Disk
from inboxd.spool.filing import move_to_failed
from inboxd.spool.visibility import apply_visibility

ON_DISK = [fault for fault in FAULTS if fault.on_disk]
DROPPERS, NOBODY = "droppers", "nobody"
OTHER = 32

State = tuple[int, dict[str, bytes]]
"""A folder's permission bits and extended attributes."""


def make_spool(root: Path) -> Spool:
    spool = Spool.make(root)
    for folder, mode in (("inbox", 0o733), ("claimed", 0o700), ("done", 0o750), ("failed", 0o750)):
        (spool.root / folder).chmod(mode)
    return spool


def share(spool: Spool, visible_to: str, disk: Disk | None = None) -> None:
    with spool.folders() as folders:
        apply_visibility(disk or Disk(), spool.inbox(visible_to=visible_to), folders)


def state(folder: Path) -> State:
    return folder.stat().st_mode & 0o777, {name: os.getxattr(folder, name) for name in os.listxattr(folder)}


def others_may(path: Path) -> int:
    """Return what others than owner and group may do with a file or folder: 4 read, 2 write, 1 open what is in it."""
    try:
        packed = os.getxattr(path, ACCESS_LIST)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return path.stat().st_mode & 7
    return next(permissions for tag, permissions, _ in struct.iter_unpack("<HHI", packed[4:]) if tag == OTHER)


def filing_folders(spool: Spool) -> list[Path]:
    return [spool.root / "done", spool.root / "failed"]


@pytest.mark.parametrize("fault", ON_DISK, ids=lambda fault: fault.name)
@pytest.mark.parametrize(("before", "after"), [(NOBODY, DROPPERS), (DROPPERS, NOBODY)], ids=["share", "unshare"])
def test_after_a_fault_the_next_start_completes_the_change(before: str, after: str, fault: Fault, tmp_path: Path) -> None:
    whole = make_spool(tmp_path / "whole")
    share(whole, before)
    share(whole, after)
    expected = [state(folder) for folder in filing_folders(whole)]

    for point in itertools.count(1):
        spool = make_spool(tmp_path / str(point))
        share(spool, before)
        fuse = fault.fuse(point)
        try:
            share(spool, after, fuse.add_part(Disk()))  # type: ignore[arg-type]  # a proxy of the disk
        except (OSError, ProcessDied):
            assert fuse.blown
        for folder in filing_folders(spool):
            assert others_may(folder) in (0, 1)  # as inbox/ lets others: to open what is in it, and never to list or write
            assert state(folder)[0] & 0o700 == 0o700

        share(spool, after)

        assert [state(folder) for folder in filing_folders(spool)] == expected
        if not fuse.blown:
            break
        record_crash_point("visible_to", fault.name, point)
    assert point > 4 or fault.only


@pytest.mark.parametrize("fault", ON_DISK, ids=lambda fault: fault.name)
def test_after_a_fault_in_a_shared_folder_the_file_is_filed_and_new_folders_show_no_more_than_failed(
    fault: Fault, tmp_path: Path
) -> None:
    path = b"x/y/a.pdf"

    def fail(spool: Spool, disk: Disk) -> None:
        with spool.folders() as folders:
            move_to_failed(disk, folders, PARCEL, path, note(path, PARCEL))

    old_umask = os.umask(0o077)
    try:
        for point in itertools.count(1):
            spool = make_spool(tmp_path / str(point))
            share(spool, DROPPERS)
            spool.put(P + path, b"content")
            fuse = fault.fuse(point)
            try:
                fail(spool, fuse.add_part(Disk()))  # type: ignore[arg-type]  # a proxy of the disk
            except (OSError, ProcessDied):
                assert fuse.blown
            assert len(places(spool.files())[b"content"]) == 1

            fail(spool, Disk())

            assert spool.files().keys() >= {b"failed/" + path, b"failed/" + path + b".error.txt"}
            made = [entry for entry in (spool.root / "failed").rglob("*") if entry.name != "a.pdf"]
            shown = {str(entry.relative_to(spool.root)): others_may(entry) for entry in made}
            assert all(permissions in (0, 4 if (spool.root / name).is_file() else 1) for name, permissions in shown.items())
            if not fuse.blown:
                assert shown == {"failed/x": 1, "failed/x/y": 1, "failed/x/y/a.pdf.error.txt": 4}
                assert MARK in os.listxattr(spool.root / "failed/x/y")
                break
            record_crash_point("failed, in shared folders", fault.name, point)
    finally:
        os.umask(old_umask)
    assert point > 10 or fault.only
