"""Sound and video containers: ISO base media (MP4, HEIC), RIFF, IFF, Ogg, Matroska, MPEG frames."""

_BRANDS = {
    b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"heim": "image/heic",
    b"heis": "image/heic", b"hevc": "image/heic-sequence", b"hevx": "image/heic-sequence", b"mif1": "image/heif",
    b"msf1": "image/heif-sequence", b"crx ": "image/x-canon-cr3", b"M4A ": "audio/mp4", b"M4B ": "audio/mp4",
    b"M4P ": "audio/mp4", b"M4V ": "video/x-m4v", b"M4VH": "video/x-m4v", b"qt  ": "video/quicktime",
    b"mqt ": "video/quicktime", b"mjp2": "video/mj2", b"f4v ": "video/x-f4v", b"jp2 ": "image/jp2", b"jpx ": "image/jpx",
    b"jpm ": "image/jpm", b"jxl ": "image/jxl",
}  # fmt: skip
_HEIF_BRANDS = (b"mif1", b"msf1")
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free")

_RIFF = {
    b"WAVE": "audio/x-wav", b"AVI ": "video/x-msvideo", b"WEBP": "image/webp", b"ACON": "application/x-navi-animation",
    b"RMID": "audio/midi", b"sfbk": "audio/x-sfbk", b"CDXA": "video/mpeg",
}  # fmt: skip
_IFF = {
    b"AIFF": "audio/x-aiff", b"AIFC": "audio/x-aiff", b"ILBM": "image/x-ilbm", b"PBM ": "image/x-ilbm",
    b"8SVX": "audio/x-8svx",
}  # fmt: skip
_OGG_CODECS = (
    (b"\x80theora", "video/ogg"), (b"BBCD", "video/ogg"),
    (b"\x01vorbis", "audio/ogg"), (b"OpusHead", "audio/ogg"), (b"Speex   ", "audio/ogg"), (b"\x7fFLAC", "audio/ogg"),
)  # fmt: skip
_WEBM = b"\x42\x82\x84webm"
_TS_PACKET_BYTES = 188


def media_type(head: bytes) -> str | None:
    """Return the content type of a sound, video or picture container, None if the bytes are none."""
    start = head[:4]
    if start == b"RIFF":
        return _RIFF.get(head[8:12])
    if start in (b"RIFX", b"RF64"):
        return "audio/x-wav" if head[8:12] == b"WAVE" else None
    if start == b"FORM":
        return _IFF.get(head[8:12])
    if start == b"OggS":
        return _ogg_type(head)
    if start == b"\x1a\x45\xdf\xa3":
        return "video/webm" if _WEBM in head[:64] else "video/x-matroska"
    if start[:3] == b"ID3":
        return _tagged_type(head)
    return _iso_media_type(head) or _frame_type(head)


def _iso_media_type(head: bytes) -> str | None:
    """Return the type of ISO base media by its major brand, and for HEIF by the compatible ones, too."""
    if head[4:8] == b"jP  ":
        return _BRANDS.get(head[20:24], "image/jp2")
    if head[4:8] != b"ftyp":
        size = int.from_bytes(head[:4], "big")
        return "video/quicktime" if head[4:8] in _QUICKTIME_ATOMS and (size >= 8 or size == 1) else None  # noqa: PLR2004
    major = head[8:12]
    if major in _HEIF_BRANDS:
        length = min(int.from_bytes(head[:4], "big"), 256)
        brands = {head[offset : offset + 4] for offset in range(16, length, 4)}
        return next(
            (_BRANDS[brand] for brand in (b"avif", b"heic", b"heix") if brand in brands), _BRANDS.get(major, "image/heif")
        )
    if major[:3] == b"3gp":
        return "video/3gpp"
    return "video/3gpp2" if major[:3] == b"3g2" else _BRANDS.get(major, "video/mp4")


def _ogg_type(head: bytes) -> str:
    """Return the type by the codecs whose streams begin in the head: each stream's first page comes first."""
    starts = head[:512]
    return next((kind for codec, kind in _OGG_CODECS if codec in starts), "application/ogg")


def _tagged_type(head: bytes) -> str:
    """Return the type of the sound behind an ID3 tag, whose length has seven bits in each of four bytes."""
    length = 0
    for byte in head[6:10]:
        length = (length << 7) | (byte & 0x7F)
    behind = head[10 + length : 14 + length]
    return {b"fLaC": "audio/flac", b"MAC ": "audio/x-ape", b"TTA1": "audio/x-tta"}.get(behind, "audio/mpeg")


def _frame_type(head: bytes) -> str | None:
    """Return the type of MPEG frames or transport stream packets without a container."""
    if head[:1] == b"\x47" and head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"\x47" == head[376:377]:
        return "video/mp2t"
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - eleven bits of synchronization
        return None
    version, layer, rate = (head[1] >> 3) & 3, (head[1] >> 1) & 3, head[2] >> 4
    if layer == 0:
        return "audio/aac" if head[1] & 0xF6 == 0xF0 else None  # noqa: PLR2004 - an ADTS header
    is_valid = version != 1 and rate not in (0, 15) and (head[2] >> 2) & 3 != 3  # noqa: PLR2004 - reserved values
    return "audio/mpeg" if is_valid else None
