"""Binary formats whose signature is short or absent: several fields of their headers must be plausible."""

import re

_BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_PORTABLE = re.compile(rb"P([456])\s(?:#[^\n]*\n)*\s*\d{1,9}\s+(?:#[^\n]*\n)*\d{1,9}\s")
_PORTABLE_KINDS = {b"4": "image/x-portable-bitmap", b"5": "image/x-portable-graymap", b"6": "image/x-portable-pixmap"}
_LHA = re.compile(rb"-l[hz][0-9ds]-|-pm[0-9]-")
_TARGA_KINDS = (1, 2, 3, 9, 10, 11)
_TARGA_DEPTHS = (8, 15, 16, 24, 32)
_ZLIB = (0x01, 0x5E, 0x9C, 0xDA)
_FLIC = {0xAF11: "video/x-fli", 0xAF12: "video/x-flc"}


def loose_type(head: bytes) -> str | None:
    """Return the content type of a format without a safe signature, None if none fits."""
    if portable := _PORTABLE.match(head):
        return _PORTABLE_KINDS[portable.group(1)]
    if head[:2] == b"BM" and _number(head, 14, 4) in _BITMAP_HEADERS:
        return "image/bmp"
    if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:  # noqa: PLR2004 - a frame to be skipped, which may come first
        return "application/zstd"
    if _LHA.match(head, 2):
        return "application/x-lzh-compressed"
    if flic := _FLIC.get(_number(head, 4, 2)):
        return flic
    return _icon_type(head) or _old_archive_type(head) or _picture_type(head)


def _icon_type(head: bytes) -> str | None:
    """Return icon or cursor: a count of pictures, and the first one's place behind the directory."""
    count, kind = _number(head, 4, 2), _number(head, 2, 2)
    if head[:2] != b"\0\0" or not 0 < count < 100 or kind not in (1, 2) or head[9:10] not in (b"\0", b"\xff"):  # noqa: PLR2004
        return None
    is_placed = 6 + 16 * count <= _number(head, 18, 4) and _number(head, 14, 4) > 0
    return ("image/vnd.microsoft.icon" if kind == 1 else "image/x-win-bitmap") if is_placed else None


def _old_archive_type(head: bytes) -> str | None:
    if _is_old_tar(head):
        return "application/x-tar"
    if head[:3] == b"\x5d\0\0" and len(head) > 13 and head[13:14] == b"\0":  # noqa: PLR2004 - behind the header
        return "application/x-lzma"
    if len(head) > 2 and head[0] == 0x78 and head[1] in _ZLIB:  # noqa: PLR2004 - deflate with a window of 32 KiB
        return "application/zlib"
    return None


def _is_old_tar(head: bytes) -> bool:
    """Tell whether a block is the header of a tar without "ustar": its checksum is right."""
    if len(head) < 512 or not head[0]:  # noqa: PLR2004 - a block
        return False
    try:
        recorded = int(head[148:156].strip(b" \0") or b"-", 8)
    except ValueError:
        return False
    return recorded == sum(head[:148]) + 8 * 32 + sum(head[156:512])


def _picture_type(head: bytes) -> str | None:
    """Return PCX or Targa by versions, depths and sizes in range."""
    if len(head) < 18:  # noqa: PLR2004 - Targa's header
        return None
    if head[0] == 10 and head[1] in (0, 2, 3, 4, 5) and head[2] == 1 and head[3] in (1, 2, 4, 8):  # noqa: PLR2004
        return "image/vnd.zbrush.pcx"
    width, height = _number(head, 12, 2), _number(head, 14, 2)
    has_palette = head[1] == 1
    if head[1] > 1 or head[2] not in _TARGA_KINDS or head[16] not in _TARGA_DEPTHS or not width or not height:
        return None
    if has_palette != (head[2] & 7 == 1) or (not has_palette and any(head[3:8])) or head[17] & 0xC0:
        return None
    return "image/x-tga"


def _number(head: bytes, offset: int, size: int) -> int:
    return int.from_bytes(head[offset : offset + size], "little")
