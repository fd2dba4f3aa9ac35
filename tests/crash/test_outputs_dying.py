"""Each fault at each operation of making, committing and delivering outputs: they are delivered once, and with their source."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.faults import FAULTS, Fault
from support.crash.fuse import ProcessDied
from support.crash.spool_scenarios import PARCEL, P, note
from support.disk.disks import ElsewhereDisk, LinkingDisk
from support.disk.spools import Spool

from inboxd.fs.folders import open_path, opened_path
from inboxd.fs.syscalls import Disk, closing
from inboxd.spool.checkpoints import resume, save_checkpoint
from inboxd.spool.claims import list_files, remove_if_empty
from inboxd.spool.delivery import BESIDE_DONE, Destination, finish_outputs
from inboxd.spool.filing import move_to_done, move_to_failed
from inboxd.spool.layout import Folders, split_path
from inboxd.spool.outputs import Namer, begin_run, commit_run, store_outputs
from inboxd.spool.retention import LEFTOVER_SECONDS, delete_expired

PATH = b"x/a.pdf"
OUTPUT_NAMES = (b"a.txt", b"pages/1.png")
DISK = Disk()
ON_DISK = [fault for fault in FAULTS if fault.on_disk]


def handle(disk: Disk, folders: Folders, content: bytes, namer: Namer | None = None) -> None:
    """Make outputs and commit them, as a worker does."""
    with closing(disk, disk.open_folder(folders.claimed, PARCEL.encode())) as parcel:
        run = begin_run(disk, parcel, PATH)
        with closing(disk, open_path(disk, parcel, tuple(run.split(b"/")))) as folder:
            disk.mkdir(folder, b"pages", 0o700)
            for name in OUTPUT_NAMES:
                parts, last = split_path(name)
                with opened_path(disk, folder, parts) as at, closing(disk, disk.create(at, last, 0o600)) as file:
                    disk.write(file, content)
        commit_run(disk, parcel, run, namer)


def send_back(disk: Disk, folders: Folders, content: bytes, _namer: Namer | None = None) -> None:
    """Store what a worker on another host has sent back, as a callback does."""
    store_outputs(disk, folders, PARCEL, PATH, [(b"x/" + name, content) for name in OUTPUT_NAMES])


Make = Callable[[Disk, Folders, bytes, Namer | None], None]


def close(disk: Disk, folders: Folders, destination: Destination = BESIDE_DONE) -> None:
    """Close the parcel, as a callback does."""
    remove_if_empty(disk, folders, PARCEL)
    list(finish_outputs(disk, folders, PARCEL, destination))
    remove_if_empty(disk, folders, PARCEL)


def succeed(
    disk: Disk, folders: Folders, content: bytes, destination: Destination = BESIDE_DONE, namer: Namer | None = None,
    make: Make = handle,
) -> None:  # fmt: skip
    """Do everything that is left to do for a file: handle it again if it is claimed, as after a lost Redis."""
    if list_files(disk, folders, PARCEL):
        make(disk, folders, content, namer)
        move_to_done(disk, folders, PARCEL, PATH)
    close(disk, folders, destination)


def fail(disk: Disk, folders: Folders) -> None:
    if list_files(disk, folders, PARCEL):
        move_to_failed(disk, folders, PARCEL, PATH, note(PATH, PARCEL))
    close(disk, folders)


def out(spool: Spool) -> dict[bytes, bytes]:
    return {path: content for path, content in spool.files().items() if path.startswith(b"out/")}


@pytest.mark.parametrize("make", [handle, send_back], ids=lambda make: make.__name__)
@pytest.mark.parametrize("disk", [Disk(), LinkingDisk()], ids=lambda disk: type(disk).__name__)
@pytest.mark.parametrize("fault", ON_DISK, ids=lambda fault: fault.name)
def test_after_a_fault_outputs_are_delivered_once_and_never_without_their_source(
    fault: Fault, disk: Disk, make: Make, tmp_path: Path
) -> None:
    for point in itertools.count(1):
        spool = Spool.make(tmp_path / str(point))
        spool.put(P + PATH, b"source")
        fuse = fault.fuse(point)
        with spool.folders() as folders:
            try:
                succeed(cast("Disk", fuse.add_part(disk)), folders, b"first", make=make)
            except (OSError, ProcessDied):
                assert fuse.blown
            assert not out(spool) or b"done/x/a.pdf" in spool.files()

            succeed(disk, folders, b"second", make=make)
            close(disk, folders)

        delivered = out(spool)
        assert delivered.keys() == {b"out/x/a.txt", b"out/x/pages/1.png"}
        assert len(set(delivered.values())) == 1  # the outputs of one call
        assert spool.files().keys() - delivered.keys() == {b"done/x/a.pdf"}
        assert list((spool.root / "claimed").iterdir()) == []
        if not fuse.blown:
            break
        record_crash_point(f"outputs of a file that is done: {make.__name__}", fault.name, point)
    assert point > 40 or fault.only


def run_chain(disk: Disk, folders: Folders, content: bytes) -> None:
    """Run a chain of two steps, each of which makes an output; go on where an earlier attempt has stopped."""
    with closing(disk, disk.open_folder(folders.claimed, PARCEL.encode())) as parcel:
        done, run = resume(disk, parcel, PATH, [b"step1"])
        for number in range(done, 2):
            run = run or begin_run(disk, parcel, PATH)
            with (
                closing(disk, open_path(disk, parcel, tuple(run.split(b"/")))) as folder,
                closing(disk, disk.create(folder, b"%d" % number, 0o600)) as file,
            ):
                disk.write(file, content)
            if number == 0:
                run = save_checkpoint(disk, parcel, run, PATH, b"step1")
        assert run
        commit_run(disk, parcel, run)


@pytest.mark.parametrize("fault", ON_DISK, ids=lambda fault: fault.name)
def test_after_a_fault_a_chain_goes_on_and_each_of_its_outputs_is_delivered_once(fault: Fault, tmp_path: Path) -> None:
    def work(disk: Disk, folders: Folders, content: bytes) -> None:
        if list_files(disk, folders, PARCEL):
            run_chain(disk, folders, content)
            move_to_done(disk, folders, PARCEL, PATH)
        close(disk, folders)

    for point in itertools.count(1):
        spool = Spool.make(tmp_path / str(point))
        spool.put(P + PATH, b"source")
        fuse = fault.fuse(point)
        with spool.folders() as folders:
            try:
                work(cast("Disk", fuse.add_part(Disk())), folders, b"first")
            except (OSError, ProcessDied):
                assert fuse.blown
            assert not out(spool) or b"done/x/a.pdf" in spool.files()

            work(DISK, folders, b"second")
            close(DISK, folders)

        delivered = out(spool)
        assert delivered.keys() == {b"out/x/0", b"out/x/1"}
        assert {*delivered.values()} <= {b"first", b"second"}
        assert (delivered[b"out/x/0"], delivered[b"out/x/1"]) != (b"second", b"first")
        assert list((spool.root / "claimed").iterdir()) == []
        if not fuse.blown:
            break
        record_crash_point("a chain of two steps", fault.name, point)
    assert point > 60 or fault.only


def name_all_alike(outputs: list[bytes]) -> dict[bytes, bytes]:
    return dict.fromkeys(outputs, b"new/a.txt")


@pytest.mark.parametrize("on_conflict", ["number", "replace"])
@pytest.mark.parametrize("disk", [Disk(), ElsewhereDisk()], ids=lambda disk: type(disk).__name__)
@pytest.mark.parametrize("fault", ON_DISK, ids=lambda fault: fault.name)
def test_after_a_fault_outputs_have_their_new_names_in_another_folder_once(
    fault: Fault, disk: Disk, on_conflict: str, tmp_path: Path
) -> None:
    for point in itertools.count(1):
        spool, top = Spool.make(tmp_path / str(point)), tmp_path / f"{point}-elsewhere"
        spool.put(P + PATH, b"source")
        (top / "new").mkdir(parents=True)
        (top / "new" / "a.txt").write_bytes(b"older")
        fuse = fault.fuse(point)
        destination = Destination(top, on_conflict)
        with spool.folders() as folders:
            try:
                succeed(cast("Disk", fuse.add_part(disk)), folders, b"first", destination, name_all_alike)
            except (OSError, ProcessDied):
                assert fuse.blown
            assert (top / "new" / "a.txt").read_bytes() in (b"older", b"first")

            succeed(disk, folders, b"second", destination, name_all_alike)
            close(disk, folders, destination)
        with closing(DISK, DISK.open_root(top)) as opened:
            list(delete_expired(DISK, opened, time.time() + 2 * LEFTOVER_SECONDS, 0.0))

        delivered = {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        (content,) = {*delivered.values()} - {b"older"}
        assert content in (b"first", b"second")
        if on_conflict == "replace":
            assert delivered == {"new/a.txt": content, "new/a (2).txt": content}
        else:
            assert delivered == {"new/a.txt": b"older", "new/a (2).txt": content, "new/a (3).txt": content}
        assert spool.files() == {b"done/x/a.pdf": b"source"}
        assert list((spool.root / "claimed").iterdir()) == []
        if not fuse.blown:
            break
        record_crash_point("outputs with new names in another folder", fault.name, point)
    assert point > 40 or fault.only


@pytest.mark.parametrize("fault", ON_DISK, ids=lambda fault: fault.name)
def test_after_a_fault_a_file_that_fails_has_no_outputs(fault: Fault, tmp_path: Path) -> None:
    for point in itertools.count(1):
        spool = Spool.make(tmp_path / str(point))
        spool.put(P + PATH, b"source")
        fuse = fault.fuse(point)
        with spool.folders() as folders:
            handle(Disk(), folders, b"of a worker that was killed after its handler")
            try:
                fail(cast("Disk", fuse.add_part(Disk())), folders)
            except (OSError, ProcessDied):
                assert fuse.blown
            assert out(spool) == {}

            fail(Disk(), folders)
            close(Disk(), folders)

        assert out(spool) == {}
        assert {path for path, content in spool.files().items() if content == b"source"} == {b"failed/x/a.pdf"}
        assert list((spool.root / "claimed").iterdir()) == []
        if not fuse.blown:
            break
        record_crash_point("outputs of a file that fails", fault.name, point)
    assert point > 15 or fault.only


def test_two_callbacks_at_once_deliver_each_output_once(tmp_path: Path) -> None:
    """The second begins at each operation of the first."""
    for point in itertools.count(1):
        spool = Spool.make(tmp_path / str(point))
        spool.put(P + PATH, b"source")
        with spool.folders() as folders:
            handle(Disk(), folders, b"text")
            move_to_done(Disk(), folders, PARCEL, PATH)
            fuse = Fault("dies").fuse(point)
            try:
                close(cast("Disk", fuse.add_part(Disk())), folders)
            except ProcessDied:
                close(Disk(), folders)  # another process, while the first goes on
            close(Disk(), folders)

        assert out(spool).keys() == {b"out/x/a.txt", b"out/x/pages/1.png"}
        if not fuse.blown:
            return
