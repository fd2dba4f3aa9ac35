"""Outputs of handlers: runs in a parcel, the first of which is committed, and their delivery to out/."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from support.crash.spool_scenarios import PARCEL, P, note
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.spool.claims import list_files, release_file, remove_if_empty, split_off
from inboxd.spool.delivery import Delivered, finish_outputs
from inboxd.spool.filing import move_to_done, move_to_failed
from inboxd.spool.layout import Folders, new_parcel_id
from inboxd.spool.outputs import OUTPUTS, begin_run, commit_run, discard_run

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
        file = spool.where(P + run) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return run


def commit(folders: Folders, run: bytes) -> bool:
    with closing(DISK, DISK.open_folder(folders.claimed, PARCEL.encode())) as parcel:
        return commit_run(DISK, parcel, run)


def out(spool: Spool) -> dict[str, bytes]:
    top = spool.root / "out"
    return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}


def finish(folders: Folders) -> list[Delivered]:
    remove_if_empty(DISK, folders, PARCEL)
    delivered = list(finish_outputs(DISK, folders, PARCEL))
    assert remove_if_empty(DISK, folders, PARCEL)
    return delivered


def test_committed_outputs_follow_their_file(spool: Spool) -> None:
    with spool.folders() as folders:
        assert commit(folders, make(spool, folders, {"a.txt": b"text", "pages/1.png": b"png"}))
        assert list_files(DISK, folders, PARCEL) == [PATH]
        assert list(finish_outputs(DISK, folders, PARCEL)) == []
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
        finish(folders) if way != "split off" else list(finish_outputs(DISK, folders, PARCEL))

    assert not (spool.root / "out").exists()
    assert b"text" not in spool.files().values()


def test_outputs_of_files_that_are_still_claimed_wait(spool: Spool) -> None:
    other = b"b.pdf"
    spool.put(P + other, b"other")
    with spool.folders() as folders:
        for path in (PATH, other):
            commit(folders, make(spool, folders, {"out.txt": path}, path))
        unfinished = make(spool, folders, {"late.txt": b"late"}, other)
        move_to_done(DISK, folders, PARCEL, PATH)

        assert list(finish_outputs(DISK, folders, PARCEL)) == [Delivered(PATH, b"out.txt", b"x/out.txt")]

        assert spool.where(P + unfinished).exists()
        move_to_done(DISK, folders, PARCEL, other)
        assert finish(folders) == [Delivered(other, b"out.txt", b"out.txt")]


def test_links_and_pipes_are_not_delivered(spool: Spool) -> None:
    with spool.folders() as folders:
        run = make(spool, folders, {"a.txt": b"text"})
        place = spool.where(P + run)
        (place / "link").symlink_to("/etc/passwd")
        (place / "folder").symlink_to("/etc")
        os.mkfifo(place / "pipe")
        commit(folders, run)
        move_to_done(DISK, folders, PARCEL, PATH)
        delivered = finish(folders)

    assert sorted(entry.name for entry in (spool.root / "out/x").iterdir()) == ["a.txt"]
    assert {output.name for output in delivered if output.filed is None} == {b"link", b"folder", b"pipe"}


def test_out_is_as_visible_as_done(spool: Spool) -> None:
    (spool.root / "done").chmod(0o750)
    old_umask = os.umask(0o077)
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"a.txt": b"text"}))
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)
    os.umask(old_umask)

    assert (spool.root / "out").stat().st_mode & 0o777 == 0o750


def test_outputs_of_another_version_of_the_file_are_not_delivered(spool: Spool) -> None:
    source = spool.where(P + PATH)
    with spool.folders() as folders:
        old = make(spool, folders, {"a.txt": b"of the old version"})
        assert commit(folders, make(spool, folders, {"a.txt": b"of the old version, committed"}))
        source.write_bytes(b"a new version")
        new = make(spool, folders, {"a.txt": b"of the new version"})
        assert not commit(folders, old)
        assert commit(folders, new)
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert out(spool) == {"x/a.txt": b"of the new version"}


def test_a_handler_that_changes_its_file_keeps_its_outputs(spool: Spool) -> None:
    """With ignore_changes, such a file goes to done/; without, it is released, and its outputs are removed."""
    with spool.folders() as folders:
        run = make(spool, folders, {"a.txt": b"text"})
        spool.where(P + PATH).write_bytes(b"changed by its own handler")
        assert commit(folders, run)
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert out(spool) == {"x/a.txt": b"text"}


def test_a_late_call_for_an_older_version_does_not_replace_the_present_ones_outputs(spool: Spool) -> None:
    with spool.folders() as folders:
        old = make(spool, folders, {"a.txt": b"old"})
        spool.where(P + PATH).write_bytes(b"a new version")
        assert commit(folders, make(spool, folders, {"a.txt": b"new"}))
        assert not commit(folders, old)
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert out(spool) == {"x/a.txt": b"new"}


def test_a_duplicate_that_fails_after_the_file_was_filed_leaves_its_outputs(spool: Spool) -> None:
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"a.txt": b"text"}))
        move_to_done(DISK, folders, PARCEL, PATH)
        assert move_to_failed(DISK, folders, PARCEL, PATH, note(PATH, PARCEL)) is None
        assert not release_file(DISK, folders, PARCEL, PATH)
        assert not split_off(DISK, folders, PARCEL, PATH, new_parcel_id())
        finish(folders)

    assert out(spool) == {"x/a.txt": b"text"}


def test_after_the_delivery_no_call_can_be_committed_while_other_files_keep_the_parcel(spool: Spool) -> None:
    spool.put(P + b"other", b"other")
    with spool.folders() as folders:
        late = make(spool, folders, {"a.txt": b"late"})
        commit(folders, make(spool, folders, {"a.txt": b"first"}))
        move_to_done(DISK, folders, PARCEL, PATH)
        remove_if_empty(DISK, folders, PARCEL)
        list(finish_outputs(DISK, folders, PARCEL))

        assert not commit(folders, late)

        move_to_done(DISK, folders, PARCEL, b"other")
        finish(folders)
    assert out(spool) == {"x/a.txt": b"first"}


@pytest.mark.parametrize("damage", [b"", b"a//b", b"\x92\xc4\x04../x\xc0", b"\xff" * 40])
def test_a_damaged_mark_is_an_error_of_its_parcel_and_loses_nothing(damage: bytes, spool: Spool) -> None:
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"a.txt": b"text"}))
        (run,) = spool.where(P + OUTPUTS).iterdir()
        (run / "of").write_bytes(damage)
        move_to_done(DISK, folders, PARCEL, PATH)
        remove_if_empty(DISK, folders, PARCEL)

        with pytest.raises(OSError, match="does not say of which file it is"):
            list(finish_outputs(DISK, folders, PARCEL))

    assert b"text" in spool.files().values()


def test_a_handler_may_make_its_folder_anew(spool: Spool) -> None:
    with spool.folders() as folders:
        run = make(spool, folders, {"a.txt": b"text"})
        place = spool.where(P + run)
        shutil.rmtree(place)
        place.mkdir()
        (place / "b.txt").write_bytes(b"new")
        commit(folders, run)
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)

    assert out(spool) == {"x/b.txt": b"new"}


class ConsumingDisk(Disk):
    """A disk on which a consumer takes the whole sub-folder of out/ away, once, after the first output is in it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._is_done = False

    def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        if not self._is_done and (self._root / "out/x/sub").is_dir() and any((self._root / "out/x/sub").iterdir()):
            self._is_done = True
            (self._root / "out/x/sub").rename(self._root / "consumed")
            shutil.rmtree(self._root / "out/x")
        super().rename(src_at, src, dst_at, dst)


def test_a_consumer_may_remove_folders_of_out_at_any_time(spool: Spool) -> None:
    names = [f"sub/{number}" for number in range(5)]
    with spool.folders() as folders:
        commit(folders, make(spool, folders, dict.fromkeys(names, b"x")))
        move_to_done(DISK, folders, PARCEL, PATH)
        remove_if_empty(DISK, folders, PARCEL)
        list(finish_outputs(ConsumingDisk(spool.root), folders, PARCEL))

    consumed = {f"x/sub/{path.name}" for path in (spool.root / "consumed").iterdir()}
    assert consumed
    assert consumed | set(out(spool)) == {f"x/{name}" for name in names}


@pytest.mark.parametrize("kind", ["link", "file"])
def test_an_out_that_is_no_folder_is_named_and_nothing_is_lost(kind: str, spool: Spool) -> None:
    (spool.root / "out").symlink_to("/tmp") if kind == "link" else (spool.root / "out").write_bytes(b"")
    with spool.folders() as folders:
        commit(folders, make(spool, folders, {"a.txt": b"text"}))
        move_to_done(DISK, folders, PARCEL, PATH)
        remove_if_empty(DISK, folders, PARCEL)

        with pytest.raises(OSError, match="out/ can't be opened"):
            list(finish_outputs(DISK, folders, PARCEL))

        (spool.root / "out").unlink()
        finish(folders)
    assert out(spool) == {"x/a.txt": b"text"}


def test_unreadable_folders_are_opened_up_before_outputs_are_committed() -> None:
    """An unpacked archive may have folders of any mode. To root all are readable, so that this runs as nobody then."""
    root = Path(tempfile.mkdtemp(prefix="inboxd-outputs-"))
    root.chmod(0o777)
    try:
        if os.geteuid():
            _deliver_from_closed_folders(root / "drop")
            return
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                _deliver_from_closed_folders(root / "drop")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        shutil.rmtree(root)


def _deliver_from_closed_folders(root: Path) -> None:
    spool = Spool.make(root)
    spool.put(P + PATH, b"source")
    with spool.folders() as folders:
        run = make(spool, folders, {"a/b/c": b"x", "r/d": b"y"})
        place = spool.where(P + run)
        (place / "a/b/c").chmod(0)
        for folder, mode in (("a/b", 0), ("a", 0), ("r", 0o555)):
            (place / folder).chmod(mode)
        assert commit(folders, run)
        move_to_done(DISK, folders, PARCEL, PATH)
        finish(folders)
    assert out(spool) == {"x/a/b/c": b"x", "x/r/d": b"y"}
