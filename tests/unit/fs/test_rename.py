"""Moves that never overwrite, on each kind of disk, and the creation and opening of folders."""

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.descriptors import open_descriptors
from support.disk.disks import LinkingDisk, RacingDisk, RefusingDisk, TwoDisks

from inboxd.fs.folders import DirHandle, make_path, open_path
from inboxd.fs.rename import move, move_to_free_name
from inboxd.fs.syscalls import Disk, Fd, Stat, WriterCheck, ignore_lease_breaks

DISKS = [Disk(), LinkingDisk(), TwoDisks()]
RENAMING_DISKS = [Disk(), LinkingDisk()]


def disk_name(disk: Disk) -> str:
    return type(disk).__name__


@dataclass
class MoveFolders:
    """The folder to move from and the folder to move to: their paths and open descriptors."""

    src: Path
    dst: Path
    src_at: Fd
    dst_at: Fd


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[MoveFolders]:
    """Make a folder to move from, and one to move to."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.mkdir()
    dst.mkdir()
    src_at, dst_at = (os.open(folder, os.O_RDONLY) for folder in (src, dst))
    yield MoveFolders(src, dst, src_at, dst_at)
    os.close(src_at)
    os.close(dst_at)


@pytest.mark.parametrize("disk", DISKS, ids=disk_name)
def test_a_move_preserves_content_and_mtime(disk: Disk, folders: MoveFolders) -> None:
    (folders.src / "f").write_bytes(b"content")
    os.utime(folders.src / "f", ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))

    move(disk, folders.src_at, b"f", folders.dst_at, b"g")

    assert list(folders.src.iterdir()) == []
    assert {path.name: path.read_bytes() for path in folders.dst.iterdir()} == {"g": b"content"}
    assert (folders.dst / "g").stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert (folders.dst / "g").stat().st_nlink == 1


@pytest.mark.parametrize("disk", DISKS, ids=disk_name)
def test_a_move_to_a_taken_name_raises_and_overwrites_nothing(disk: Disk, folders: MoveFolders) -> None:
    (folders.src / "f").write_bytes(b"new")
    (folders.dst / "f").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        move(disk, folders.src_at, b"f", folders.dst_at, b"f")

    assert (folders.src / "f").read_bytes() == b"new"
    assert {path.name: path.read_bytes() for path in folders.dst.iterdir()} == {"f": b"old"}


@pytest.mark.parametrize("disk", DISKS, ids=disk_name)
@pytest.mark.parametrize("kind", ["folder", "link", "broken link"])
def test_a_folder_or_symlink_is_not_overwritten(disk: Disk, kind: str, folders: MoveFolders) -> None:
    (folders.src / "f").write_bytes(b"new")
    occupant = folders.dst / "f"
    occupant.mkdir() if kind == "folder" else occupant.symlink_to("/" if kind == "link" else "/nowhere")

    name = move_to_free_name(disk, folders.src_at, b"f", folders.dst_at, b"f")

    assert name == b"f (2)"
    assert occupant.is_dir() if kind == "folder" else occupant.is_symlink()


@pytest.mark.parametrize("disk", DISKS, ids=disk_name)
def test_moving_a_missing_file_raises(disk: Disk, folders: MoveFolders) -> None:
    (folders.dst / "f").write_bytes(b"old")

    with pytest.raises(FileNotFoundError):
        move(disk, folders.src_at, b"f", folders.dst_at, b"f")

    assert (folders.dst / "f").read_bytes() == b"old"


@pytest.mark.parametrize("disk", DISKS, ids=disk_name)
def test_a_file_gets_the_next_free_name(disk: Disk, folders: MoveFolders) -> None:
    for name in ("f.txt", "f (2).txt", "f (3).txt"):
        (folders.dst / name).write_bytes(b"old")
    (folders.src / "f.txt").write_bytes(b"new")

    name = move_to_free_name(disk, folders.src_at, b"f.txt", folders.dst_at, b"f.txt")

    assert name == b"f (4).txt"
    assert (folders.dst / "f (4).txt").read_bytes() == b"new"


@pytest.mark.parametrize("disk", RENAMING_DISKS, ids=disk_name)
@pytest.mark.parametrize("kind", ["link", "fifo", "socket", "folder"])
def test_non_files_are_renamed(disk: Disk, kind: str, folders: MoveFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders.src)
    if kind == "link":
        Path("x").symlink_to("/nowhere")
    elif kind == "fifo":
        os.mkfifo("x")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("x")
    else:
        Path("x/y").mkdir(parents=True)
    before = os.lstat("x")

    move(disk, folders.src_at, b"x", folders.dst_at, b"x")

    assert list(folders.src.iterdir()) == []
    assert os.path.samestat(before, os.lstat(folders.dst / "x"))


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_non_files_are_not_copied_to_another_file_system(kind: str, folders: MoveFolders) -> None:
    x = folders.src / "x"
    os.mkfifo(x) if kind == "fifo" else x.mkdir()

    with pytest.raises(OSError, match=r"another file system|symbolic links"):
        move(TwoDisks(), folders.src_at, b"x", folders.dst_at, b"x")

    assert os.path.lexists(x)
    assert list(folders.dst.iterdir()) == []


def test_a_link_is_made_again_on_another_file_system(folders: MoveFolders) -> None:
    (folders.src / "x").symlink_to("/etc/passwd")

    move(TwoDisks(), folders.src_at, b"x", folders.dst_at, b"x")

    assert list(folders.src.iterdir()) == []
    assert os.readlink(folders.dst / "x") == "/etc/passwd"  # noqa: PTH115


def test_a_name_that_is_taken_by_a_thousand_files_is_passed_in_few_steps(folders: MoveFolders) -> None:
    class CountingDisk(Disk):
        calls = 0

        def stat(self, at: Fd, name: bytes) -> Stat:
            self.calls += 1
            return super().stat(at, name)

        def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
            self.calls += 1
            super().rename(src_at, src, dst_at, dst)

    for number in range(1, 1001):
        (folders.dst / ("a.pdf" if number == 1 else f"a ({number}).pdf")).touch()
    (folders.src / "a.pdf").touch()
    disk = CountingDisk()

    assert move_to_free_name(disk, folders.src_at, b"a.pdf", folders.dst_at, b"a.pdf") == b"a (1001).pdf"
    assert disk.calls < 30


def test_a_file_that_another_process_copies_is_not_moved(folders: MoveFolders) -> None:
    (folders.src / "f").write_bytes(b"content")
    rival = Disk()
    file = rival.open_file(folders.src_at, b"f")
    assert rival.lock(file)

    with pytest.raises(BlockingIOError):
        move(TwoDisks(), folders.src_at, b"f", folders.dst_at, b"f")

    rival.close(file)
    assert (folders.src / "f").read_bytes() == b"content"
    assert list(folders.dst.iterdir()) == []


def test_a_copy_that_differs_from_its_source_is_removed(folders: MoveFolders) -> None:
    class CorruptingDisk(TwoDisks):
        def write(self, fd: Fd, data: bytes) -> None:
            super().write(fd, data.replace(b"c", b"C"))

    (folders.src / "f").write_bytes(b"content")

    with pytest.raises(OSError, match="differs"):
        move(CorruptingDisk(), folders.src_at, b"f", folders.dst_at, b"f")

    assert (folders.src / "f").read_bytes() == b"content"
    assert list(folders.dst.iterdir()) == []


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b", and more")


def open_for_writing(path: Path) -> None:
    """Open like a program that does not wait for the holder of a lease, who is notified."""
    with contextlib.suppress(BlockingIOError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def without_lease_signals() -> Iterator[None]:
    """Ignore SIGIO, as all programs do that hold leases."""
    before = signal.getsignal(signal.SIGIO)
    ignore_lease_breaks()
    yield
    signal.signal(signal.SIGIO, before)


@pytest.mark.usefixtures("without_lease_signals")
@pytest.mark.parametrize(("write", "shows_writers"), [(append, False), (open_for_writing, True)])
@pytest.mark.parametrize("operation", ["read", "link", "fsync"])
def test_a_file_that_is_written_to_while_it_is_copied_stays_without_a_copy(
    operation: str, write: Callable[[Path], None], shows_writers: bool, folders: MoveFolders
) -> None:
    source = folders.src / "f"
    source.write_bytes(b"content")

    class WatchedDisk(TwoDisks):
        def hold_lease(self, fd: Fd) -> WriterCheck:
            return super().hold_lease(fd) if shows_writers else WriterCheck.UNKNOWN

    disk = RacingDisk(WatchedDisk(), lambda: write(source), only=operation)
    with pytest.raises(BlockingIOError, match="while it was copied"):
        move(disk, folders.src_at, b"f", folders.dst_at, b"f")

    assert source.read_bytes() == (b"content" if shows_writers else b"content, and more")
    assert list(folders.dst.iterdir()) == []


def test_a_file_that_is_open_for_writing_is_not_copied(folders: MoveFolders) -> None:
    with (folders.src / "f").open("wb"), pytest.raises(BlockingIOError, match="open for writing"):
        move(TwoDisks(), folders.src_at, b"f", folders.dst_at, b"f")

    assert list(folders.dst.iterdir()) == []


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_copy_whose_source_can_not_be_removed_is_undone(attempts: int, folders: MoveFolders) -> None:
    (folders.src / "f").write_bytes(b"content")

    for _ in range(attempts):
        with pytest.raises(OSError, match="refused"):
            move(SourceKeepingDisk(folders.src_at), folders.src_at, b"f", folders.dst_at, b"f")

    assert (folders.src / "f").read_bytes() == b"content"
    assert list(folders.dst.iterdir()) == []


class SourceKeepingDisk(TwoDisks):
    """A read-only source folder next to a writable destination."""

    def __init__(self, source: Fd) -> None:
        self._source = source

    def unlink(self, at: Fd, name: bytes) -> None:
        if at == self._source:
            raise OSError(errno.EROFS, "refused")
        super().unlink(at, name)


def test_a_full_disk_leaves_no_incomplete_copy(folders: MoveFolders) -> None:
    class FullDisk(TwoDisks):
        def write(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "full")

    (folders.src / "f").write_bytes(b"content")

    with pytest.raises(OSError, match="full"):
        move(FullDisk(), folders.src_at, b"f", folders.dst_at, b"f")

    assert list(folders.dst.iterdir()) == []


def test_missing_folders_are_created(folders: MoveFolders) -> None:
    (folders.dst / "x").mkdir()

    folder, path = make_path(Disk(), folders.dst_at, (b"x", b"y", b"\xff"), 0o777)

    os.close(folder)
    assert path == (b"x", b"y", b"\xff")
    assert (folders.dst / "x" / "y" / os.fsdecode(b"\xff")).is_dir()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_whose_name_is_taken_gets_the_next_free_name(kind: str, folders: MoveFolders) -> None:
    (folders.dst / "x").write_bytes(b"old") if kind == "file" else (folders.dst / "x").symlink_to(folders.src)

    folder, path = make_path(Disk(), folders.dst_at, (b"x", b"y"), 0o777)

    os.close(folder)
    assert path == (b"x (2)", b"y")
    assert (folders.dst / "x (2)" / "y").is_dir()
    assert list(folders.src.iterdir()) == []


def test_an_empty_path_opens_the_folder_itself(folders: MoveFolders) -> None:
    folder, path = make_path(Disk(), folders.dst_at, (), 0o777)

    assert os.path.samestat(os.fstat(folder), os.fstat(folders.dst_at))
    assert path == ()
    os.close(folder)


@pytest.mark.parametrize("parts", [(b"link",), (b"x", b"link"), (b"x", b"file")])
def test_a_path_through_a_symlink_or_a_file_is_not_opened(parts: tuple[bytes, ...], folders: MoveFolders) -> None:
    (folders.dst / "x").mkdir()
    (folders.dst / "x" / "file").write_bytes(b"")
    for parent in (folders.dst, folders.dst / "x"):
        (parent / "link").symlink_to(folders.src)

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        open_path(Disk(), folders.dst_at, parts)


def test_no_descriptor_is_left_open_when_a_folder_can_not_be_created(folders: MoveFolders) -> None:
    open_before = open_descriptors()

    with pytest.raises(OSError, match="refused"):
        make_path(RefusingDisk("mkdir", b"z", errno.ENOSPC), folders.dst_at, (b"x", b"y", b"z"), 0o777)

    assert open_descriptors() == open_before


def test_a_handle_keeps_one_folder_open_and_closes_it_at_the_end(folders: MoveFolders) -> None:
    open_before = open_descriptors()
    with DirHandle(Disk(), folders.dst_at, 0o777) as handle:
        fds = [handle.open(parts)[0] for parts in ((), (b"x",), (b"x",), (b"x", b"y"), ())]
        _, path = handle.open((b"x",))

    assert fds[0] == fds[4] == folders.dst_at
    assert fds[1] == fds[2]
    assert path == (b"x",)
    assert open_descriptors() == open_before


def test_a_handle_without_a_mode_raises_for_a_missing_folder_and_stays_usable(folders: MoveFolders) -> None:
    with DirHandle(Disk(), folders.dst_at) as handle:
        with pytest.raises(FileNotFoundError):
            handle.open((b"x",))

        assert handle.open(())[0] == folders.dst_at
