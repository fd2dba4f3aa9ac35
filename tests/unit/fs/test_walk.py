"""Tree walks: of any depth and breadth, without following symlinks or leaving the tree."""

import errno
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.crash.fuse import Fuse
from support.descriptors import open_descriptors
from support.disk.deep_trees import LEVELS, deep_tree
from support.disk.disks import RefusingDisk

from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.fs.walk import Entry, walk


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Make an empty folder."""
    folder = tmp_path / "top"
    folder.mkdir()
    return folder


@pytest.fixture
def at(top: Path) -> Iterator[Fd]:
    """Open the folder ``top``."""
    with closing(Disk(), Disk().open_root(top)) as folder:
        yield folder


def put(top: Path, *paths: bytes) -> None:
    for path in paths:
        file = top / os.fsdecode(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path)


def list_entries(at: Fd, disk: Disk | None = None, enter: Callable[[Entry], bool] = lambda _: True) -> list[tuple[bytes, bool]]:
    return [(entry.path, entry.is_folder) for entry in walk(disk or Disk(), at, enter)]


def test_every_entry_is_yielded_once(top: Path, at: Fd) -> None:
    put(top, b"a", b"x/b", b"x/y/c", b"\xff/\n")
    (top / "empty").mkdir()

    entries = list_entries(at)

    assert sorted(entries) == sorted([
        (b"a", False), (b"x/b", False), (b"x/y/c", False), (b"\xff/\n", False),
        (b"x", True), (b"x/y", True), (b"\xff", True), (b"empty", True),
    ])  # fmt: skip


def test_a_folder_is_yielded_after_its_contents(top: Path, at: Fd) -> None:
    put(top, b"x/a", b"x/y/b", b"x/z/c")

    paths = [path for path, _ in list_entries(at)]

    assert paths.index(b"x") == len(paths) - 1
    assert paths.index(b"x/y/b") < paths.index(b"x/y")


def test_an_entry_is_accessible_through_its_open_folder(top: Path, at: Fd) -> None:
    put(top, b"x/a", b"x/y/b")

    sizes = {entry.path: Disk().stat(entry.at, entry.name).size for entry in walk(Disk(), at) if not entry.is_folder}

    assert sizes == {b"x/a": 3, b"x/y/b": 5}


def test_yielded_entries_can_be_removed_during_the_walk(top: Path, at: Fd) -> None:
    put(top, *[b"%d/%d/%d" % (first, second, third) for first in range(3) for second in range(3) for third in range(3)])

    for entry in walk(Disk(), at):
        (Disk().rmdir if entry.is_folder else Disk().unlink)(entry.at, entry.name)

    assert list(top.iterdir()) == []


def test_symlinks_are_yielded_and_not_followed(top: Path, at: Fd) -> None:
    (top / "link").symlink_to("/etc")

    assert list_entries(at) == [(b"link", False)]


def test_a_folder_that_enter_rejects_is_yielded_without_its_contents(top: Path, at: Fd) -> None:
    put(top, b"x/a", b"y/b")

    entries = list_entries(at, enter=lambda folder: folder.name != b"x")

    assert sorted(entries) == [(b"x", True), (b"y", True), (b"y/b", False)]


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT, errno.ELOOP], ids=errno.errorcode.get)
def test_a_folder_that_can_not_be_opened_does_not_end_the_walk(code: int, top: Path, at: Fd) -> None:
    put(top, b"x/a", b"y/b")

    entries = list_entries(at, RefusingDisk("open_folder", b"x", code))

    assert sorted(entries) == [(b"x", True), (b"y", True), (b"y/b", False)]


def test_an_io_error_in_a_folder_is_raised(top: Path, at: Fd) -> None:
    put(top, b"x/a")

    with pytest.raises(OSError, match="refused"):
        list_entries(at, RefusingDisk("open_folder", b"x", errno.EIO))


def test_a_folder_that_is_moved_out_does_not_lead_the_walk_out_of_the_tree(top: Path, at: Fd, tmp_path: Path) -> None:
    put(top, b"x/y/a", b"z/b")
    put(tmp_path, b"elsewhere/unrelated")
    paths = []

    for entry in walk(Disk(), at):
        paths.append(entry.path)
        if entry.path == b"x/y/a":
            (top / "x" / "y").rename(tmp_path / "elsewhere" / "y")

    assert set(paths) <= {b"x/y/a", b"x/y", b"x", b"z/b", b"z"}


def test_a_tree_of_3000_levels_takes_a_few_operations_per_level(top: Path, at: Fd) -> None:
    with deep_tree(top) as deep_path:
        paths = [path for path, _ in list_entries(at, Fuse(Disk(), 20 * LEVELS))]

    assert paths[0] == deep_path
    assert len(paths) == LEVELS + 1


def test_long_names_in_a_deep_tree_need_little_memory(top: Path, at: Fd) -> None:
    tracemalloc.start()
    with deep_tree(top, levels=1000, name="n" * 255):
        count = sum(1 for _ in walk(Disk(), at))
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 1001
    assert peak < 16 * 1024 * 1024


def test_a_walk_that_is_closed_early_leaves_no_descriptor_open(top: Path, at: Fd) -> None:
    put(top, b"x/y/a")
    open_before = open_descriptors()

    entries = walk(Disk(), at)
    next(entries)
    entries.close()
    list_entries(at)

    assert open_descriptors() == open_before
