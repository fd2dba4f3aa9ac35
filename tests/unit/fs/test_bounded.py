"""Calls on mounts that may hang: nobody waits for longer than agreed, and a slow call is not taken for a hung mount."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from support.waiting import eventually

from inboxd.errors import FolderUnavailable
from inboxd.fs import bounded
from inboxd.fs.bounded import foreign_mount, run_bounded, run_detached, run_on_mounts
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk, Fd


class AnsweringDisk(Disk):
    """A disk whose mounts answer while ``answers`` is set."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def open_root(self, path: PurePath) -> Fd:
        self.answers.wait()
        raise FileNotFoundError(str(path))

    def close(self, fd: Fd) -> None:
        """Do nothing."""


@pytest.fixture
def where(request: pytest.FixtureRequest) -> Mount:
    return Mount(7, "nfs4", f"/mnt/{request.node.name}")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringDisk]:
    monkeypatch.setattr(bounded, "PROBE_SECONDS", 0.05)
    made = AnsweringDisk()
    yield made
    made.answers.set()


def test_a_call_returns_its_value_or_raises_its_error(disk: AnsweringDisk, where: Mount) -> None:
    assert run_bounded(disk, where, lambda: 7, 5.0) == 7
    with pytest.raises(ZeroDivisionError):
        run_bounded(disk, where, lambda: 1 // 0, 5.0)


def test_a_call_that_hangs_is_left_and_the_next_ones_fail_until_the_mount_answers(disk: AnsweringDisk, where: Mount) -> None:
    release = threading.Event()
    with pytest.raises(FolderUnavailable, match="does not answer within"):
        run_bounded(disk, where, release.wait, 0.05)
    time.sleep(0.05)

    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(FolderUnavailable, match="does not answer"):
            run_bounded(disk, where, lambda: None, 0.05)
        assert time.monotonic() - started < 1.0

    disk.answers.set()
    eventually(lambda: _is_working(disk, where))
    release.set()


def _is_working(disk: Disk, where: Mount) -> bool:
    try:
        return run_bounded(disk, where, lambda: 8, 5.0) == 8
    except FolderUnavailable:
        return False


def test_a_long_call_on_a_mount_that_answers_holds_up_no_other(disk: AnsweringDisk, where: Mount) -> None:
    disk.answers.set()
    release, ended = threading.Event(), threading.Event()

    run_detached(disk, where, lambda: (release.wait(), ended.set()), 0.05, hung_seconds=0.1)
    time.sleep(0.2)
    run_detached(disk, where, lambda: None, 5.0, hung_seconds=0.1)

    release.set()
    assert ended.wait(5.0)


def test_a_detached_call_on_a_hung_mount_fails_after_a_longer_time(disk: AnsweringDisk, where: Mount) -> None:
    release = threading.Event()
    run_detached(disk, where, release.wait, 0.05, hung_seconds=0.3)
    run_detached(disk, where, lambda: None, 0.05, hung_seconds=0.3)  # the first one is slow, but not hung
    time.sleep(0.3)

    with pytest.raises(FolderUnavailable):
        run_detached(disk, where, lambda: None, 0.05, hung_seconds=0.3)

    release.set()


def test_a_detached_call_raises_what_it_raises_in_time(disk: AnsweringDisk, where: Mount) -> None:
    with pytest.raises(ZeroDivisionError):
        run_detached(disk, where, lambda: 1 // 0, 5.0, hung_seconds=1.0)


def test_a_child_process_does_not_inherit_a_hung_call(disk: AnsweringDisk, where: Mount) -> None:
    """A thread does not survive a fork: a worker that starts while a mount hangs must use the mount once it answers."""
    release = threading.Event()
    with pytest.raises(FolderUnavailable):
        run_bounded(disk, where, release.wait, 0.05)
    time.sleep(0.05)

    if (child := os.fork()) == 0:
        os._exit(0 if _is_working(disk, where) else 1)
    _, status = os.waitpid(child, 0)

    release.set()
    assert status == 0


def test_a_refused_thread_is_an_unavailable_folder(disk: AnsweringDisk, where: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(FolderUnavailable, match="can't start new thread"):
            run_bounded(disk, where, lambda: None, 1.0)

    assert run_bounded(disk, where, lambda: 9, 5.0) == 9


class MountTable(Disk):
    """A disk with a mount table of its own."""

    def __init__(self, *mounts: tuple[str, str]) -> None:
        self._mounts = mounts

    def read_text(self, path: PurePath) -> str:
        assert path.name == "mountinfo"
        return "".join(f"{number} 1 0:1 / {point} rw - {kind} x rw\n" for number, (point, kind) in enumerate(self._mounts, 10))


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ([("/", "ext4")], ""),
        ([("/", "ext4"), ("/srv", "nfs4")], "/srv"),
        ([("/", "ext4"), ("/srv/drop/inbox/scans", "fuse.sshfs")], "/srv/drop/inbox/scans"),
        ([("/", "ext4"), ("/srv/drop/inbox/usb", "xfs")], ""),
        ([("/", "ext4"), ("/srv/drop2", "nfs4")], ""),
        ([("/", "nfs4"), ("/srv", "xfs")], ""),
        ([("/", "ext4"), ("/srv", "nfs4"), ("/srv", "xfs")], ""),
        ([], ""),
    ],
)
def test_a_network_or_fuse_mount_of_an_inbox_is_found_without_touching_it(
    mounts: list[tuple[str, str]], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "_table", bounded._MountTable())  # noqa: SLF001 - as in a new process

    mount = foreign_mount(MountTable(*mounts), PurePath("/srv/drop"))

    assert (mount.point if mount else "") == found


def test_a_root_that_is_a_link_is_on_the_mount_that_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "_table", bounded._MountTable())  # noqa: SLF001 - as in a new process
    (tmp_path / "nas").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nas")

    mount = foreign_mount(MountTable(("/", "ext4"), (str(tmp_path / "nas"), "cifs")), PurePath(tmp_path / "link"))

    assert mount is not None
    assert mount.file_system == "cifs"


def test_on_local_mounts_no_thread_is_used(tmp_path: Path) -> None:
    assert run_on_mounts(Disk(), PurePath(tmp_path), threading.get_ident, 1.0) == threading.get_ident()
