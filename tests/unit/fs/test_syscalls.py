"""The file system calls on a real disk: they follow no symlink, block on no FIFO, and overwrite nothing."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd.fs.syscalls import Disk, Fd, FileKind, WriterCheck, closing, ignore_lease_breaks

ODD_NAME = b"\xff\n \xc3\xa4"


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fd]:
    """Open an empty folder, and make it the current folder."""
    monkeypatch.chdir(tmp_path)
    with closing(Disk(), Disk().open_root(tmp_path)) as folder:
        yield folder


def test_entry_names_are_bytes_and_a_symlink_is_no_folder(at: Fd) -> None:
    Path(os.fsdecode(ODD_NAME)).write_bytes(b"")
    Path("folder").mkdir()
    Path("link").symlink_to("folder")

    assert dict(Disk().entries(at)) == {ODD_NAME: False, b"folder": True, b"link": False}


def test_entries_can_be_listed_twice(at: Fd) -> None:
    Path("a").write_bytes(b"")

    assert [list(Disk().entries(at)) for _ in range(2)] == [[(b"a", False)]] * 2


def test_stat_returns_the_kind_of_the_entry_itself(at: Fd) -> None:
    Path("file").write_bytes(b"12345")
    Path("folder").mkdir()
    Path("link").symlink_to("file")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server, closing(Disk(), Disk().open_root(Path("/dev"))) as devices:
        server.bind("socket")
        kinds = {name: Disk().stat(at, name).kind for name in (b"file", b"folder", b"link", b"pipe", b"socket")}
        device = Disk().stat(devices, b"null").kind

    assert kinds == {
        b"file": FileKind.FILE, b"folder": FileKind.FOLDER, b"link": FileKind.LINK, b"pipe": FileKind.FIFO,
        b"socket": FileKind.SOCKET,
    }  # fmt: skip
    assert device is FileKind.DEVICE
    assert Disk().stat(at, b"file").size == 5


def test_a_rename_never_overwrites(at: Fd) -> None:
    Path("a").write_bytes(b"new")
    Path("b").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        Disk().rename(at, b"a", at, b"b")
    with pytest.raises(FileNotFoundError):
        Disk().rename(at, b"missing", at, b"b")
    Disk().rename(at, b"a", at, ODD_NAME)

    assert {name: Path(os.fsdecode(name)).read_bytes() for name, _ in Disk().entries(at)} == {b"b": b"old", ODD_NAME: b"new"}


def test_a_rename_onto_a_hard_link_of_the_same_file_raises(at: Fd) -> None:
    """A plain rename would succeed and leave both names."""
    Path("a").write_bytes(b"")
    Path("b").hardlink_to("a")

    with pytest.raises(FileExistsError):
        Disk().rename(at, b"a", at, b"b")


def test_open_file_does_not_follow_a_symlink(at: Fd) -> None:
    Path("link").symlink_to("/etc/passwd")

    with pytest.raises(OSError, match="symbolic links"):
        Disk().open_file(at, b"link")


def test_open_folder_does_not_follow_a_symlink_but_open_root_does(at: Fd) -> None:
    Path("folder").mkdir()
    Path("link").symlink_to("folder")

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        Disk().open_folder(at, b"link")
    Disk().close(Disk().open_root(Path("link")))


def test_opening_a_fifo_does_not_block(at: Fd) -> None:
    os.mkfifo("pipe")

    with closing(Disk(), Disk().open_file(at, b"pipe")) as pipe:
        assert Disk().fstat(pipe).kind is FileKind.FIFO


def test_create_raises_for_a_taken_name(at: Fd) -> None:
    Path("file").write_bytes(b"old")
    Path("link").symlink_to("nowhere")

    for name in (b"file", b"link"):
        with pytest.raises(FileExistsError):
            Disk().create(at, name, 0o600)

    assert not Path("nowhere").exists()


def test_written_data_is_read_back(at: Fd) -> None:
    data = bytes(range(256)) * 1000
    with closing(Disk(), Disk().create(at, b"a", 0o600)) as file:
        Disk().write(file, data)
    with closing(Disk(), Disk().open_file(at, b"a")) as file:
        read = b"".join(iter(lambda: Disk().read(file, 4096), b""))

    assert read == data


def test_check_writers_reports_an_open_writer_only(at: Fd) -> None:
    path = Path("a")
    path.write_bytes(b"")
    with closing(Disk(), Disk().open_file(at, b"a")) as file:
        without_writer = Disk().check_writers(file)
        with path.open("ab"):
            with_writer = Disk().check_writers(file)
        with path.open("rb"):
            with_reader = Disk().check_writers(file)

    assert (without_writer, with_writer, with_reader) == (WriterCheck.FREE, WriterCheck.BUSY, WriterCheck.FREE)


def test_check_writers_is_unknown_without_lease_support(at: Fd) -> None:
    os.mkfifo("pipe")

    with closing(Disk(), Disk().open_file(at, b"pipe")) as pipe:
        assert Disk().check_writers(pipe) is WriterCheck.UNKNOWN


def test_a_lease_break_does_not_kill_the_process() -> None:
    before = signal.getsignal(signal.SIGIO)

    ignore_lease_breaks()
    os.kill(os.getpid(), signal.SIGIO)

    assert signal.getsignal(signal.SIGIO) is signal.SIG_IGN
    signal.signal(signal.SIGIO, before)


def test_a_lock_has_one_holder(at: Fd) -> None:
    Path("a").write_bytes(b"")
    first, second = Disk().open_file(at, b"a"), Disk().open_file(at, b"a")

    assert Disk().lock(first)
    assert not Disk().lock(second)
    Disk().close(first)
    assert Disk().lock(second)
    Disk().close(second)


def test_removing_a_folder_with_contents_raises(at: Fd) -> None:
    Path("folder/sub").mkdir(parents=True)

    with pytest.raises(OSError, match="not empty") as caught:
        Disk().rmdir(at, b"folder")

    assert caught.value.errno == errno.ENOTEMPTY
