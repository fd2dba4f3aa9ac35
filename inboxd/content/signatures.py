"""The signatures of binary formats: bytes at a fixed offset that begin no other format."""

from typing import NamedTuple


class Signature(NamedTuple):
    """``magic`` at ``offset`` (bytes) means ``content_type``."""

    magic: bytes
    content_type: str
    offset: int = 0


_ARCHIVES = {
    b"\x1f\x8b": "application/gzip", b"BZh": "application/x-bzip2", b"\xfd7zXZ\0": "application/x-xz",
    b"\x28\xb5\x2f\xfd": "application/zstd", b"\x04\x22\x4d\x18": "application/x-lz4",
    b"\x02\x21\x4c\x18": "application/x-lz4", b"LZIP": "application/x-lzip", b"\x89LZO\0\r\n\x1a\n": "application/x-lzop",
    b"\x1f\x9d": "application/x-compress", b"LRZI": "application/x-lrzip", b"RZIP": "application/x-rzip",
    b"7z\xbc\xaf\x27\x1c": "application/x-7z-compressed", b"Rar!\x1a\x07": "application/vnd.rar",
    b"MSCF": "application/vnd.ms-cab-compressed", b"ISc(": "application/x-installshield",
    b"!<arch>\ndebian": "application/vnd.debian.binary-package", b"!<arch>\n": "application/x-archive",
    b"!<thin>\n": "application/x-archive", b"\xed\xab\xee\xdb": "application/x-rpm", b"xar!": "application/x-xar",
    b"070701": "application/x-cpio", b"070702": "application/x-cpio", b"070707": "application/x-cpio",
    b"\xc7\x71": "application/x-cpio", b"\x71\xc7": "application/x-cpio", b"\x60\xea": "application/x-arj",
    b"hsqs": "application/vnd.squashfs", b"SIT!": "application/x-stuffit", b"StuffIt": "application/x-stuffit",
    b"Cr24": "application/x-chrome-extension", b"QFI\xfb": "application/x-qemu-disk", b"KDMV": "application/x-vmdk",
    b"ITSF": "application/vnd.ms-htmlhelp", b"\xff\x06\0\0sNaPpY": "application/x-snappy-framed",
    b"conectix": "application/x-vhd", b"DMS!": "application/x-dms", b"7kSt": "application/x-zpaq",
    b"zPQ": "application/x-zpaq", b"ALZ\x01": "application/x-alz",
    b"JM\x01\0": "application/x-java-jmod", b"MSWIM\0": "application/x-ms-wim",
    b"SGA3": "application/x-stargallery-sdg", b"DOS\0": "application/x-amiga-disk-format",
}  # fmt: skip
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF87a": "image/gif", b"GIF89a": "image/gif",
    b"II*\0\x10\0\0\0CR": "image/x-canon-cr2", b"II*\0": "image/tiff", b"MM\0*": "image/tiff", b"II+\0": "image/tiff",
    b"MM\0+": "image/tiff", b"II\xbc\x01": "image/jxr", b"8BPS": "image/vnd.adobe.photoshop", b"gimp xcf": "image/x-xcf",
    b"DDS \x7c\0\0\0": "image/vnd.ms-dds", b"v/1\x01": "image/x-exr", b"qoif": "image/x-qoi", b"\x01\xda\0": "image/x-sgi",
    b"\x01\xda\x01": "image/x-sgi", b"\x59\xa6\x6a\x95": "image/x-sun-raster", b"\xd7\xcd\xc6\x9a": "image/wmf",
    b"\x01\0\x09\0\0\x03": "image/wmf", b"AT&TFORM": "image/vnd.djvu", b"\x8aMNG\r\n": "video/x-mng",
    b"\x8bJNG\r\n": "image/x-jng", b"\xff\x4f\xff\x51": "image/x-jp2-codestream", b"\0\0\0\x0cJXL \r\n\x87\n": "image/jxl",
    b"\xff\x0a\xfa": "image/jxl", b"icns": "image/x-icns", b"#?RADIANCE": "image/vnd.radiance", b"BPG\xfb": "image/bpg",
    b"\xabKTX ": "image/ktx",
}  # fmt: skip
_SOUND_AND_VIDEO = {
    b"fLaC": "audio/flac", b"MThd": "audio/midi", b".snd": "audio/basic", b"MAC ": "audio/x-ape", b"MP+": "audio/x-musepack",
    b"MPCK": "audio/x-musepack", b"wvpk": "audio/x-wavpack", b"TTA1": "audio/x-tta", b"TTA2": "audio/x-tta",
    b"tBaK": "audio/x-tak", b"DSD ": "audio/x-dsf", b"OFR ": "audio/x-ofr", b"#!AMR": "audio/amr", b"\x0b\x77": "audio/ac3",
    b"Extended Module: ": "audio/x-mod", b"IMPM": "audio/x-mod", b"Creative Voice File": "audio/x-voc",
    b"ajkg": "audio/x-shorten", b".ra\xfd": "audio/vnd.rn-realaudio", b".RMF": "application/vnd.rn-realmedia",
    b"caff": "audio/x-caf", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video/x-ms-asf", b"FLV\x01": "video/x-flv",
    b"\0\0\x01\xba": "video/mpeg", b"\0\0\x01\xb3": "video/mpeg", b"FRM8": "audio/x-dff",
    b"\x7f\xfe\x80\x01": "audio/vnd.dts",
}  # fmt: skip
_FONTS = {
    b"OTTO\0": "font/otf", b"\0\x01\0\0\0": "font/ttf", b"true\0": "font/ttf", b"ttcf\0": "font/collection",
    b"wOFF": "font/woff", b"wOF2": "font/woff2", b"\x01fcp": "application/x-font-pcf",
    b"\x80\x01": "application/x-font-type1",
}  # fmt: skip
_PROGRAMS_AND_DATA = {
    b"\0asm": "application/wasm", b"BC\xc0\xde": "application/x-llvm-bitcode",
    b"\xde\xc0\x17\x0b": "application/x-llvm-bitcode", b"dex\n": "application/vnd.android.dex",
    b"\x1bLua": "application/x-lua-bytecode", b"FWS": "application/x-shockwave-flash",
    b"CWS": "application/x-shockwave-flash", b"ZWS": "application/x-shockwave-flash",
    b"SQLite format 3\0": "application/vnd.sqlite3", b"\xd4\xc3\xb2\xa1": "application/vnd.tcpdump.pcap",
    b"\xa1\xb2\xc3\xd4": "application/vnd.tcpdump.pcap", b"\x4d\x3c\xb2\xa1": "application/vnd.tcpdump.pcap",
    b"\x0a\x0d\x0d\x0a": "application/x-pcapng", b"\x89HDF\r\n\x1a\n": "application/x-hdf5",
    b"CDF\x01": "application/x-netcdf", b"CDF\x02": "application/x-netcdf", b"PAR1": "application/vnd.apache.parquet",
    b"Obj\x01": "application/vnd.apache.avro", b"ARROW1\0\0": "application/vnd.apache.arrow.file",
    b"\0\x01\0\0Standard Jet DB": "application/x-msaccess", b"\0\x01\0\0Standard ACE DB": "application/x-msaccess",
    b"\xde\x12\x04\x95": "application/x-gettext-translation", b"\x95\x04\x12\xde": "application/x-gettext-translation",
    b"bplist00": "application/x-bplist", b"L\0\0\0\x01\x14\x02\0": "application/x-ms-shortcut",
    b"ElfFile\0": "application/x-ms-evtx", b"regf": "application/x-ms-registry", b"?_\x03\0": "application/winhlp",
    b"AC10": "image/vnd.dwg", b"NES\x1a": "application/x-nes-rom",
    b"\0\0\x27\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0": "application/vnd.shp", b"\xf7\x02": "application/x-dvi",
    b"\x93NUMPY": "application/x-numpy-data", b"PACK\0\0\0\x02": "application/x-git", b"DIRC\0\0\0": "application/x-git",
    b"%PDF-": "application/pdf", b"\xef\xbb\xbf%PDF-": "application/pdf", b"%!PS": "application/postscript",
    b"\xc5\xd0\xd3\xc6": "image/x-eps", b"\x04%!PS": "application/postscript", b"\x1b%-12345X": "application/vnd.hp-PCL",
    b"\x1bE\x1b": "application/vnd.hp-PCL", b"{\\rtf": "application/rtf", b"d8:announce": "application/x-bittorrent",
    b"GGUF": "application/x-gguf", b"\x1a\x01": "application/x-terminfo", b"\x1e\x02": "application/x-terminfo2",
}  # fmt: skip

_AT_OFFSETS = (
    Signature(b"ustar", "application/x-tar", 257),
    Signature(b"DICM", "application/dicom", 128),
    Signature(b"BOOKMOBI", "application/x-mobipocket-ebook", 60),
    Signature(b"TEXtREAd", "application/vnd.palm", 60),
    Signature(b"acsp", "application/vnd.iccprofile", 36),
    Signature(b" EMF", "image/emf", 40),
    Signature(b"LP", "application/vnd.ms-fontobject", 34),
    Signature(b"**ACE**", "application/x-ace", 7),
    Signature(b"\xdc\xa7\xc4\xfd", "application/x-zoo", 20),
    Signature(b"SCRM", "audio/x-mod", 44),
    Signature(b"M.K.", "audio/x-mod", 1080),
    Signature(b"\x53\xef", "application/x-raw-disk-image", 1080),
)
"""Formats without a signature at their beginning."""

_KEY_BYTES = 2


def _index(*tables: dict[bytes, str]) -> dict[bytes, tuple[Signature, ...]]:
    """Return the signatures by their first two bytes, longer ones first."""
    index: dict[bytes, tuple[Signature, ...]] = {}
    pairs = [pair for table in tables for pair in table.items()]
    for magic, content_type in sorted(pairs, key=lambda pair: -len(pair[0])):
        key = magic[:_KEY_BYTES]
        index[key] = (*index.get(key, ()), Signature(magic, content_type))
    return index


_BY_START = _index(_ARCHIVES, _IMAGES, _SOUND_AND_VIDEO, _FONTS, _PROGRAMS_AND_DATA)


def find_signature(head: bytes) -> str | None:
    """Return the content type of the signature at a file's beginning."""
    for signature in _BY_START.get(head[:_KEY_BYTES], ()):
        if head.startswith(signature.magic):
            return signature.content_type
    return None


def find_late_signature(head: bytes) -> str | None:
    """Return the content type of a signature behind a file's beginning."""
    for magic, content_type, offset in _AT_OFFSETS:
        if head.startswith(magic, offset):
            return content_type
    return None
