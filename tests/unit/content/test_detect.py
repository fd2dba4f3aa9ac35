"""Content types are detected by the content; the name decides only between formats that look the same."""

import bz2
import csv
import gzip
import io
import json
import lzma
import marshal
import sqlite3
import struct
import tarfile
import time
import wave
import zipfile
import zlib
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from inboxd.content.detect import EMPTY, detect
from inboxd.content.names import OCTET_STREAM
from inboxd.content.reading import HEAD_BYTES
from inboxd.content.text import TEXT

OLE2 = "application/x-ole-storage"
OFFICE = "application/vnd.openxmlformats-officedocument."
WORD = OFFICE + "wordprocessingml.document"
ODT = "application/vnd.oasis.opendocument.text"


def detected(data: bytes, name: str = "") -> str:
    return detect(io.BytesIO(data), name)


def zipped(*names: str, mimetype: str = "") -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        if mimetype:
            writer.writestr("mimetype", mimetype, zipfile.ZIP_STORED)
        for name in names:
            writer.writestr(name, name * 100)
    return archive.getvalue()


def ole2(*names: str, class_id: int = 0, directory_at: int = 1) -> bytes:
    """Return an OLE2 file with 512-byte sectors: the allocation table is sector 0, and the directory's sectors are a chain."""
    entries = [("Root Entry", 5, class_id), *((name, 2, 0) for name in names)]
    directory = b"".join(
        name.encode("utf-16-le").ljust(64, b"\0") + struct.pack("<HB13xL44x", len(name.encode("utf-16-le")) + 2, kind, class_)
        for name, kind, class_ in entries
    )
    sectors = [directory[start : start + 512].ljust(512, b"\0") for start in range(0, len(directory), 512)]
    places = [directory_at + 2 * index for index in range(len(sectors))]  # not one behind the other
    table = [0xFFFFFFFF] * 128
    for place, following in zip(places, [*places[1:], 0xFFFFFFFE], strict=True):
        table[place] = following
    data = bytearray(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0"))
    data[30:32] = struct.pack("<H", 9)
    data[48:52] = struct.pack("<L", places[0])
    data[76:512] = struct.pack("<L", 0) + b"\xff" * 432
    data += struct.pack("<128L", *table)
    for place, sector in zip(places, sectors, strict=True):
        data += b"\0" * ((place + 1) * 512 - len(data)) + sector
    return bytes(data)


def elf(kind: int, *, big: bool = False, interpreter: bool = False) -> bytes:
    order = ">" if big else "<"
    head = b"\x7fELF\x02" + (b"\2" if big else b"\1") + b"\1" + bytes(9)
    header = head + struct.pack(order + "HHLQQQLHHHHHH", kind, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    return (
        header
        + struct.pack(order + "L", 6).ljust(56, b"\0")
        + struct.pack(order + "L", 3 if interpreter else 1).ljust(56, b"\0")
    )


def windows_program() -> bytes:
    return b"MZ".ljust(60, b"\0") + struct.pack("<L", 128) + bytes(64) + b"PE\0\0" + bytes(100)


def iso_media(major: bytes, *brands: bytes) -> bytes:
    content = b"ftyp" + major + bytes(4) + b"".join(brands)
    return struct.pack(">L", len(content) + 4) + content + b"\0\0\0\x08mdat"


def font(magic: bytes) -> bytes:
    return magic + struct.pack(">HHHH", 10, 128, 3, 32) + b"OS/2" + bytes(200)


def ogg(codec: bytes) -> bytes:
    return b"OggS\0\2" + bytes(20) + b"\1\x1e" + codec + bytes(30)


def tar(kind: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=kind) as writer:
        writer.addfile(tarfile.TarInfo("a.txt"))
    return archive.getvalue()


def old_tar() -> bytes:
    block = bytearray(tar(tarfile.USTAR_FORMAT)[:512])
    block[257:265] = bytes(8)
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block) + bytes(1024)


def wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 1, 8000, 10, "NONE", ""))
        writer.writeframes(bytes(10))
    return file.getvalue()


def database(folder: Path) -> bytes:
    with sqlite3.connect(folder / "a") as connection:
        connection.execute("create table a (b)")
    connection.close()
    return (folder / "a").read_bytes()


TABLE = "Name;Straße;Ort\nMüller;Gänseweg 1;Köln\nGroß;Ring 2;Jülich\n"
MAIL = b"Received: from a by b; Mon, 30 Nov 2026 06:00:00 +0000\r\nFrom: a@example.org\r\nSubject: x\r\n\r\nhello\r\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
XHTML = b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><head/></html>'

BINARY: dict[str, tuple[bytes, str]] = {
    "a Windows program": (windows_program(), "application/vnd.microsoft.portable-executable"),
    "a DOS program": (b"MZ" + bytes(100), "application/x-dosexec"),
    "an ELF program": (elf(2), "application/x-executable"),
    "a position-independent ELF program": (elf(3, interpreter=True), "application/x-pie-executable"),
    "an ELF library": (elf(3), "application/x-sharedlib"),
    "a big-endian ELF object": (elf(1, big=True), "application/x-object"),
    "a Mach-O program": (b"\xcf\xfa\xed\xfe\x07\0\0\1" + bytes(50), "application/x-mach-binary"),
    "a universal Mach-O program": (b"\xca\xfe\xba\xbe\0\0\0\2" + bytes(50), "application/x-mach-binary"),
    "a Java class": (b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(50), "application/java-vm"),
    "Python byte code": (MAGIC_NUMBER + bytes(12) + marshal.dumps(compile("1", "a", "exec")), "application/x-bytecode.python"),
    "WebAssembly": (b"\0asm\1\0\0\0", "application/wasm"),
    "a ZIP": (zipped("a.txt", "b/c.txt"), "application/zip"),
    "an empty ZIP": (zipped(), "application/zip"),
    "a Word document": (zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"), WORD),
    "a Word document in any order": (zipped("docProps/app.xml", "custom/a", "word/document.xml"), WORD),
    "an Excel workbook": (zipped("[Content_Types].xml", "xl/workbook.xml"), OFFICE + "spreadsheetml.sheet"),
    "an Excel workbook with macros": (
        zipped("[Content_Types].xml", "xl/workbook.xml", "xl/vbaProject.bin"), "application/vnd.ms-excel.sheet.macroenabled.12",
    ),
    "a presentation": (zipped("[Content_Types].xml", "ppt/presentation.xml"), OFFICE + "presentationml.presentation"),
    "an OpenDocument text": (zipped("a", mimetype=ODT), ODT),
    "an e-book": (zipped("META-INF/container.xml", mimetype="application/epub+zip"), "application/epub+zip"),
    "a Java archive": (zipped("META-INF/MANIFEST.MF", "a.class"), "application/java-archive"),
    "an Android package": (zipped("AndroidManifest.xml", "META-INF/MANIFEST.MF"), "application/vnd.android.package-archive"),
    "a truncated Word document": (zipped("_rels/.rels", "word/document.xml")[:-60], WORD),
    "a self-extracting ZIP's tail": (b"#!/bin/sh\n\0" + zipped("a"), OCTET_STREAM),
    "an old Word document": (ole2("\1CompObj", "WordDocument"), "application/msword"),
    "an old Word document with a scattered directory": (ole2(*map(str, range(9)), "WordDocument"), "application/msword"),
    "an old Excel workbook": (ole2("Workbook"), "application/vnd.ms-excel"),
    "an old Excel workbook by its class": (ole2(class_id=0x00020820), "application/vnd.ms-excel"),
    "an old presentation": (ole2("Current User", "PowerPoint Document"), "application/vnd.ms-powerpoint"),
    "an Outlook message": (ole2("__nameid_version1.0", "__properties_version1.0"), "application/vnd.ms-outlook"),
    "a Windows installer": (ole2(class_id=0x000C1084), "application/x-msi"),
    "another OLE2 file": (ole2("Contents"), OLE2),
    "a HEIC picture": (iso_media(b"heic", b"mif1"), "image/heic"),
    "a HEIC picture by a compatible brand": (iso_media(b"mif1", b"mif1", b"heic"), "image/heic"),
    "an AVIF picture": (iso_media(b"avif", b"mif1"), "image/avif"),
    "an AVIF picture by a compatible brand": (iso_media(b"mif1", b"miaf", b"avif"), "image/avif"),
    "an MP4 video": (iso_media(b"isom", b"mp41"), "video/mp4"),
    "a QuickTime video": (iso_media(b"qt  "), "video/quicktime"),
    "an M4A sound": (iso_media(b"M4A ", b"mp42"), "audio/mp4"),
    "a 3GPP video": (iso_media(b"3gp5"), "video/3gpp"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "image/jp2"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
    "GIF": (b"GIF89a\1\0\1\0\0\0", "image/gif"),
    "TIFF": (b"II*\0\x08\0\0\0", "image/tiff"),
    "a bitmap": (b"BM" + struct.pack("<LLLL", 100, 0, 54, 40) + bytes(60), "image/bmp"),
    "an icon": (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + bytes(40), "image/vnd.microsoft.icon"),
    "WebP": (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
    "a TrueType font": (font(b"\0\1\0\0"), "font/ttf"),
    "an OpenType font": (font(b"OTTO"), "font/otf"),
    "WOFF": (b"wOFF\0\1\0\0" + bytes(40), "font/woff"),
    "WOFF 2": (b"wOF2\0\1\0\0" + bytes(40), "font/woff2"),
    "gzip": (gzip.compress(b"a", mtime=0), "application/gzip"),
    "bzip2": (bz2.compress(b"a"), "application/x-bzip2"),
    "xz": (lzma.compress(b"a"), "application/x-xz"),
    "lzma": (lzma.compress(b"a", lzma.FORMAT_ALONE), "application/x-lzma"),
    "zlib": (zlib.compress(b"aaaa" * 99), "application/zlib"),
    "Zstandard": (b"\x28\xb5\x2f\xfd\x04\x58\x09\0\0a", "application/zstd"),
    "Zstandard behind a frame to be skipped": (b"\x50\x2a\x4d\x18\4\0\0\0abcd\x28\xb5\x2f\xfd", "application/zstd"),
    "a GNU tar": (tar(tarfile.GNU_FORMAT), "application/x-tar"),
    "a POSIX tar": (tar(tarfile.PAX_FORMAT), "application/x-tar"),
    "a tar of Unix V7": (old_tar(), "application/x-tar"),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c\0\4", "application/x-7z-compressed"),
    "RAR": (b"Rar!\x1a\x07\1\0", "application/vnd.rar"),
    "a Debian package": (b"!<arch>\ndebian-binary   \0", "application/vnd.debian.binary-package"),
    "an RPM package": (b"\xed\xab\xee\xdb\3\0", "application/x-rpm"),
    "a disc image": (bytes(32769) + b"CD001" + bytes(2000), "application/x-iso9660-image"),
    "Ogg Vorbis": (ogg(b"\1vorbis"), "audio/ogg"),
    "Ogg Theora": (ogg(b"\x80theora"), "video/ogg"),
    "WebM": (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm\0", "video/webm"),
    "Matroska": (b"\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska\0", "video/x-matroska"),
    "WAV": (wav(), "audio/x-wav"),
    "AVI": (b"RIFF\x24\0\0\0AVI LIST", "video/x-msvideo"),
    "FLAC": (b"fLaC\0\0\0\x22", "audio/flac"),
    "FLAC behind an ID3 tag": (b"ID3\4\0\0\0\0\0\4abcdfLaC\0", "audio/flac"),
    "MP3 with a tag": (b"ID3\4\0\0\0\0\0\4abcd\xff\xfb\x90\0", "audio/mpeg"),
    "MP3 without a tag": (b"\xff\xfb\x90\x64\0" + bytes(50), "audio/mpeg"),
    "MIDI": (b"MThd\0\0\0\6\0\1", "audio/midi"),
    "a packet capture": (b"\xd4\xc3\xb2\xa1\2\0\4\0", "application/vnd.tcpdump.pcap"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\0", "application/pdf"),
    "a cpio archive": (b"070701" + b"0" * 104 + b"a\0", "application/x-cpio"),
    "DjVu": (b"AT&TFORM\0\0\1\0DJVM", "image/vnd.djvu"),
    "other bytes": (bytes(range(256)), OCTET_STREAM),
    "text with a zero": (b"text\0and more", OCTET_STREAM),
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_format_is_detected_by_its_content(name: str) -> None:
    data, content_type = BINARY[name]

    assert detected(data) == content_type
    assert detected(data, "a.txt") == content_type


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"hello, world\n", TEXT),
        ("grüße, 世界 🙂".encode(), TEXT),
        ("Grüße aus Köln\n".encode("latin-1"), TEXT),
        ("\ufeffGrüße\n".encode(), TEXT),
        ("\ufeffGrüße\n".encode("utf-16-le"), TEXT),
        ("\ufeffGrüße\n".encode("utf-32-be"), TEXT),
        ("\ufeff<?xml version='1.0'?><a/>".encode("utf-16-le"), "text/xml"),
        (TABLE.encode(), "text/csv"),
        (TABLE.encode("latin-1"), "text/csv"),
        (TABLE.replace(";", "\t").encode(), "text/tab-separated-values"),
        (b'a,b\n"1, or 2",3\n4,5\n', "text/csv"),
        (b"first, a line\nthen, another\nand, a third\n", TEXT),
        (b"int a;\nint b;\nint c;\n", TEXT),
        (b'{"a": [1, 2.5, null]}', "application/json"),
        (b" [1, 2]\n", "application/json"),
        (b'{"a": 1}\n{"a": 2}\n', "application/x-ndjson"),
        (b"{not json}", TEXT),
        (b"[section]\nkey = 1\n", TEXT),
        (MAIL, "message/rfc822"),
        (b"From a@example.org Mon Nov 30 06:00:00 2026\n" + MAIL, "message/rfc822"),
        (b"To: do\nSubject: a note\n", TEXT),
        (b'<?xml version="1.0" standalone="yes"?><a/>', "text/xml"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><a/>', "text/xml"),
        (b'<?xml version="1.0"?><!-- a --><!DOCTYPE svg>' + SVG, "image/svg+xml"),
        (SVG, "image/svg+xml"),
        (b"<!DOCTYPE html><html></html>", "text/html"),
        (b"<HTML><BODY>", "text/html"),
        (XHTML, "application/xhtml+xml"),
        (b'<feed xmlns="http://www.w3.org/2005/Atom"/>', "application/atom+xml"),
        (b'<?xml version="1.0"?><rss version="2.0"/>', "application/rss+xml"),
        (b"<not markup, but text", TEXT),
        (b"#!/bin/sh\n", "text/x-shellscript"),
        (b"#!/usr/bin/env -S python3 -u\n", "text/x-python"),
        (b"#! /usr/bin/perl -w\n", "text/x-perl"),
        (b"%!PS-Adobe-3.0\n", "application/postscript"),
        (b"{\\rtf1\\ansi}", "application/rtf"),
        (b"%PDF-1.4\nonly text", "application/pdf"),
        (b"BEGIN:VCALENDAR\r\n", "text/calendar"),
        (b"P1\n2 2\n0 1 1 0\n", "image/x-portable-bitmap"),
        (b'msgid ""\nmsgstr ""\n', "text/x-po"),
    ],
)  # fmt: skip
def test_a_text_format_is_detected_by_its_content(data: bytes, content_type: str) -> None:
    assert detected(data) == content_type
    assert detected(data, "a.txt") == content_type


@pytest.mark.parametrize(
    "text",
    ["Dear reader,\n", "BMW drivers\n", "MZ is not a program\n", "RIFF raff\n", "PK is short for public key\n", "ID3 tags\n",
     "BZh\n", "GIF89a is a format\n", "0", " \n", "fLaC", "II* is a sign\n"],
)  # fmt: skip
def test_text_that_begins_like_a_binary_format_is_text(text: str) -> None:
    assert detected(text.encode(), "a.txt") == TEXT


@pytest.mark.parametrize(
    ("data", "name", "content_type"),
    [
        (b"a,b\n", "a.csv", "text/csv"),
        (b"# Title\n", "sub/README.MD", "text/markdown"),
        (b"import os\n", "a.py", "text/x-python"),
        (b"#!/bin/sh\n", "a.py", "text/x-python"),
        (b"<a/>", "a.xml", "text/xml"),
        (b"hello\n", "a.pdf", TEXT),
        (b"hello\n", "a.png", TEXT),
        (b"hello\n", "a.zip", TEXT),
        (b"%PDF-1.7\n\0", "a.txt", "application/pdf"),
        (b"%PDF-1.7\n\0", "a.csv", "application/pdf"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\0", "a.wma", "audio/x-ms-wma"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\0", "a.jpg", "video/x-ms-asf"),
        (b'{"a": 1}', "a.txt", "application/json"),
        (b"", "a.pdf", EMPTY),
    ],
)
def test_the_name_decides_only_between_formats_that_look_the_same(data: bytes, name: str, content_type: str) -> None:
    assert detected(data, name) == content_type


@pytest.mark.parametrize("name", ["", ".", "a.", "a/b.pdf", "\udcff.pdf", "a.\udcff", "a\0b", "a" * 300, "data:text/html,x"])
def test_an_unusual_name_changes_nothing(name: str) -> None:
    assert detected(b"%PDF-1.7\n\0", name) == "application/pdf"
    assert detected(b"hello\n", name) == TEXT


@pytest.mark.parametrize("character", ["é", "世", "🙂"])
@pytest.mark.parametrize("offset", range(4))
def test_text_is_recognized_although_the_cut_splits_a_character(character: str, offset: int) -> None:
    assert detected(b"a" * offset + character.encode() * HEAD_BYTES) == TEXT


@pytest.mark.parametrize("cut", range(HEAD_BYTES - 40, HEAD_BYTES))
def test_json_is_recognized_wherever_the_head_ends(cut: int) -> None:
    values = json.dumps([{"a b": 'x "y"', "c": [1.5e3, True, None, False]}] * 2000).encode()
    start = b'{"' + b"n" * (cut - 6000) + b'": '

    assert detected(start + values) == "application/json"


def test_a_table_larger_than_the_head_is_a_table() -> None:
    text = io.StringIO()
    csv.writer(text).writerows([n, f"name {n}, first", n * 1.5] for n in range(2000))

    assert detected(text.getvalue().encode()) == "text/csv"


def test_bytes_without_zeros_and_words_are_no_text() -> None:
    assert detected(bytes(range(128, 256)) * 4) == OCTET_STREAM


def test_the_position_of_the_stream_stays() -> None:
    stream = io.BytesIO(zipped("word/document.xml"))
    stream.seek(7)

    assert detect(stream, "a").endswith("wordprocessingml.document")
    assert stream.tell() == 7


def test_a_database_is_detected(tmp_path: Path) -> None:
    assert detected(database(tmp_path)) == "application/vnd.sqlite3"


class CountingStream(io.BytesIO):
    """A stream that counts its reads, and what they return."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads, self.total = 0, 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads, self.total = self.reads + 1, self.total + len(data)
        return data


@pytest.mark.parametrize("name", BINARY)
def test_reading_is_bounded(name: str) -> None:
    stream = CountingStream(BINARY[name][0] + bytes(1_000_000))

    detect(stream)

    assert stream.reads < 40
    assert stream.total < 64 * 1024


@pytest.mark.parametrize(
    "data",
    [
        ole2("a", directory_at=1)[:1024] + bytes(512),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\xff" * 600,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(22) + b"\x0c\0" + bytes(600),
        ole2("a").replace(struct.pack("<L", 0xFFFFFFFE), struct.pack("<L", 1)),
        ole2("a").replace(struct.pack("<L", 0xFFFFFFFE), struct.pack("<L", 0xFFFFFF00)),
    ],
    ids=["no directory", "ones", "no table", "a circle", "a sector far behind the end"],
)
def test_a_damaged_ole2_file_is_an_unknown_one(data: bytes) -> None:
    assert detected(data) == OLE2


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deeply_nested_json_is_no_error(depth: int) -> None:
    assert detected(b"[" * depth) in (TEXT, "application/json")
    assert detected((b'{"a":' * depth)[:HEAD_BYTES] + b" " * 99) in (TEXT, "application/json")


@pytest.mark.parametrize(
    "data",
    [
        b"#!" + b" " * HEAD_BYTES, b"#!" + b"/" * HEAD_BYTES, b"#!/env" + b" -a" * HEAD_BYTES, b"#!env" + b" a=b" * HEAD_BYTES,
        b"<!--" * HEAD_BYTES, b"<!---->" * HEAD_BYTES, b"<?" * HEAD_BYTES, b"<!DOCTYPE " + b"a[" * HEAD_BYTES,
        b"<a" * HEAD_BYTES, b"<a:" * HEAD_BYTES, b"<" + b" " * HEAD_BYTES, b'{"' * HEAD_BYTES,
        b"{" + b"1" * HEAD_BYTES, b'["' + b"\\" * HEAD_BYTES,
        b"P1\n" + b"#\n" * HEAD_BYTES, b"P1 " + b" " * HEAD_BYTES, b"#\n" * HEAD_BYTES, b"\n" * HEAD_BYTES, b"%\n" * HEAD_BYTES,
        b'.\\"\n' * HEAD_BYTES, b'"' * HEAD_BYTES, b"a,b\n" * HEAD_BYTES, b"From: a\n" * HEAD_BYTES, b"a-" * HEAD_BYTES,
        b"#define a_width 1" + b" " * HEAD_BYTES, b"P4 " + b"#\n" * HEAD_BYTES + b"\0", b"PK\x03\x04" * HEAD_BYTES,
        b"--- a" + b"\n" * HEAD_BYTES, b"PK\x05\x06" * HEAD_BYTES, b"<office:document " + b"office:mimetype='" * HEAD_BYTES,
    ],
    ids=range(30),
)  # fmt: skip
def test_no_content_takes_long(data: bytes) -> None:
    start = time.process_time()

    detected(data)

    assert time.process_time() - start < 0.2
