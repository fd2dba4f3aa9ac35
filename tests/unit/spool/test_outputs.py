"""Outputs of handlers: runs in a parcel, the first of which is committed, and their delivery to out/."""

import os
from pathlib import Path

import pytest
from support.crash.spool_scenarios import PARCEL, P, note
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, closing
from inboxd.spool.claims import list_files, release_file, remove_if_empty, split_off
from inboxd.spool.filing import move_to_done, move_to_failed
from inboxd.spool.layout import Folders, new_parcel_id
from inboxd.spool.outputs import MARK, OUTPUTS, Delivered, begin_run, commit_run, discard_run, finish_outputs

PATH = b"x/a.pdf"
DISK = Disk()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool.make(tmp_path / "drop")
    spool.put(P + PATH, b"source")
    return spool


def make(spool: Spool, folders: Folders, outputs: dict[str, bytes], path: bytes = PATH) -> bytes:
    """Make a run with these files, and leave it uncommitted."""
    with closing(DISK, DISK.open_folder(folders.claimed, PARCEL.encode())) as parcel:
        run = begin_run(DISK, parcel, path)
    for name, content in outputs.items():
        file = spool.where(P + OUTPUTS + b"/" + run) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return run


def commit(folders: Folders, run: bytes, path: bytes = PATH) -> bool:
    with closing(DISK, DISK.open_folder(folders.claimed, PARCEL.encode())) as parcel:
        return commit_run(DISK, parcel, path, run)


def out(spool: Spool) -> dict[str, bytes]:
    top = spool.root / "out"
    return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}


def finish(folders: Folders) -> list[Delivered]:
    delivered = finish_outputs(DISK, folders, PARCEL)
    assert remove_if_empty(DISK, folders, PARCEL)
    return delivered


def test_committed_outputs_follow_their_file(spool: Spool) -> None:
    with spool.folders() as folders:
        assert commit(folders, make(spool, folders, {"a.txt": b"text", "pages/1.png": b"png"}))
        assert list_files(DISK, folders, PARCEL) == [PATH]
        assert finish_outputs(DISK, folders, PARCEL) == []
        move_to_done(DISK, folders, PARCEL, PATH)
        assert not remove_if_empty(DISK, folders, PARCEL)

        delivered = finish(folders)

    assert sorted(delivered) == [Delivered(PATH, b"a.txt", b"x/a.txt"), Delivered(PATH, b"pages/1.png", b"x/pages/1.png")]
    assert out(spool) == {"x/a.txt": b"text", "x/pages/1.png": b"png"}
    assert spool.files() == {b"done/x/a.pdf": b"source", b"out/x/a.txt": b"text", b"out/x/pages/1.png": b"png"}


def test_nothing_is_overwritten(spool: Spool) -> None:
    spool.put(b"out/x/a.txt", b"older")
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"a.txt": b"text"}))
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert out(spool) == {"x/a.txt": b"older", "x/a (2).txt": b"text"}


def test_only_the_first_run_is_delivered(spool: Spool) -> None:
    with spool.folders() as folders:
        first, second, third = (make(spool, folders, {"a.txt": text}) for text in (b"first", b"second", b"third"))
        assert commit(folders, second)
        assert not commit(folders, first)
        move_to_done(DISK, folders, PARCEL, PATH)
        assert not commit(folders, third)
        finish(folders)

    assert out(spool) == {"x/a.txt": b"second"}


def test_a_run_without_outputs_is_removed_and_makes_no_folder(spool: Spool) -> None:
    with spool.folders() as folders:
        assert not commit(folders, make(spool, folders, {}))
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert not (spool.root / "out").exists()


def test_a_failed_call_leaves_nothing(spool: Spool) -> None:
    with spool.folders() as folders:
        run = make(spool, folders, {"a.txt": b"half", "x/y/z": b"half"})
        with closing(DISK, DISK.open_folder(folders.claimed, PARCEL.encode())) as parcel:
            discard_run(DISK, parcel, run)
            discard_run(DISK, parcel, run)

    assert spool.files() == {P + PATH: b"source"}


@pytest.mark.parametrize("way", ["failed", "released", "split off"])
def test_a_file_that_goes_elsewhere_loses_its_outputs(way: str, spool: Spool) -> None:
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"a.txt": b"text"}))
        match way:
            case "failed":
                move_to_failed(DISK, folders, PARCEL, PATH, note(PATH, PARCEL))
            case "released":
                release_file(DISK, folders, PARCEL, PATH)
            case _:
                split_off(DISK, folders, PARCEL, PATH, new_parcel_id())
        finish_outputs(DISK, folders, PARCEL)

    assert not (spool.root / "out").exists()
    assert b"text" not in spool.files().values()


def test_outputs_of_files_that_are_still_claimed_wait(spool: Spool) -> None:
    other = b"b.pdf"
    spool.put(P + other, b"other")
    with spool.folders() as folders:
        for path in (PATH, other):
            commit(folders, make(spool, folders, {"out.txt": path}, path), path)
        unfinished = make(spool, folders, {"late.txt": b"late"}, other)
        move_to_done(DISK, folders, PARCEL, PATH)

        assert finish_outputs(DISK, folders, PARCEL) == [Delivered(PATH, b"out.txt", b"x/out.txt")]

        assert spool.where(P + OUTPUTS + b"/" + unfinished).exists()
        move_to_done(DISK, folders, PARCEL, other)
        assert finish(folders) == [Delivered(other, b"out.txt", b"out.txt")]


def test_links_and_pipes_are_not_delivered(spool: Spool) -> None:
    with spool.folders() as folders:
        run = make(spool, folders, {"a.txt": b"text"})
        place = spool.where(P + OUTPUTS + b"/" + run)
        (place / "link").symlink_to("/etc/passwd")
        (place / "folder").symlink_to("/etc")
        os.mkfifo(place / "pipe")
        commit(folders, run)
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert sorted(entry.name for entry in (spool.root / "out/x").iterdir()) == ["a.txt"]


def test_out_is_as_visible_as_done(spool: Spool) -> None:
    (spool.root / "done").chmod(0o750)
    old_umask = os.umask(0o077)
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"a.txt": b"text"}))
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)
    os.umask(old_umask)

    assert (spool.root / "out").stat().st_mode & 0o777 == 0o750


def test_the_mark_is_never_delivered(spool: Spool) -> None:
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"sub/" + MARK.decode(): b"an output of that name", "a": b"x"}))
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert set(out(spool)) == {"x/a", "x/sub/" + MARK.decode()}
