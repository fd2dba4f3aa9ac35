"""OLE2 documents (Word, Excel, PowerPoint before 2007, Outlook messages, Windows installers): told apart by their directory.

The layout is that of [MS-CFB]: a header, sectors chained by an allocation table, and a directory of 128-byte entries.
"""

from inboxd.content.reading import Reader

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
GENERIC = "application/x-ole-storage"
SECTORS_MAX = 16
"""Directory sectors that are read: 64 entries at the usual size; the streams that tell the format are among the first."""

_ENTRY_BYTES = 128
_END_OF_CHAIN = 0xFFFFFFFA
_HEADER_TABLE_ENTRIES = 109

_BY_CLASS = {
    "00020810": "application/vnd.ms-excel", "00020820": "application/vnd.ms-excel", "00020900": "application/msword",
    "00020906": "application/msword", "64818d10": "application/vnd.ms-powerpoint",
    "64818d11": "application/vnd.ms-powerpoint", "00020d0b": "application/vnd.ms-outlook", "000c1084": "application/x-msi",
    "000c1086": "application/x-msi", "00021a13": "application/vnd.visio", "00021a14": "application/vnd.visio",
    "00021201": "application/x-mspublisher", "74b78f3a": "application/vnd.ms-project",
}  # fmt: skip
"""Content types by the first part of the root entry's class id."""

_BY_STREAM = {
    "WordDocument": "application/msword", "PowerPoint Document": "application/vnd.ms-powerpoint",
    "Workbook": "application/vnd.ms-excel", "WORKBOOK": "application/vnd.ms-excel", "Book": "application/vnd.ms-excel",
    "__properties_version1.0": "application/vnd.ms-outlook", "VisioDocument": "application/vnd.visio",
    "Quill": "application/x-mspublisher", "HwpSummaryInformation": "application/x-hwp",
    "\x05HwpSummaryInformation": "application/x-hwp", "EncryptedPackage": "application/encrypted",
    "PerfectOffice_MAIN": "application/vnd.wordperfect", "MatOST": "application/vnd.ms-works", "Catalog": "image/x-thumbs-db",
    "\u4840\u3f7f\u4164\u422f\u4836": "application/x-msi",
}  # fmt: skip
"""Content types by the name of a stream or storage; Windows installers encode their tables' names."""


def ole2_type(header: bytes, reader: Reader) -> str:
    """Return the content type of an OLE2 document by its root's class id and its directory's names."""
    names: set[str] = set()
    for sector in _directory_sectors(header, reader):
        for start in range(0, len(sector) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
            entry = sector[start : start + _ENTRY_BYTES]
            if entry[66] == 5 and (by_class := _BY_CLASS.get(_class_id(entry))):  # noqa: PLR2004 - the root entry's type
                return by_class
            length = min(int.from_bytes(entry[64:66], "little"), 64)
            names.add(entry[: max(0, length - 2)].decode("utf-16-le", "replace"))
    return next((kind for stream, kind in _BY_STREAM.items() if stream in names), GENERIC)


def _class_id(entry: bytes) -> str:
    return f"{int.from_bytes(entry[80:84], 'little'):08x}"


def _directory_sectors(header: bytes, reader: Reader) -> list[bytes]:
    """Return the first sectors of the directory; fewer if the chain is broken or runs in a circle."""
    shift = int.from_bytes(header[30:32], "little")
    if shift not in (9, 12):
        return []
    sector = int.from_bytes(header[48:52], "little")
    seen: list[int] = []
    found: list[bytes] = []
    while sector < _END_OF_CHAIN and sector not in seen and len(seen) < SECTORS_MAX:
        seen.append(sector)
        found.append(reader.at((sector + 1) << shift, 1 << shift))
        sector = _next_sector(sector, header, shift, reader)
    return found


def _next_sector(sector: int, header: bytes, shift: int, reader: Reader) -> int:
    per_sector = 1 << (shift - 2)
    table, position = divmod(sector, per_sector)
    if table >= _HEADER_TABLE_ENTRIES:
        return _END_OF_CHAIN
    table_sector = int.from_bytes(header[76 + 4 * table : 80 + 4 * table], "little")
    if table_sector >= _END_OF_CHAIN:
        return _END_OF_CHAIN
    following = reader.at(((table_sector + 1) << shift) + 4 * position, 4)
    return int.from_bytes(following, "little") if len(following) == 4 else _END_OF_CHAIN  # noqa: PLR2004 - a truncated table
