"""Tests of the default handler."""

import hashlib
from pathlib import Path, PurePath

import pytest
from support.disk.spools import Spool

from inboxd.content.reading import HEAD_BYTES
from inboxd.fs.syscalls import Disk
from inboxd.handlers import describe
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"


def open_file(spool: Spool, name: bytes, data: bytes, *, inline: bool) -> InboxFile:
    parcel = new_parcel_id()
    spool.put(b"claimed/%s/%s" % (parcel.encode(), name), data)
    part = FilePart(name, "application/octet-stream", len(data), {"id": "1"}, data if inline else None)
    message = Parcel(parcel, "drop", "here", bytes(PurePath(spool.root)), (part,))
    with ParcelReader(Disk(), message, on_this_host=True, attempt=1) as reader:
        return reader.open(part)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("size", [0, 100, HEAD_BYTES, 30 * HEAD_BYTES])
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
