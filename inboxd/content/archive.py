"""ZIP archives: office documents, e-books, Java and Android packages are told apart by their entries."""

import re
import struct
from collections.abc import Iterator

from inboxd.content.reading import Reader

MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
GENERIC = "application/zip"
DIRECTORY_BYTES_MAX = 32 * 1024
"""Bytes of the central directory that are read: some hundred entries."""
ENTRIES_MAX = 500

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_CENTRAL_BYTES, _END_BYTES = 46, 22
_TAIL_BYTES = 1024
_MIMETYPE = re.compile(rb"application/[a-z0-9.+-]{1,100}")
_OFFICE = "application/vnd.openxmlformats-officedocument."

_BY_PREFIX = {
    "word/": _OFFICE + "wordprocessingml.document", "xl/": _OFFICE + "spreadsheetml.sheet",
    "ppt/": _OFFICE + "presentationml.presentation", "visio/": "application/vnd.ms-visio.drawing", "3D/": "model/3mf",
    "AndroidManifest.xml": "application/vnd.android.package-archive",
    "classes.dex": "application/vnd.android.package-archive", "FixedDocSeq.fdseq": "application/oxps",
    "FixedDocumentSequence.fdseq": "application/vnd.ms-xpsdocument", "doc.kml": "application/vnd.google-earth.kmz",
    "META-INF/MANIFEST.MF": "application/java-archive", "Payload/": "application/x-ios-app",
}  # fmt: skip
"""Content types by an entry that only such an archive has; the first that an archive has decides."""

_WITH_MACROS = {
    "word/vbaProject.bin": "application/vnd.ms-word.document.macroenabled.12",
    "xl/vbaProject.bin": "application/vnd.ms-excel.sheet.macroenabled.12",
    "ppt/vbaProject.bin": "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    "xl/workbook.bin": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
}


def zip_type(head: bytes, reader: Reader) -> str:
    """Return the content type of a ZIP archive by its first entry, or by the names in its central directory."""
    if content := _mimetype_entry(head):
        return content
    names = set(_central_names(reader)) or set(_local_names(head))
    for name, kind in _WITH_MACROS.items():
        if name in names:
            return kind
    for prefix, kind in _BY_PREFIX.items():
        if prefix in names or (prefix.endswith("/") and any(name.startswith(prefix) for name in names)):
            return kind
    return GENERIC


def _mimetype_entry(head: bytes) -> str | None:
    """Return the content of a first entry ``mimetype``, which EPUB and OpenDocument require to be stored uncompressed."""
    if head[30:38] != b"mimetype" or head[8:10] != b"\0\0":
        return None
    start = 38 + int.from_bytes(head[28:30], "little")
    length = int.from_bytes(head[18:22], "little") or 100  # unknown if a data descriptor follows
    match = _MIMETYPE.match(head[start : start + min(length, 112)])
    return match.group().decode() if match else None


def _central_names(reader: Reader) -> Iterator[str]:
    tail_start = max(0, reader.size() - _TAIL_BYTES)
    tail = reader.at(tail_start, _TAIL_BYTES)
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + _END_BYTES:
        return
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    offset = tail_start + end - length  # not the recorded offset: bytes may precede the archive
    data = reader.at(offset, min(length, DIRECTORY_BYTES_MAX)) if offset >= 0 else b""
    position = 0
    for _ in range(ENTRIES_MAX):
        if data[position : position + 4] != _CENTRAL or len(data) < position + _CENTRAL_BYTES:
            return
        name, extra, comment = struct.unpack_from("<HHH", data, position + 28)
        yield data[position + _CENTRAL_BYTES : position + _CENTRAL_BYTES + name].decode("utf-8", "replace")
        position += _CENTRAL_BYTES + name + extra + comment


def _local_names(head: bytes) -> Iterator[str]:
    """Yield the names of the entries that begin within the head, for a truncated archive."""
    position = head.find(_LOCAL)
    for _ in range(ENTRIES_MAX):
        if position < 0 or len(head) < position + 30:
            return
        length = int.from_bytes(head[position + 26 : position + 28], "little")
        yield head[position + 30 : position + 30 + length].decode("utf-8", "replace")
        position = head.find(_LOCAL, position + 30)
