"""Binary formats without a signature whose headers say how long they are, or whose fields fit together."""

_TFM_WORDS = 12
_DBASE_VERSIONS = (0x02, 0x03, 0x04, 0x05, 0x30, 0x31, 0x32, 0x43, 0x63, 0x83, 0x8B, 0x8C, 0xCB, 0xF5, 0xFB)
_DBASE_FIELDS = (b"C", b"N", b"D", b"L", b"M", b"F", b"I")
_DBASE_HEADER_MIN = 64
_COFF_MACHINES = (0x014C, 0x8664, 0xAA64, 0x01C4, 0x0200)
_COFF_SECTIONS_MAX = 500
_SECTION_NAMES = (b".text", b".data", b".bss", b".rdata", b".file", b".debug", b".drectv", b".idata", b"/")
_KEY_VERSIONS = (2, 3, 4, 5, 6)
_ARC_METHODS_MAX = 11
_ARC_NAME_AT = 2
_JUMPS = (b"\xeb", b"\xe9", b"\xcb")
_NAME_MAX = 256


def sized_type(head: bytes) -> str | None:
    """Return the content type of such a format, None if none fits."""
    for kind, fits in _FORMATS.items():
        if fits(head):
            return kind
    return None


def _is_font_metric(head: bytes) -> bool:
    """Look at TeX's twelve 16-bit numbers: the first is the sum of the others, in words of four bytes."""
    numbers = [int.from_bytes(head[at : at + 2], "big") for at in range(0, 2 * _TFM_WORDS, 2)]
    lf, lh, bc, ec, *others = numbers
    return len(head) >= 2 * _TFM_WORDS and lf > 0 and bc <= ec + 1 and ec < 256 and lf == 6 + lh + ec - bc + 1 + sum(others)  # noqa: PLR2004


def _is_printer_font_metric(head: bytes) -> bool:
    return head[:2] == b"\0\1" and int.from_bytes(head[2:6], "little") == len(head)


def _is_dbase(head: bytes) -> bool:
    """Look at the version, the day of the last change, and the header: 32 bytes for each field, then a carriage return."""
    if len(head) < 64 or head[0] not in _DBASE_VERSIONS or not (0 < head[2] <= 12 and 0 < head[3] <= 31):  # noqa: PLR2004
        return False
    length = int.from_bytes(head[8:10], "little")
    has_end = length > _DBASE_HEADER_MIN and head[length - 1 : length] in (b"\r", b"")
    return has_end and head[43:44] in _DBASE_FIELDS


def _is_object_file(head: bytes) -> bool:
    """Look for Windows' COFF: a machine, few sections, no optional header, and the name of the first section."""
    machine, sections = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    is_header = machine in _COFF_MACHINES and 0 < sections <= _COFF_SECTIONS_MAX and head[16:18] == b"\0\0"
    return is_header and head[20:28].startswith(_SECTION_NAMES)


def _is_keyring(head: bytes) -> bool:
    """Look for the packet of an OpenPGP public key: a length of one or two bytes, then a known version."""
    version_at = {0x98: 2, 0x99: 3}.get(head[0])
    return version_at is not None and len(head) > version_at and head[version_at] in _KEY_VERSIONS


def _is_arc(head: bytes) -> bool:
    return (
        head[:1] == b"\x1a"
        and len(head) > _ARC_NAME_AT
        and 0 < head[1] <= _ARC_METHODS_MAX
        and _is_name(head[_ARC_NAME_AT:15].partition(b"\0")[0])
    )


def _is_gallery(head: bytes) -> bool:
    """Look for StarOffice's gallery: its version, and the length of its name."""
    length = int.from_bytes(head[2:4], "little")
    return head[:2] == b"\4\0" and 0 < length < _NAME_MAX and len(head) > 4 + length and _is_name(head[4 : 4 + length])


def _is_option_rom(head: bytes) -> bool:
    return head[:2] == b"\x55\xaa" and head[2:3] > b"\0" and head[3:4] in _JUMPS


def _is_name(name: bytes) -> bool:
    return bool(name) and name.isascii() and name.decode("ascii").isprintable()


_FORMATS = {
    "application/x-tex-tfm": _is_font_metric,
    "application/x-font-pfm": _is_printer_font_metric,
    "application/x-dbf": _is_dbase,
    "application/x-coff": _is_object_file,
    "application/pgp-keys": _is_keyring,
    "application/x-arc": _is_arc,
    "application/x-stargallery-thm": _is_gallery,
    "application/x-ibm-rom": _is_option_rom,
}
