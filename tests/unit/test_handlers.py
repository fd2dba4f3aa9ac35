"""Tests of the default handler."""

import gzip
import hashlib
import io
import zipfile
from pathlib import Path, PurePath

import pytest
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.handlers import OCTET_STREAM, SNIFF_BYTES, TEXT, describe, sniff
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01"


def zip_archive() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("a.txt", "content")
    return archive.getvalue()


def open_file(spool: Spool, name: bytes, data: bytes, *, inline: bool) -> InboxFile:
    parcel = new_parcel_id()
    spool.put(b"claimed/%s/%s" % (parcel.encode(), name), data)
    part = FilePart(name, OCTET_STREAM, len(data), {"id": "1"}, data if inline else None)
    message = Parcel(parcel, "drop", "here", bytes(PurePath(spool.root)), (part,))
    with ParcelReader(Disk(), message, on_this_host=True, attempt=1) as reader:
        return reader.open(part)


@pytest.mark.parametrize(
    ("head", "name", "content_type"),
    [
        (PDF, "a.pdf", "application/pdf"),
        (PDF, "a.txt", "application/pdf"),
        (PDF, "a", "application/pdf"),
        (PNG, "a.png", "image/png"),
        (PNG, "a.jpg", "image/png"),
        (JPEG, "a.jpg", "image/jpeg"),
        (zip_archive(), "a.zip", "application/zip"),
        (gzip.compress(b"content", mtime=0), "a.gz", "application/x-gzip"),
        (b"hello, world\n", "a.txt", TEXT),
        (b"hello, world\n", "a", TEXT),
        ("grüße, 世界 🙂".encode(), "a", TEXT),
        (b"\xe9t\xe9 indien", "a", OCTET_STREAM),
        (b"text\0and more", "a", OCTET_STREAM),
        (bytes(range(1, 40)) * 3 + b"\xff\0", "a", OCTET_STREAM),
        (b"", "a.pdf", "application/x-empty"),
    ],
)
def test_the_content_type_is_guessed_from_the_first_bytes(head: bytes, name: str, content_type: str) -> None:
    assert sniff(head, name) == content_type


@pytest.mark.parametrize("character", ["é", "世", "🙂"])
@pytest.mark.parametrize("offset", range(4))
def test_text_is_recognized_although_the_cut_splits_a_character(character: str, offset: int) -> None:
    head = (b"a" * offset + character.encode() * SNIFF_BYTES)[:SNIFF_BYTES]

    assert sniff(head, "a") == TEXT


def test_a_split_character_is_accepted_only_at_the_cut() -> None:
    assert sniff(b"a" * 100 + "世".encode()[:2], "a") == OCTET_STREAM
    assert sniff(b"a" * 100 + "世".encode()[:2] + b"a" * (SNIFF_BYTES - 102), "a") == OCTET_STREAM


@pytest.mark.parametrize("name", ["", ".", "a.", ".pdf", "a/b.pdf", "\udcff.pdf", "a\0b", "a" * 300])
def test_an_unusual_name_does_not_change_the_content_type(name: str) -> None:
    assert sniff(PDF, name) == "application/pdf"


@pytest.mark.parametrize("name", ["a.pdf", "a.png", "a.zip"])
def test_a_name_does_not_override_the_content(name: str) -> None:
    assert sniff(b"hello, world\n", name) == TEXT


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("size", [0, 100, SNIFF_BYTES, 3 * SNIFF_BYTES])
def test_a_file_is_described_by_digest_size_and_type(tmp_path: Path, inline: bool, size: int) -> None:
    data = (PDF + b"x" * size)[:size]
    file = open_file(Spool.make(tmp_path), b"sub/\xff.pdf", data, inline=inline)

    with file.stream:
        description = describe(file)

    assert description == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": size,
        "content_type": "application/pdf" if size else "application/x-empty",
    }
