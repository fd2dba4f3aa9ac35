"""The content type that a message carries is guessed by the suffix when a file is packed."""

import mimetypes
from pathlib import Path

import pytest
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.packing import pack
from inboxd.messaging.content_type import OCTET_STREAM


def packed_content_type(path: bytes, tmp_path: Path) -> str:
    spool = Spool.make(tmp_path / "drop")
    parcel = spool.claimed(path)
    with spool.folders() as folders:
        (part,) = pack(Disk(), folders, spool.inbox(), parcel, [path]).parts
    return part.content_type


@pytest.mark.parametrize(
    "path",
    [b"data:text/html,x", b"data:a/b\r\nX-Evil: 1,x", b"data:image/png;base64,x", b"data:,x", b"http:/a.pdf", b"x/a.pdf?b"],
)
def test_only_the_suffix_counts_even_if_the_name_looks_like_a_url(path: bytes, tmp_path: Path) -> None:
    suffix = path.rpartition(b"/")[2].rpartition(b".")[2].decode()

    assert packed_content_type(path, tmp_path) == mimetypes.types_map.get(f".{suffix}", OCTET_STREAM)
