"""Formats without a signature: each is known by fields that fit together, and by no less."""

import io
import struct

import pytest

from inboxd.content.detect import detect
from inboxd.content.names import OCTET_STREAM

TFM = struct.pack(">12H", 12 + 6 + 2 - 6, 2, 0, 5, 1, 1, 1, 1, 0, 0, 0, 0)
TFM_WHOLE = struct.pack(">12H", 6 + 2 + 6 + 4, 2, 0, 5, 1, 1, 1, 1, 0, 0, 0, 0) + bytes(48)
PFM = struct.pack("<HI", 0x0100, 100) + bytes(94)
DBASE = struct.pack("<4BIHH20x", 3, 126, 11, 30, 7, 65, 12) + b"NAME\0\0\0\0\0\0\0C" + bytes(20) + b"\r" + b" Lee        "
COFF = struct.pack("<HHIIIHH", 0x8664, 3, 0, 200, 4, 0, 4) + b".text\0\0\0" + bytes(32)
KEYRING = b"\x99\x01\x0d\x04\x57\x43\x37\x50\x01" + bytes(200)
ARC = b"\x1a\x02t.txt\0" + bytes(30)
GALLERY = b"\x04\0\x06\0sounds#" + bytes(40)
FORMATS = {
    "application/x-tex-tfm": TFM_WHOLE, "application/x-font-pfm": PFM, "application/x-dbf": DBASE, "application/x-coff": COFF,
    "application/pgp-keys": KEYRING, "application/x-arc": ARC, "application/x-stargallery-thm": GALLERY,
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_is_known_by_its_fields(kind: str) -> None:
    assert detect(io.BytesIO(FORMATS[kind])) == kind


@pytest.mark.parametrize("data", [
    TFM, PFM + b"\0", DBASE.replace(b"\x0b\x1e", b"\x0d\x1e", 1), COFF.replace(b".text", b"\1text"),
    KEYRING.replace(b"\x04", b"\x09", 1), b"\x1a\x02\0" + bytes(30), b"\x04\0\xff\xff" + bytes(40),
])  # fmt: skip
def test_what_fits_only_in_part_is_not_taken_for_it(data: bytes) -> None:
    assert detect(io.BytesIO(data)) == OCTET_STREAM


@pytest.mark.parametrize("data", FORMATS.values())
def test_a_cut_file_raises_nothing(data: bytes) -> None:
    assert all(detect(io.BytesIO(data[:length])) for length in range(len(data)))
