"""Content types: guessed by suffix when a file is packed, and by its first bytes in the built-in handler."""

import mimetypes
from pathlib import Path

import pytest
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.handlers import sniff
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


@pytest.mark.parametrize(
    "text",
    ["Dear reader,\n", "BMW drivers\n", "MZ is not a program\n", "RIFF raff\n", "Grüße\n", "\ufeffwith a mark\n", "0", " \n"],
)
def test_text_that_begins_like_a_binary_format_is_text(text: str) -> None:
    assert sniff(text.encode(), "a.txt") == "text/plain"
