"""InboxFile.save, as code for a web framework's upload calls it."""

import io
import os
from pathlib import Path, PurePath

import pytest

from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id


class CustomPath(os.PathLike[str]):
    """A path-like object of another library."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def inbox_file(data: bytes) -> InboxFile:
    part = FilePart(b"x/a.txt", "text/plain", len(data), {"id": "1"}, data)
    return InboxFile(part, Parcel(new_parcel_id(), "drop", "here", b"/srv", (part,)), io.BytesIO(data), None, attempt=1)


@pytest.mark.parametrize("path_type", [str, Path, PurePath, CustomPath])
def test_save_accepts_every_type_of_path(path_type: type, tmp_path: Path) -> None:
    path = tmp_path / "saved"

    inbox_file(b"content").save(path_type(path))

    assert path.read_bytes() == b"content"


def test_save_accepts_an_open_file_and_does_not_close_it(tmp_path: Path) -> None:
    with (tmp_path / "saved").open("w+b") as target:
        inbox_file(b"content").save(target, buffer_size=2)
        target.write(b", and more")

    assert (tmp_path / "saved").read_bytes() == b"content, and more"


def test_save_begins_at_the_current_position(tmp_path: Path) -> None:
    file = inbox_file(b"head and body")
    file.read(5)

    file.save(tmp_path / "saved")
    file.seek(0)

    assert (tmp_path / "saved").read_bytes() == b"and body"
    assert file.read() == b"head and body"
