"""What a handler gets: an upload as web frameworks have it, opened where nobody can lead it astray."""

import csv
import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.disk.spools import Spool

from inboxd.errors import TransientError
from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.parcel_reader import BUFFERED_BYTES_MAX, ParcelReader
from inboxd.messaging.payload import FilePart, Parcel

TEXT = b"first line\nsecond line\nlast"
HEADERS = {"id": "id-1", "mtime": 1.5, "claimed-at": 2.5}
ID = "0" * 27 + "1"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def inline(path: bytes = b"x/a.txt", kind: str = "text/plain", data: bytes = TEXT, **headers: str | float) -> FilePart:
    return FilePart(path, kind, len(data), HEADERS | headers, data)


def upload(part: FilePart, *, here: bool = True, attempt: int = 1) -> InboxFile:
    return ParcelReader(Disk(), Parcel(ID, "drop", "host", b"/srv/drop", (part,)), on_this_host=here, attempt=attempt).open(
        part
    )


def by_reference(spool: Spool, path: bytes, data: bytes = TEXT) -> tuple[Parcel, FilePart]:
    """Put a file into a parcel, and return what travels."""
    part = FilePart(path, "text/plain", len(data), dict(HEADERS), None)
    return Parcel(spool.claimed(path, data=data), "drop", "host", bytes(spool.root), (part,)), part


def opened(parcel: Parcel, part: FilePart) -> InboxFile:
    with ParcelReader(Disk(), parcel, on_this_host=True, attempt=1) as unpacking:
        return unpacking.open(part)


def receive(file: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401 - a FileStorage, or whatever behaves like one
    """Do what a Flask view does with request.files["drop"], as Werkzeug's documentation has it."""
    head = file.read(5)
    file.seek(0)
    lines = list(file)
    at_end = file.tell()
    file.stream.seek(0)
    target = folder / Path(file.filename).name
    file.save(target)
    file.seek(0)
    copy = io.BytesIO()
    file.save(copy, buffer_size=2)
    file.close()
    return {
        "field": file.name, "head": head, "lines": lines, "at_end": at_end, "saved": target.read_bytes(),
        "copied": copy.getvalue(), "mimetype": file.mimetype, "content_type": file.content_type, "length": file.content_length,
        "header": file.headers["Content-Type"], "closed": file.stream.closed,
    }  # fmt: skip


EXPECTED = {
    "field": "drop", "head": b"first", "lines": TEXT.splitlines(keepends=True), "at_end": len(TEXT), "saved": TEXT,
    "copied": TEXT, "mimetype": "text/plain", "content_type": "text/plain", "length": len(TEXT), "header": "text/plain",
    "closed": True,
}  # fmt: skip


def test_code_written_for_a_web_frameworks_upload_works_on_a_file_that_travelled_inside(tmp_path: Path) -> None:
    assert receive(upload(inline()), tmp_path) == EXPECTED


def test_code_written_for_a_web_frameworks_upload_works_on_a_file_by_reference(spool: Spool, tmp_path: Path) -> None:
    parcel, part = by_reference(spool, b"x/a.txt")

    assert receive(opened(parcel, part), tmp_path) == EXPECTED
    assert spool.files("claimed") == {f"{parcel.id}/x/a.txt".encode(): TEXT}


def test_a_file_is_saved_to_a_path_that_is_a_string(tmp_path: Path) -> None:
    upload(inline()).save(str(tmp_path / "copy"))

    assert (tmp_path / "copy").read_bytes() == TEXT


def test_a_file_tells_all_that_is_known_of_it() -> None:
    file = upload(inline(), attempt=3)

    known = (file.id, file.inbox, file.parcel, file.attempt, file.size, file.filename, file.raw_filename)
    assert known == ("id-1", "drop", ID, 3, len(TEXT), "x/a.txt", b"x/a.txt")
    assert file.path == Path("/srv/drop/claimed") / ID / "x/a.txt"


def test_the_headers_are_those_of_an_upload_and_ours_besides() -> None:
    file = upload(inline(sha256="ff"))

    ours = {"id": "id-1", "mtime": 1.5, "claimed-at": 2.5, "sha256": "ff"}
    assert file.headers == {"Content-Type": "text/plain", "Content-Length": str(len(TEXT)), **ours}


def test_on_another_host_a_file_has_no_place_but_its_bytes() -> None:
    file = upload(inline(), here=False)

    assert file.path is None
    assert file.read() == TEXT


@pytest.mark.parametrize(
    ("kind", "mimetype"),
    [("Text/HTML; charset=utf-8", "text/html"), ("image/png", "image/png"), (" A/B ;x=;y", "a/b"), ("", "")],
)
def test_the_mimetype_is_the_content_type_without_its_parameters(kind: str, mimetype: str) -> None:
    assert upload(inline(kind=kind)).mimetype == mimetype


def test_the_sha256_that_was_sent_is_not_computed_again() -> None:
    file = upload(inline(sha256="what was sent"))
    file.close()

    assert file.sha256 == "what was sent"


def test_the_sha256_of_a_large_file_is_computed_and_leaves_the_position_where_it_is(spool: Spool) -> None:
    data = bytes(range(256)) * 10_000
    file = opened(*by_reference(spool, b"large", data))
    file.seek(1000)

    digest = file.sha256

    assert digest == hashlib.sha256(data).hexdigest()
    assert file.tell() == 1000
    assert file.read() == data[1000:]
    assert file.sha256 == digest
    file.close()


@pytest.mark.parametrize("size", [0, 1, BUFFERED_BYTES_MAX, BUFFERED_BYTES_MAX + 1])
def test_a_file_by_reference_has_all_its_bytes_however_they_are_read(size: int, spool: Spool) -> None:
    data = os.urandom(size)

    with opened(*by_reference(spool, b"a", data)).stream as stream:
        assert (stream.read(), stream.read(), stream.seek(0), stream.read()) == (data, b"", 0, data)


def test_a_disk_that_gives_less_than_was_asked_for_is_asked_again(spool: Spool) -> None:
    class Stingy(Disk):
        def read(self, fd: Fd, size: int) -> bytes:
            return super().read(fd, min(size, 3))

    parcel, part = by_reference(spool, b"a")

    with ParcelReader(Stingy(), parcel, on_this_host=True, attempt=1) as unpacking:
        assert unpacking.open(part).read() == TEXT


def test_a_file_that_became_shorter_while_it_was_opened_has_what_is_left(spool: Spool) -> None:
    parcel, part = by_reference(spool, b"a")

    class Cutting(Disk):
        def fstat(self, fd: Fd) -> Stat:
            look = super().fstat(fd)
            os.truncate(spool.where(f"claimed/{parcel.id}/a".encode()), 5)
            return look

    with ParcelReader(Cutting(), parcel, on_this_host=True, attempt=1) as unpacking:
        assert unpacking.open(part).read() == TEXT[:5]


def test_a_file_is_read_as_an_open_binary_file_is() -> None:
    file = upload(inline())

    assert (file.readline(), file.tell(), file.readlines()) == (b"first line\n", 11, [b"second line\n", b"last"])
    assert (file.read(), file.seek(-4, io.SEEK_END), file.read(2)) == (b"", len(TEXT) - 4, b"la")
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)


def test_a_file_is_closed_at_the_end_of_its_with_statement() -> None:
    with upload(inline()) as file:
        closed_within = file.closed

    assert (closed_within, file.closed) == (False, True)


def test_chunks_are_the_whole_content_wherever_it_was_read_to() -> None:
    file = upload(inline())
    file.read(5)

    assert [*file.chunks(10)] == [TEXT[:10], TEXT[10:20], TEXT[20:]]


@pytest.mark.parametrize("name", ["colour", "fileno", "write", "truncate"])
def test_what_is_not_documented_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(upload(inline()), name)


@pytest.mark.parametrize("by_path", [True, False])
def test_what_reads_archives_and_text_reads_a_file(by_path: bool, spool: Spool) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packing:
        packing.writestr("names.csv", "a,b\n1,2\n")
    data = archive.getvalue()
    file = opened(*by_reference(spool, b"x.zip", data)) if by_path else upload(inline(b"x.zip", "application/zip", data))

    with file, zipfile.ZipFile(file) as packed, packed.open("names.csv") as lines:
        assert [*csv.reader(io.TextIOWrapper(lines))] == [["a", "b"], ["1", "2"]]


def test_text_is_decoded_line_by_line() -> None:
    text = "Grüße\nzweite\n".encode()

    assert [*io.TextIOWrapper(upload(inline(data=text)).stream, "utf-8")] == ["Grüße\n", "zweite\n"]


def test_a_file_is_shown_by_its_name_and_kind() -> None:
    assert repr(upload(inline())) == "<InboxFile 'x/a.txt' (text/plain)>"


def test_a_name_that_is_no_utf8_reaches_the_handler_and_the_file(spool: Spool) -> None:
    path = b"sub\xe9/caf\xe9.txt"

    file = opened(*by_reference(spool, path))

    assert file.filename.encode("utf-8", "surrogateescape") == file.raw_filename == path
    assert file.read() == TEXT
    assert file.path is not None
    assert file.path.read_bytes() == TEXT
    file.close()


def test_a_link_in_the_place_of_a_file_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    parcel, part = by_reference(spool, b"x/a.txt")
    (tmp_path / "secret").write_bytes(b"secret")
    place = spool.where(f"claimed/{parcel.id}/x/a.txt".encode())
    place.unlink()
    place.symlink_to(tmp_path / "secret")

    with pytest.raises(OSError, match="symbolic links"):
        opened(parcel, part)


@pytest.mark.parametrize("depth", ["x", ""])
def test_a_link_in_the_place_of_a_folder_is_not_followed(depth: str, spool: Spool, tmp_path: Path) -> None:
    parcel, part = by_reference(spool, b"x/a.txt")
    folder = spool.root / "claimed" / parcel.id / depth
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        opened(parcel, part)


@pytest.mark.parametrize("gone", ["claimed/{0}/x/a.txt", "claimed/{0}/x", "claimed/{0}", "claimed"])
def test_a_file_that_is_gone_is_not_found(gone: str, spool: Spool, tmp_path: Path) -> None:
    parcel, part = by_reference(spool, b"x/a.txt")
    (spool.root / gone.format(parcel.id)).rename(tmp_path / "gone")

    with pytest.raises(FileNotFoundError):
        opened(parcel, part)


def test_a_root_that_can_not_be_reached_from_here_is_weather(spool: Spool, tmp_path: Path) -> None:
    parcel, part = by_reference(spool, b"x/a.txt")
    spool.root.rename(tmp_path / "away")

    with pytest.raises(TransientError, match="drop can't be reached from this host: No such file"):
        opened(parcel, part)


def test_a_path_that_leads_outside_is_not_opened(spool: Spool, tmp_path: Path) -> None:
    parcel, part = by_reference(spool, b"x/a.txt")
    (tmp_path / "secret").write_bytes(b"secret")

    with pytest.raises(ValueError, match="not a path below an inbox"):
        opened(parcel, replace(part, filename=b"../../../secret"))


def test_opening_leaves_no_descriptor_behind(spool: Spool) -> None:
    parcel, part = by_reference(spool, b"x/y/a.txt")
    open_before = len(list(Path("/proc/self/fd").iterdir()))

    opened(parcel, part).close()
    with pytest.raises(FileNotFoundError):
        opened(parcel, replace(part, filename=b"x/y/gone"))

    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_a_hash_that_was_packed_is_not_told_of_a_file_that_was_written_to_since(tmp_path: Path) -> None:
    known = hashlib.sha256(b"hello").hexdigest()
    home = tmp_path / "claimed" / ID
    home.mkdir(parents=True)
    lying = home / "a"
    lying.write_bytes(b"hello")
    headers = {"id": "i", "mtime": lying.stat().st_mtime_ns / 1e9, "sha256": known}
    part = FilePart(b"a", "text/plain", 5, headers, None)
    parcel = Parcel(ID, "drop", "host", os.fsencode(tmp_path), (part,))

    with ParcelReader(Disk(), parcel, on_this_host=True, attempt=1) as unpacking:
        same = unpacking.open(part)
        lying.write_bytes(b"hello and more")
        changed = unpacking.open(part)

    with same.stream, changed.stream:
        assert same.headers["sha256"] == known
        assert "sha256" not in changed.headers
        assert changed.sha256 == hashlib.sha256(b"hello and more").hexdigest()
