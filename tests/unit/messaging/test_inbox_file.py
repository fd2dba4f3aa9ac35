"""InboxFile behaves like a web framework's upload, and is opened without following links."""

import csv
import email
import gc
import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.descriptors import open_descriptors
from support.disk.spools import Spool

from inboxd.errors import TransientError
from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.messaging.file_stream import BUFFERED_BYTES_MAX
from inboxd.messaging.inbox_file import InboxFile, Owner
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import FilePart, Parcel

TEXT = b"first line\nsecond line\nlast"
HEADERS = {"id": "id-1", "mtime": 1.5, "claimed-at": 2.5}
ID = "0" * 27 + "1"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def inline_part(path: bytes = b"x/a.txt", mime: str = "text/plain", data: bytes = TEXT, **headers: str | float) -> FilePart:
    return FilePart(path, mime, len(data), HEADERS | headers, data)


def open_inline(part: FilePart, *, on_this_host: bool = True, attempt: int = 1) -> InboxFile:
    parcel = Parcel(ID, "drop", "host", b"/srv/drop", (part,))
    return ParcelReader(Disk(), parcel, on_this_host=on_this_host, attempt=attempt).open(part)


def claim_file(spool: Spool, path: bytes, data: bytes = TEXT) -> tuple[Parcel, FilePart]:
    """Create a claimed file, and return its parcel and file part."""
    part = FilePart(path, "text/plain", len(data), dict(HEADERS), None)
    return Parcel(spool.claimed(path, data=data), "drop", "host", bytes(spool.root), (part,)), part


def open_part(parcel: Parcel, part: FilePart) -> InboxFile:
    with ParcelReader(Disk(), parcel, on_this_host=True, attempt=1) as reader:
        return reader.open(part)


def use_as_upload(file: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401 - a FileStorage, or an object with its interface
    """Do what a Flask view does with request.files["drop"], as in Werkzeug's documentation."""
    head = file.read(5)
    file.seek(0)
    lines = list(file)
    at_end = file.tell()
    file.stream.seek(0)
    target = folder / file.filename
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


def test_code_for_a_web_frameworks_upload_works_on_an_inline_file(tmp_path: Path) -> None:
    assert use_as_upload(open_inline(inline_part()), tmp_path) == EXPECTED


def test_code_for_a_web_frameworks_upload_works_on_a_file_by_reference(spool: Spool, tmp_path: Path) -> None:
    parcel, part = claim_file(spool, b"x/a.txt")

    assert use_as_upload(open_part(parcel, part), tmp_path) == EXPECTED
    assert spool.files("claimed") == {f"{parcel.id}/x/a.txt".encode(): TEXT}


def test_a_file_is_saved_to_a_path_given_as_str(tmp_path: Path) -> None:
    open_inline(inline_part()).save(str(tmp_path / "copy"))

    assert (tmp_path / "copy").read_bytes() == TEXT


def test_a_file_has_the_attributes_of_its_parcel_and_part() -> None:
    file = open_inline(inline_part(), attempt=3)

    attributes = (file.id, file.inbox, file.parcel, file.attempt, file.size, file.filename, file.raw_filename)
    assert attributes == ("id-1", "drop", ID, 3, len(TEXT), "a.txt", b"a.txt")
    assert file.relative_path == "x/a.txt"
    assert file.path == Path("/srv/drop/claimed") / ID / "x/a.txt"


def test_the_headers_are_those_of_an_upload_and_inboxds_own() -> None:
    file = open_inline(inline_part(sha256="ff"))

    own = {"id": "id-1", "mtime": 1.5, "claimed-at": 2.5, "sha256": "ff"}
    assert file.headers == {"Content-Type": "text/plain", "Content-Length": str(len(TEXT)), **own}


def test_the_headers_are_found_without_regard_to_case() -> None:
    headers = open_inline(inline_part()).headers

    headers["X-Own"] = "1"
    assert (headers["content-type"], headers.get("CONTENT-LENGTH", type=int)) == ("text/plain", len(TEXT))
    assert ("x-own" in headers, headers.getlist("x-OWN"), headers.getlist("other")) == (True, ["1"], [])
    assert headers.get("Content-Type", 0, int) == 0
    del headers["x-own"]
    assert "X-Own" not in headers
    assert headers != {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    ("sent", "owner"),
    [
        ({"uid": 1000, "owner": "alice"}, Owner(1000, "alice")),
        ({"uid": 0}, Owner(0, None)),
        ({}, None),  # sent by an earlier release, or claimed by a copy
        ({"uid": "root"}, None),
    ],
)
def test_the_owner_travels_in_the_headers(sent: dict[str, str | float], owner: Owner | None) -> None:
    assert open_inline(inline_part(**sent), on_this_host=False).owner == owner


def test_on_another_host_a_file_has_no_path() -> None:
    file = open_inline(inline_part(), on_this_host=False)

    assert file.path is None
    assert file.read() == TEXT


@pytest.mark.parametrize("is_inline", [True, False])
def test_the_content_type_is_detected_from_the_content(is_inline: bool, spool: Spool) -> None:
    data = b"%PDF-1.7\n\0" + bytes(BUFFERED_BYTES_MAX)
    part = inline_part(b"x/a.txt", "text/plain", data)
    file = open_inline(part) if is_inline else open_part(*claim_file(spool, b"x/a.txt", data))

    with file.stream:
        file.seek(5)
        detected = (file.content_type, file.mimetype, file.tell())

    assert detected == ("application/pdf", "application/pdf", 5)
    assert file.content_type == file.headers["Content-Type"] == "application/pdf"


def test_a_file_whose_type_nobody_asks_for_is_not_read(spool: Spool) -> None:
    reads: list[int] = []

    class CountingDisk(Disk):
        def reader(self, fd: Fd) -> io.BufferedReader:
            class Reader(io.FileIO):
                def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401
                    reads.append(len(buffer))
                    return super().readinto(buffer)

            return io.BufferedReader(Reader(fd, "rb"))

    parcel, part = claim_file(spool, b"a", bytes(BUFFERED_BYTES_MAX + 1))
    with ParcelReader(CountingDisk(), parcel, on_this_host=True, attempt=1) as reader:
        file = reader.open(part)
    before = (repr(file), list(reads))

    with file:
        asked = (file.content_type, bool(reads))

    assert before[1] == []
    assert asked == ("application/octet-stream", True)


def test_the_content_type_of_a_closed_file_is_guessed_from_the_name() -> None:
    file = open_inline(inline_part(mime="Text/HTML; charset=utf-8"))
    file.close()

    assert (file.content_type, file.mimetype) == ("Text/HTML; charset=utf-8", "text/html")


def test_the_content_types_parameters_are_parsed() -> None:
    file = open_inline(inline_part(mime='text/html; Charset="utf-8"; x=1'))
    file.close()  # its type is by the name, as another program may have sent it

    assert file.mimetype_params == file.content_type_extra == {"charset": "utf-8", "x": "1"}
    assert file.charset == "utf-8"
    assert open_inline(inline_part()).charset is None


def test_a_sent_sha256_is_not_computed_again() -> None:
    file = open_inline(inline_part(sha256="sent hash"))
    file.close()

    assert file.sha256 == "sent hash"


def test_computing_the_sha256_keeps_the_position(spool: Spool) -> None:
    data = bytes(range(256)) * 10_000
    file = open_part(*claim_file(spool, b"large", data))
    file.seek(1000)

    digest = file.sha256

    assert digest == hashlib.sha256(data).hexdigest()
    assert file.tell() == 1000
    assert file.read() == data[1000:]
    assert file.sha256 == digest
    file.close()


@pytest.mark.parametrize("size", [0, 1, BUFFERED_BYTES_MAX, BUFFERED_BYTES_MAX + 1])
def test_a_file_by_reference_of_any_size_is_read_completely(size: int, spool: Spool) -> None:
    data = os.urandom(size)

    with open_part(*claim_file(spool, b"a", data)).stream as stream:
        assert (stream.read(), stream.read(), stream.seek(0), stream.read()) == (data, b"", 0, data)


def test_short_reads_are_continued(spool: Spool) -> None:
    class ShortReadDisk(Disk):
        def read(self, fd: Fd, size: int) -> bytes:
            return super().read(fd, min(size, 3))

    parcel, part = claim_file(spool, b"a")

    with ParcelReader(ShortReadDisk(), parcel, on_this_host=True, attempt=1) as reader:
        assert reader.open(part).read() == TEXT


def test_a_file_that_is_truncated_while_it_is_opened_has_the_remaining_bytes(spool: Spool) -> None:
    parcel, part = claim_file(spool, b"a")

    class TruncatingDisk(Disk):
        def fstat(self, fd: Fd) -> Stat:
            stat = super().fstat(fd)
            os.truncate(spool.where(f"claimed/{parcel.id}/a".encode()), 5)
            return stat

    with ParcelReader(TruncatingDisk(), parcel, on_this_host=True, attempt=1) as reader:
        assert reader.open(part).read() == TEXT[:5]


def test_a_file_has_the_methods_of_an_open_binary_file() -> None:
    file = open_inline(inline_part())

    assert (file.readline(), file.tell(), file.readlines()) == (b"first line\n", 11, [b"second line\n", b"last"])
    assert (file.read(), file.seek(-4, io.SEEK_END), file.read(2)) == (b"", len(TEXT) - 4, b"la")
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)


def test_a_file_is_closed_at_the_end_of_its_with_statement() -> None:
    with open_inline(inline_part()) as file:
        was_closed = file.closed

    assert (was_closed, file.closed) == (False, True)


def test_chunks_are_the_whole_content_at_any_position() -> None:
    file = open_inline(inline_part())
    file.read(5)

    assert [*file.chunks(10)] == [TEXT[:10], TEXT[10:20], TEXT[20:]]


def test_a_file_is_read_only_and_has_no_other_attributes() -> None:
    file = open_inline(inline_part())

    for write in (lambda: file.write(b"x"), file.truncate, file.detach):
        with pytest.raises(io.UnsupportedOperation):
            write()
    with pytest.raises(AttributeError, match="colour"):
        _ = file.colour


@pytest.mark.parametrize("is_inline", [True, False])
def test_a_file_is_accepted_where_the_standard_library_takes_a_binary_file(is_inline: bool, spool: Spool) -> None:
    mail = b"Subject: invoice\r\n\r\n" + b"line\r\n" * 20_000  # too large to be read at its opening

    def open_mail() -> InboxFile:
        return open_inline(inline_part(data=mail)) if is_inline else open_part(*claim_file(spool, b"mail", mail))

    buffer = bytearray(7)
    with open_mail() as file:
        assert (file.readinto(buffer), buffer) == (7, b"Subject")
        assert file.read1(3) == b": i"
    with open_mail() as file:
        assert email.message_from_binary_file(file)["Subject"] == "invoice"
    with open_mail() as file, io.TextIOWrapper(file, "ascii", newline="") as text:
        assert text.read().encode() == mail
    with open_mail() as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == hashlib.sha256(mail).hexdigest() == file.sha256
        if not is_inline:
            assert os.fstat(file.fileno()).st_size == len(mail)


@pytest.mark.parametrize("is_inline", [True, False])
def test_zipfile_and_csv_read_a_file(is_inline: bool, spool: Spool) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("names.csv", "a,b\n1,2\n")
    data = archive.getvalue()
    part = inline_part(b"x.zip", "application/zip", data)
    file = open_inline(part) if is_inline else open_part(*claim_file(spool, b"x.zip", data))

    with file, zipfile.ZipFile(file) as reader, reader.open("names.csv") as lines:
        assert [*csv.reader(io.TextIOWrapper(lines))] == [["a", "b"], ["1", "2"]]


def test_text_is_decoded_line_by_line() -> None:
    text = "Grüße\nzweite\n".encode()

    assert [*io.TextIOWrapper(open_inline(inline_part(data=text)).stream, "utf-8")] == ["Grüße\n", "zweite\n"]


def test_the_repr_has_name_and_size() -> None:
    assert repr(open_inline(inline_part())) == "<InboxFile 'x/a.txt', 27 bytes>"


def test_a_name_that_is_not_utf8_is_kept(spool: Spool) -> None:
    path = b"sub\xe9/caf\xe9.txt"

    file = open_part(*claim_file(spool, path))

    assert file.filename.encode("utf-8", "surrogateescape") == file.raw_filename == b"caf\xe9.txt"
    assert os.fsencode(file.relative_path) == path
    assert file.read() == TEXT
    assert file.path is not None
    assert file.path.read_bytes() == TEXT
    file.close()


def test_a_link_in_place_of_a_file_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    parcel, part = claim_file(spool, b"x/a.txt")
    (tmp_path / "secret").write_bytes(b"secret")
    path = spool.where(f"claimed/{parcel.id}/x/a.txt".encode())
    path.unlink()
    path.symlink_to(tmp_path / "secret")

    with pytest.raises(OSError, match="symbolic links"):
        open_part(parcel, part)


@pytest.mark.parametrize("depth", ["x", ""])
def test_a_link_in_place_of_a_folder_is_not_followed(depth: str, spool: Spool, tmp_path: Path) -> None:
    parcel, part = claim_file(spool, b"x/a.txt")
    folder = spool.root / "claimed" / parcel.id / depth
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        open_part(parcel, part)


@pytest.mark.parametrize("missing", ["claimed/{0}/x/a.txt", "claimed/{0}/x", "claimed/{0}", "claimed"])
def test_opening_a_missing_file_raises_file_not_found(missing: str, spool: Spool, tmp_path: Path) -> None:
    parcel, part = claim_file(spool, b"x/a.txt")
    (spool.root / missing.format(parcel.id)).rename(tmp_path / "moved")

    with pytest.raises(FileNotFoundError):
        open_part(parcel, part)


def test_a_missing_root_raises_a_transient_error(spool: Spool, tmp_path: Path) -> None:
    parcel, part = claim_file(spool, b"x/a.txt")
    spool.root.rename(tmp_path / "moved")

    with pytest.raises(TransientError, match="drop can't be reached from this host: No such file"):
        open_part(parcel, part)


def test_a_path_that_leads_outside_is_not_opened(spool: Spool, tmp_path: Path) -> None:
    parcel, part = claim_file(spool, b"x/a.txt")
    (tmp_path / "secret").write_bytes(b"secret")

    with pytest.raises(ValueError, match="not a path below an inbox"):
        open_part(parcel, replace(part, filename=b"../../../secret"))


def test_opening_leaks_no_descriptor(spool: Spool) -> None:
    parcel, part = claim_file(spool, b"x/y/a.txt")
    gc.collect()  # what other tests have left
    open_before = open_descriptors()

    open_part(parcel, part).close()
    with pytest.raises(FileNotFoundError):
        open_part(parcel, replace(part, filename=b"x/y/missing"))

    assert open_descriptors() == open_before


def test_the_sent_hash_of_a_file_that_changed_after_packing_is_dropped(tmp_path: Path) -> None:
    sent_hash = hashlib.sha256(b"hello").hexdigest()
    folder = tmp_path / "claimed" / ID
    folder.mkdir(parents=True)
    path = folder / "a"
    path.write_bytes(b"hello")
    headers = {"id": "i", "mtime": path.stat().st_mtime_ns / 1e9, "sha256": sent_hash}
    part = FilePart(b"a", "text/plain", 5, headers, None)
    parcel = Parcel(ID, "drop", "host", os.fsencode(tmp_path), (part,))

    with ParcelReader(Disk(), parcel, on_this_host=True, attempt=1) as reader:
        unchanged = reader.open(part)
        path.write_bytes(b"hello and more")
        changed = reader.open(part)

    with unchanged.stream, changed.stream:
        assert unchanged.headers["sha256"] == sent_hash
        assert "sha256" not in changed.headers
        assert changed.sha256 == hashlib.sha256(b"hello and more").hexdigest()
