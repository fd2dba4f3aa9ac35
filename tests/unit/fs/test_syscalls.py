"""The door to the disk, on a real one: nothing is followed, waited for or overwritten."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd.fs.syscalls import Disk, Fd, FileKind, WriterCheck, closing, ignore_lease_breaks

ODD = b"\xff\n \xc3\xa4"


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fd]:
    """Open an empty folder, and stand in it."""
    monkeypatch.chdir(tmp_path)
    with closing(Disk(), Disk().open_root(tmp_path)) as folder:
        yield folder


def test_entries_are_bytes_and_only_real_folders_are_folders(at: Fd) -> None:
    Path(os.fsdecode(ODD)).write_bytes(b"")
    Path("folder").mkdir()
    Path("link").symlink_to("folder")

    assert dict(Disk().entries(at)) == {ODD: False, b"folder": True, b"link": False}


def test_entries_can_be_listed_again(at: Fd) -> None:
    Path("a").write_bytes(b"")

    assert [list(Disk().entries(at)) for _ in range(2)] == [[(b"a", False)]] * 2


def test_an_entry_is_what_it_is_and_not_what_it_links_to(at: Fd) -> None:
    Path("file").write_bytes(b"12345")
    Path("folder").mkdir()
    Path("link").symlink_to("file")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound, closing(Disk(), Disk().open_root(Path("/dev"))) as devices:
        bound.bind("socket")
        kinds = {name: Disk().stat(at, name).kind for name in (b"file", b"folder", b"link", b"pipe", b"socket")}
        device = Disk().stat(devices, b"null").kind

    assert kinds == {
        b"file": FileKind.FILE, b"folder": FileKind.FOLDER, b"link": FileKind.LINK, b"pipe": FileKind.FIFO,
        b"socket": FileKind.SOCKET,
    }  # fmt: skip
    assert device is FileKind.DEVICE
    assert Disk().stat(at, b"file").size == 5


def test_a_rename_moves_and_never_overwrites(at: Fd) -> None:
    Path("a").write_bytes(b"new")
    Path("b").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        Disk().rename(at, b"a", at, b"b")
    with pytest.raises(FileNotFoundError):
        Disk().rename(at, b"gone", at, b"b")
    Disk().rename(at, b"a", at, ODD)

    assert {name: Path(os.fsdecode(name)).read_bytes() for name, _ in Disk().entries(at)} == {b"b": b"old", ODD: b"new"}


def test_a_rename_onto_another_name_of_the_same_file_is_refused(at: Fd) -> None:
    """A plain rename would succeed, and leave both names."""
    Path("a").write_bytes(b"")
    Path("b").hardlink_to("a")

    with pytest.raises(FileExistsError):
        Disk().rename(at, b"a", at, b"b")


def test_a_file_is_never_opened_through_a_link(at: Fd) -> None:
    Path("link").symlink_to("/etc/passwd")

    with pytest.raises(OSError, match="symbolic links"):
        Disk().open_file(at, b"link")


def test_a_folder_is_never_opened_through_a_link_but_the_root_is(at: Fd) -> None:
    Path("folder").mkdir()
    Path("link").symlink_to("folder")

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        Disk().open_folder(at, b"link")
    Disk().close(Disk().open_root(Path("link")))


def test_nobody_waits_for_a_pipes_other_end(at: Fd) -> None:
    os.mkfifo("pipe")

    with closing(Disk(), Disk().open_file(at, b"pipe")) as pipe:
        assert Disk().fstat(pipe).kind is FileKind.FIFO


def test_a_new_file_takes_no_name_that_something_else_has(at: Fd) -> None:
    Path("file").write_bytes(b"old")
    Path("link").symlink_to("nowhere")

    for name in (b"file", b"link"):
        with pytest.raises(FileExistsError):
            Disk().create(at, name, 0o600)

    assert not Path("nowhere").exists()


def test_what_was_written_can_be_read(at: Fd) -> None:
    data = bytes(range(256)) * 1000
    with closing(Disk(), Disk().create(at, b"a", 0o600)) as file:
        Disk().write(file, data)
    with closing(Disk(), Disk().open_file(at, b"a")) as file:
        read = b"".join(iter(lambda: Disk().read(file, 4096), b""))

    assert read == data


def test_a_file_is_idle_while_nobody_writes_to_it(at: Fd) -> None:
    place = Path("a")
    place.write_bytes(b"")
    with closing(Disk(), Disk().open_file(at, b"a")) as file:
        free = Disk().check_writers(file)
        with place.open("ab"):
            busy = Disk().check_writers(file)
        with place.open("rb"):
            read = Disk().check_writers(file)

    assert (free, busy, read) == (WriterCheck.FREE, WriterCheck.BUSY, WriterCheck.FREE)


def test_where_there_are_no_leases_nobody_can_tell(at: Fd) -> None:
    os.mkfifo("pipe")

    with closing(Disk(), Disk().open_file(at, b"pipe")) as pipe:
        assert Disk().check_writers(pipe) is WriterCheck.UNKNOWN


def test_a_broken_lease_does_not_kill_us() -> None:
    before = signal.getsignal(signal.SIGIO)

    ignore_lease_breaks()
    os.kill(os.getpid(), signal.SIGIO)

    assert signal.getsignal(signal.SIGIO) is signal.SIG_IGN
    signal.signal(signal.SIGIO, before)


def test_a_lock_has_one_owner(at: Fd) -> None:
    Path("a").write_bytes(b"")
    first, second = Disk().open_file(at, b"a"), Disk().open_file(at, b"a")

    assert Disk().lock(first)
    assert not Disk().lock(second)
    Disk().close(first)
    assert Disk().lock(second)
    Disk().close(second)


def test_only_an_empty_folder_is_removed(at: Fd) -> None:
    Path("folder/sub").mkdir(parents=True)

    with pytest.raises(OSError, match="not empty") as caught:
        Disk().rmdir(at, b"folder")

    assert caught.value.errno == errno.ENOTEMPTY
