"""InboxFile.of: a file for a unit test of a handler."""

import hashlib
import os
from pathlib import Path

import pytest

from inboxd import InboxFile, Owner
from inboxd.messaging.file_stream import BUFFERED_BYTES_MAX


def test_a_file_of_the_disk_has_every_attribute_that_a_dropped_one_has(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"content")

    file = InboxFile.of(path)

    assert (file.inbox, file.name, file.attempt, file.filename, file.relative_path) == ("test", "test", 1, "a.txt", "a.txt")
    assert (file.size, file.read(), file.sha256) == (7, b"content", hashlib.sha256(b"content").hexdigest())
    assert file.path == path
    assert file.owner is not None
    assert file.owner.uid == path.stat().st_uid
    assert file.headers["mtime"] == path.stat().st_mtime_ns / 1e9
    assert file.id == InboxFile.of(str(path)).id


def test_each_attribute_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"content")
    alice = Owner(1000, "alice")

    file = InboxFile.of(path, id="7", inbox="bills", parcel="p", attempt=3, relative_path="x/b.txt", sha256="ff", owner=alice)

    assert (file.id, file.inbox, file.parcel, file.attempt, file.sha256, file.owner) == ("7", "bills", "p", 3, "ff", alice)
    assert (file.relative_path, file.filename, file.path) == ("x/b.txt", "b.txt", path)


def test_an_attribute_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        InboxFile.of(tmp_path / "a", colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize("size", [0, BUFFERED_BYTES_MAX, BUFFERED_BYTES_MAX + 1])
def test_a_file_of_any_size_is_read_completely(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)

    with InboxFile.of(tmp_path / "a") as file:
        assert file.read() == data


def test_a_relative_path_and_a_link_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "target").write_bytes(b"content")
    (tmp_path / "link.txt").symlink_to("target")
    monkeypatch.chdir(tmp_path)

    file = InboxFile.of("link.txt")

    assert (file.read(), file.filename, file.path) == (b"content", "link.txt", tmp_path / "target")


@pytest.mark.parametrize(("name", "error"), [("missing", FileNotFoundError), (".", OSError)])
def test_what_is_no_file_raises_an_os_error(name: str, error: type[OSError], tmp_path: Path) -> None:
    with pytest.raises(error):
        InboxFile.of(tmp_path / name)
