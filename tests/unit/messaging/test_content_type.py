"""What a file is: told by its name on the way in, and by its first bytes in the handler that comes with inboxd."""

import mimetypes
from pathlib import Path

import pytest
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.handlers import sniff
from inboxd.intake.packing import pack
from inboxd.messaging.content_type import OCTET_STREAM


def told_by_name(path: bytes, tmp_path: Path) -> str:
    spool = Spool.make(tmp_path / "drop")
    parcel = spool.claimed(path)
    with spool.folders() as folders:
        (part,) = pack(Disk(), folders, spool.inbox(), parcel, [path]).parts
    return part.content_type


@pytest.mark.parametrize(
    "path",
    [b"data:text/html,x", b"data:a/b\r\nX-Evil: 1,x", b"data:image/png;base64,x", b"data:,x", b"http:/a.pdf", b"x/a.pdf?b"],
)
def test_a_name_that_looks_like_a_url_has_no_say_beyond_its_suffix(path: bytes, tmp_path: Path) -> None:
    suffix = path.rpartition(b"/")[2].rpartition(b".")[2].decode()

    assert told_by_name(path, tmp_path) == mimetypes.types_map.get(f".{suffix}", OCTET_STREAM)


@pytest.mark.parametrize(
    "text",
    ["Dear reader,\n", "BMW drivers\n", "MZ is not a program\n", "RIFF raff\n", "Grüße\n", "\ufeffwith a mark\n", "0", " \n"],
)
def test_plain_text_is_text_whatever_word_it_begins_with(text: str) -> None:
    assert sniff(text.encode(), "a.txt") == "text/plain"
