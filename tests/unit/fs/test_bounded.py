"""Calls on mounts that may hang: nobody waits for longer than agreed, and one thread at most hangs per place and caller."""

import threading
import time
from pathlib import Path, PurePath

import pytest

from inboxd.errors import FolderUnavailable
from inboxd.fs import bounded
from inboxd.fs.bounded import foreign_mount, run_bounded, run_detached, run_on_mounts
from inboxd.fs.syscalls import Disk


@pytest.fixture
def where(request: pytest.FixtureRequest) -> str:
    return f"/mnt/{request.node.name}"


def test_a_call_returns_its_value_or_raises_its_error(where: str) -> None:
    assert run_bounded(where, lambda: 7, 5.0) == 7
    with pytest.raises(ZeroDivisionError):
        run_bounded(where, lambda: 1 // 0, 5.0)


def test_a_call_that_hangs_is_left_and_the_next_ones_fail_at_once_until_it_ends(where: str) -> None:
    release = threading.Event()
    with pytest.raises(FolderUnavailable, match="does not answer"):
        run_bounded(where, release.wait, 0.05)

    started = time.monotonic()
    with pytest.raises(FolderUnavailable, match="does not answer"):
        run_bounded(where, lambda: None, 0.05)
    assert time.monotonic() - started < 0.05

    release.set()
    while True:
        try:
            assert run_bounded(where, lambda: 8, 0.05) == 8
        except FolderUnavailable:
            continue
        break


def test_a_detached_call_goes_on_and_counts_as_hung_only_after_a_longer_time(where: str) -> None:
    release, ended = threading.Event(), threading.Event()

    run_detached(where, lambda: (release.wait(), ended.set()), 0.05, hung_seconds=0.3)
    run_detached(where, lambda: None, 0.05, hung_seconds=0.3)  # the first one is slow, but not hung
    time.sleep(0.3)
    with pytest.raises(FolderUnavailable):
        run_detached(where, lambda: None, 0.05, hung_seconds=0.3)

    release.set()
    assert ended.wait(5.0)


def test_a_detached_call_raises_what_it_raises_in_time(where: str) -> None:
    with pytest.raises(ZeroDivisionError):
        run_detached(where, lambda: 1 // 0, 5.0, hung_seconds=1.0)


def test_a_refused_thread_is_an_unavailable_folder(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(FolderUnavailable, match="can't start new thread"):
            run_bounded(where, lambda: None, 1.0)

    assert run_bounded(where, lambda: 9, 5.0) == 9


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

    assert foreign_mount(MountTable(*mounts), PurePath("/srv/drop")) == found


def test_on_local_mounts_no_thread_is_used(tmp_path: Path) -> None:
    assert run_on_mounts(Disk(), PurePath(tmp_path), threading.get_ident, 1.0) == threading.get_ident()
