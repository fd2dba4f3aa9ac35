"""Moving one entry without ever overwriting, and the free names that it gets."""

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.descriptors import open_descriptors
from support.disk.disks import LinkingDisk, RefusingDisk, TwoDisks

from inboxd.fs.folders import DirHandle, make_path, open_path
from inboxd.fs.rename import move, move_to_free_name
from inboxd.fs.syscalls import Disk, Fd

DISKS = [Disk(), LinkingDisk(), TwoDisks()]
NOT_COPYING = [Disk(), LinkingDisk()]


def kind(disk: Disk) -> str:
    return type(disk).__name__


@dataclass
class Two:
    """Two open folders, and where they are."""

    a: Path
    b: Path
    at: Fd
    to: Fd


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Make a folder to move from, and one to move to."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    at, to = (os.open(folder, os.O_RDONLY) for folder in (a, b))
    yield Two(a, b, at, to)
    os.close(at)
    os.close(to)


@pytest.mark.parametrize("disk", DISKS, ids=kind)
def test_a_file_is_moved_with_its_bytes_and_its_time(disk: Disk, two: Two) -> None:
    (two.a / "f").write_bytes(b"content")
    os.utime(two.a / "f", ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))

    move(disk, two.at, b"f", two.to, b"g")

    assert list(two.a.iterdir()) == []
    assert {place.name: place.read_bytes() for place in two.b.iterdir()} == {"g": b"content"}
    assert (two.b / "g").stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert (two.b / "g").stat().st_nlink == 1


@pytest.mark.parametrize("disk", DISKS, ids=kind)
def test_a_name_that_is_taken_is_never_overwritten(disk: Disk, two: Two) -> None:
    (two.a / "f").write_bytes(b"new")
    (two.b / "f").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        move(disk, two.at, b"f", two.to, b"f")

    assert (two.a / "f").read_bytes() == b"new"
    assert {place.name: place.read_bytes() for place in two.b.iterdir()} == {"f": b"old"}


@pytest.mark.parametrize("disk", DISKS, ids=kind)
@pytest.mark.parametrize("what", ["folder", "link", "broken link"])
def test_a_name_that_something_else_has_is_not_overwritten_either(disk: Disk, what: str, two: Two) -> None:
    (two.a / "f").write_bytes(b"new")
    taken = two.b / "f"
    taken.mkdir() if what == "folder" else taken.symlink_to("/" if what == "link" else "/nowhere")

    name = move_to_free_name(disk, two.at, b"f", two.to, b"f")

    assert name == b"f (2)"
    assert taken.is_dir() if what == "folder" else taken.is_symlink()


@pytest.mark.parametrize("disk", DISKS, ids=kind)
def test_a_file_that_is_gone_is_somebody_elses(disk: Disk, two: Two) -> None:
    (two.b / "f").write_bytes(b"old")

    with pytest.raises(FileNotFoundError):
        move(disk, two.at, b"f", two.to, b"f")

    assert (two.b / "f").read_bytes() == b"old"


@pytest.mark.parametrize("disk", DISKS, ids=kind)
def test_the_next_free_name_is_taken(disk: Disk, two: Two) -> None:
    for name in ("f.txt", "f (2).txt", "f (3).txt"):
        (two.b / name).write_bytes(b"old")
    (two.a / "f.txt").write_bytes(b"new")

    name = move_to_free_name(disk, two.at, b"f.txt", two.to, b"f.txt")

    assert name == b"f (4).txt"
    assert (two.b / "f (4).txt").read_bytes() == b"new"


@pytest.mark.parametrize("disk", NOT_COPYING, ids=kind)
@pytest.mark.parametrize("what", ["link", "fifo", "socket", "folder"])
def test_what_is_no_file_is_moved_as_it_is(disk: Disk, what: str, two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(two.a)
    if what == "link":
        Path("x").symlink_to("/nowhere")
    elif what == "fifo":
        os.mkfifo("x")
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("x")
    else:
        Path("x/y").mkdir(parents=True)
    before = os.lstat("x")

    move(disk, two.at, b"x", two.to, b"x")

    assert list(two.a.iterdir()) == []
    assert os.path.samestat(before, os.lstat(two.b / "x"))


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_what_is_no_file_stays_where_it_is_when_its_way_leads_to_another_file_system(what: str, two: Two) -> None:
    x = two.a / "x"
    x.symlink_to("/etc/passwd") if what == "link" else os.mkfifo(x) if what == "fifo" else x.mkdir()

    with pytest.raises(OSError, match=r"another file system|symbolic links"):
        move(TwoDisks(), two.at, b"x", two.to, b"x")

    assert os.path.lexists(x)
    assert list(two.b.iterdir()) == []


def test_a_file_that_somebody_is_copying_is_left_to_him(two: Two) -> None:
    (two.a / "f").write_bytes(b"content")
    rival = Disk()
    file = rival.open_file(two.at, b"f")
    assert rival.lock(file)

    with pytest.raises(BlockingIOError):
        move(TwoDisks(), two.at, b"f", two.to, b"f")

    rival.close(file)
    assert (two.a / "f").read_bytes() == b"content"
    assert list(two.b.iterdir()) == []


def test_a_copy_that_differs_from_its_source_is_thrown_away(two: Two) -> None:
    class Lying(TwoDisks):
        def write(self, fd: Fd, data: bytes) -> None:
            super().write(fd, data.replace(b"c", b"C"))

    (two.a / "f").write_bytes(b"content")

    with pytest.raises(OSError, match="differs"):
        move(Lying(), two.at, b"f", two.to, b"f")

    assert (two.a / "f").read_bytes() == b"content"
    assert list(two.b.iterdir()) == []


def test_a_disk_that_is_full_leaves_no_half_copy(two: Two) -> None:
    class Full(TwoDisks):
        def write(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "full")

    (two.a / "f").write_bytes(b"content")

    with pytest.raises(OSError, match="full"):
        move(Full(), two.at, b"f", two.to, b"f")

    assert list(two.b.iterdir()) == []


def test_folders_are_made_as_far_as_they_are_missing(two: Two) -> None:
    (two.b / "x").mkdir()

    folder, made = make_path(Disk(), two.to, (b"x", b"y", b"\xff"), 0o777)

    os.close(folder)
    assert made == (b"x", b"y", b"\xff")
    assert (two.b / "x" / "y" / os.fsdecode(b"\xff")).is_dir()
    assert made == (b"x", b"y", b"\xff")


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_folder_whose_name_is_taken_gets_another_one(what: str, two: Two) -> None:
    (two.b / "x").write_bytes(b"old") if what == "file" else (two.b / "x").symlink_to(two.a)

    folder, made = make_path(Disk(), two.to, (b"x", b"y"), 0o777)

    os.close(folder)
    assert made == (b"x (2)", b"y")
    assert (two.b / "x (2)" / "y").is_dir()
    assert list(two.a.iterdir()) == []


def test_no_folders_to_make_opens_the_folder_itself(two: Two) -> None:
    folder, made = make_path(Disk(), two.to, (), 0o777)

    assert os.path.samestat(os.fstat(folder), os.fstat(two.to))
    assert made == ()
    os.close(folder)


@pytest.mark.parametrize("parts", [(b"link",), (b"x", b"link"), (b"x", b"file")])
def test_a_path_is_not_opened_through_a_link_or_a_file(parts: tuple[bytes, ...], two: Two) -> None:
    (two.b / "x").mkdir()
    (two.b / "x" / "file").write_bytes(b"")
    for place in (two.b, two.b / "x"):
        (place / "link").symlink_to(two.a)

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        open_path(Disk(), two.to, parts)


def test_no_descriptor_is_left_open_when_a_folder_can_not_be_made(two: Two) -> None:
    open_before = open_descriptors()

    with pytest.raises(OSError, match="refused"):
        make_path(RefusingDisk("mkdir", b"z", errno.ENOSPC), two.to, (b"x", b"y", b"z"), 0o777)

    assert open_descriptors() == open_before


def test_a_branch_keeps_one_folder_open_and_leaves_none(two: Two) -> None:
    before = open_descriptors()
    with DirHandle(Disk(), two.to, 0o777) as branch:
        made = [branch.open(parts)[0] for parts in ((), (b"x",), (b"x",), (b"x", b"y"), ())]
        again = branch.open((b"x",))

    assert made[0] == made[4] == two.to
    assert made[1] == made[2]
    assert again[1] == (b"x",)
    assert open_descriptors() == before


def test_a_branch_that_may_make_nothing_misses_what_is_not_there_and_can_be_asked_again(two: Two) -> None:
    with DirHandle(Disk(), two.to) as branch:
        with pytest.raises(FileNotFoundError):
            branch.open((b"x",))

        assert branch.open(())[0] == two.to
