"""Saving what a handler was given, as code for a web framework's upload does it."""

import io
import os
from pathlib import Path, PurePath

import pytest

from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id


class Somewhere(os.PathLike[str]):
    """A path of somebody else's making."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def inbox_file(data: bytes) -> InboxFile:
    part = FilePart(b"x/a.txt", "text/plain", len(data), {"id": "1"}, data)
    return InboxFile(part, Parcel(new_parcel_id(), "drop", "here", b"/srv", (part,)), io.BytesIO(data), None, attempt=1)


@pytest.mark.parametrize("kind", [str, Path, PurePath, Somewhere])
def test_whatever_names_a_place_will_do(kind: type, tmp_path: Path) -> None:
    place = tmp_path / "saved"

    inbox_file(b"content").save(kind(place))

    assert place.read_bytes() == b"content"


def test_an_open_file_will_do_and_stays_open(tmp_path: Path) -> None:
    with (tmp_path / "saved").open("w+b") as target:
        inbox_file(b"content").save(target, buffer_size=2)
        target.write(b", and more")

    assert (tmp_path / "saved").read_bytes() == b"content, and more"


def test_a_file_that_was_read_is_saved_from_where_the_reading_ended(tmp_path: Path) -> None:
    file = inbox_file(b"head and body")
    file.read(5)

    file.save(tmp_path / "saved")
    file.seek(0)

    assert (tmp_path / "saved").read_bytes() == b"and body"
    assert file.read() == b"head and body"
