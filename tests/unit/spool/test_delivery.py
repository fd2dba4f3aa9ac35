"""Where outputs go: names by a template, another folder, and what happens if a name is taken."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from support.crash.spool_scenarios import PARCEL, P
from support.disk.disks import ElsewhereDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, closing
from inboxd.intake.temporary_names import final_path
from inboxd.spool.claims import remove_if_empty
from inboxd.spool.delivery import Delivered, Destination, find_taken, finish_outputs
from inboxd.spool.filing import move_to_done
from inboxd.spool.outputs import Namer, begin_run, commit_run

PATH = b"x/a.tif"
DISK = Disk()

Deliver = Callable[..., list[Delivered]]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool.make(tmp_path / "drop")
    spool.put(P + PATH, b"source")
    return spool


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def commit(spool: Spool, outputs: Mapping[str, bytes], namer: Namer | None = None) -> None:
    with spool.folders() as folders, closing(DISK, DISK.open_folder(folders.claimed, PARCEL.encode())) as parcel:
        run = begin_run(DISK, parcel, PATH)
        for name, content in outputs.items():
            file = spool.where(P + run) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        assert commit_run(DISK, parcel, run, namer)


def deliver(spool: Spool, destination: Destination, disk: Disk = DISK) -> list[Delivered]:
    with spool.folders() as folders:
        move_to_done(DISK, folders, PARCEL, PATH)
        remove_if_empty(DISK, folders, PARCEL)
        delivered = list(finish_outputs(disk, folders, PARCEL, destination))
        assert remove_if_empty(DISK, folders, PARCEL)
    return delivered


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("disk", [Disk(), ElsewhereDisk()], ids=["the same file system", "another one"])
def test_outputs_go_to_another_folder_and_its_files_stay(spool: Spool, elsewhere: Path, disk: Disk) -> None:
    (elsewhere / "x").mkdir()
    (elsewhere / "x" / "a.pdf").write_bytes(b"older")
    commit(spool, {"a.pdf": b"new", "pages/1.png": b"png"})

    delivered = deliver(spool, Destination(elsewhere), disk)

    assert sorted(delivered) == [Delivered(PATH, b"a.pdf", b"x/a (2).pdf"), Delivered(PATH, b"pages/1.png", b"x/pages/1.png")]
    assert tree(elsewhere) == {"x/a.pdf": b"older", "x/a (2).pdf": b"new", "x/pages/1.png": b"png"}
    assert not (spool.root / "out").exists()


@pytest.mark.parametrize("disk", [Disk(), ElsewhereDisk()], ids=["the same file system", "another one"])
def test_replace_replaces_files_and_leaves_folders(spool: Spool, elsewhere: Path, disk: Disk) -> None:
    (elsewhere / "x" / "b").mkdir(parents=True)
    (elsewhere / "x" / "a.pdf").write_bytes(b"older")
    commit(spool, {"a.pdf": b"new", "b": b"not a folder"})

    deliver(spool, Destination(elsewhere, "replace"), disk)

    assert tree(elsewhere) == {"x/a.pdf": b"new", "x/b (2)": b"not a folder"}


def test_names_by_a_template_are_below_the_folder_itself(spool: Spool) -> None:
    commit(spool, {"1.png": b"1", "2.png": b"2"}, lambda outputs: {output: b"new/" + output for output in outputs})

    delivered = deliver(spool, Destination())

    assert tree(spool.root / "out") == {"new/1.png": b"1", "new/2.png": b"2"}
    assert {output.name for output in delivered} == {b"new/1.png", b"new/2.png"}


def test_outputs_with_one_name_are_numbered(spool: Spool) -> None:
    commit(spool, {"1": b"1", "2": b"2", "3": b"3"}, lambda outputs: dict.fromkeys(outputs, b"a.txt"))

    deliver(spool, Destination())

    assert sorted(tree(spool.root / "out")) == ["a (2).txt", "a (3).txt", "a.txt"]


def test_a_name_that_is_too_long_is_cut(spool: Spool) -> None:
    commit(spool, {"1": b"1"}, lambda outputs: dict.fromkeys(outputs, b"y/" + b"x" * 300 + b".pdf"))

    deliver(spool, Destination())

    ((name, content),) = tree(spool.root / "out").items()
    assert (name[:3], name[-4:], content) == ("y/x", ".pdf", b"1")


def test_a_taken_name_is_found_while_the_file_is_claimed(spool: Spool, elsewhere: Path) -> None:
    commit(spool, {"a.pdf": b"new", "b.pdf": b"new"})
    with spool.folders() as folders:
        assert find_taken(DISK, folders, PARCEL, PATH, Destination(elsewhere, "fail")) is None
        (elsewhere / "x").mkdir()
        (elsewhere / "x" / "b.pdf").write_bytes(b"older")
        assert find_taken(DISK, folders, PARCEL, PATH, Destination(elsewhere, "fail")) == b"x/b.pdf"
        assert find_taken(DISK, folders, PARCEL, b"other", Destination(elsewhere, "fail")) is None


def test_a_folder_that_is_missing_is_named_and_the_outputs_wait(spool: Spool, elsewhere: Path) -> None:
    commit(spool, {"a.pdf": b"new"})

    with pytest.raises(OSError, match=str(elsewhere / "gone")):
        deliver(spool, Destination(elsewhere / "gone"))
    (elsewhere / "gone").mkdir()
    deliver(spool, Destination(elsewhere / "gone"))

    assert tree(elsewhere) == {"gone/x/a.pdf": b"new"}


def test_what_goes_to_another_inbox_is_not_taken_for_a_temporary_file(spool: Spool, elsewhere: Path) -> None:
    names = {
        ".profile": "_.profile",
        "a.part": "a.part_",
        "b~": "b~_",
        "4913": "_4913",
        "@eaDir/x": "_@eaDir/x",
        "a.download/x": "a.download_/x",
        "y/z.txt": "y/z.txt",
    }
    commit(spool, dict.fromkeys(names, b"content"))

    deliver(spool, Destination(elsewhere, rename=partial(final_path, changes=())))

    assert sorted(tree(elsewhere)) == sorted(f"x/{name}" for name in names.values())
