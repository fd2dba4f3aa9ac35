"""Text: its encoding, and the formats that are text."""

import codecs
import re

from inboxd.content.structured import MAIL, is_mail, json_type, table_type
from inboxd.content.xml import markup_type

TEXT = "text/plain"

_PRINTABLE = bytes(sorted({7, 8, 9, 10, 11, 12, 13, 27, *range(32, 127), *range(128, 256)}))
"""Bytes that text may have in an encoding that extends ASCII."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_INTERPRETER = re.compile(rb"#! ?\s*(?:\S*/)?(?:env\s+(?:-\S+\s+|\w+=\S*\s+)*(?:\S*/)?)?([a-z]+)", re.IGNORECASE)
_BY_INTERPRETER = {
    b"python": "text/x-python", b"pypy": "text/x-python", b"perl": "text/x-perl", b"ruby": "text/x-ruby",
    b"node": "text/javascript", b"awk": "text/x-awk", b"gawk": "text/x-awk", b"mawk": "text/x-awk", b"nawk": "text/x-awk",
    b"php": "text/x-php", b"lua": "text/x-lua", b"tclsh": "text/x-tcl", b"wish": "text/x-tcl", b"make": "text/x-makefile",
}  # fmt: skip
SHELL = "text/x-shellscript"

_BEGINNINGS = (
    (b"%PDF-", "application/pdf"), (b"%!PS", "application/postscript"), (b"%!\n", "application/postscript"),
    (b"%!FontType1", "application/x-font-type1"),
    (b"{\\rtf", "application/rtf"), (b"BEGIN:VCARD", "text/vcard"), (b"BEGIN:VCALENDAR", "text/calendar"),
    (b"-----BEGIN PGP PUBLIC", "application/pgp-keys"), (b"-----BEGIN PGP SIGNATURE", "application/pgp-signature"),
    (b"-----BEGIN PGP MESSAGE", "application/pgp-encrypted"), (b"WEBVTT", "text/vtt"), (b"<?php", "text/x-php"),
    (b"diff --git ", "text/x-diff"), (b"#EXTM3U", "audio/x-mpegurl"), (b"/* XPM */", "image/x-xpixmap"),
    (b"STARTFONT ", "application/x-font-bdf"), (b"SIMPLE  =", "image/fits"), (b"\\documentclass", "text/x-tex"),
    (b"@echo off", "text/x-msdos-batch"), (b"@ECHO OFF", "text/x-msdos-batch"),
    (b"[InternetShortcut]", "application/x-mswinurl"), (b"d8:announce", "application/x-bittorrent"),
    (b"AC10", "image/vnd.dwg"), (b"Windows Registry Editor", "text/x-ms-regedit"), (b"#VRML ", "model/vrml"),
    (b"solid ", "model/stl"), (b"\\input texinfo", "text/x-texinfo"), (b"%YAML", "application/yaml"),
    (b"!<arch>\n", "application/x-archive"), (b"!<thin>\n", "application/x-archive"), (b"#?RADIANCE", "image/vnd.radiance"),
    (b"07070", "application/x-cpio"),
)  # fmt: skip
_ANY_BEGINNING = tuple(beginning for beginning, _ in _BEGINNINGS)
_PATTERNS = (
    (re.compile(rb"--- \S.*\n\+\+\+ \S"), "text/x-diff"),
    (re.compile(rb"(?:#.*\n|\s*\n){0,60}+(?:msgctxt .*\n)?msgid \"\"\s*\nmsgstr \""), "text/x-po"),
    (re.compile(rb"(?:\.\\\".*\n|'\\\".*\n|\s*\n){0,60}+\.(?:TH|Dd|SH|so|de|ds|ie|if|nr) ?\S"), "text/troff"),
    (re.compile(rb"begin [0-7]{3} \S"), "text/x-uuencode"),
    (re.compile(rb"#define \w+_width \d+\s+#define \w+_height \d"), "image/x-xbitmap"),
    (re.compile(rb"P[14]\s(?:#.*\n)*\s*\d+\s+\d+"), "image/x-portable-bitmap"),
    (re.compile(rb"P[25]\s(?:#.*\n)*\s*\d+\s+\d+"), "image/x-portable-graymap"),
    (re.compile(rb"P[36]\s(?:#.*\n)*\s*\d+\s+\d+"), "image/x-portable-pixmap"),
    (re.compile(rb"(?:%.*\n|\s*\n){0,60}+\\(?:documentclass|documentstyle|begin\{document)"), "text/x-tex"),
)


def as_text(head: bytes, *, is_whole: bool) -> bytes | None:
    """Return a head as text in an encoding that extends ASCII, without a byte order mark; None if it isn't text."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return head[len(mark) :] if encoding == "utf-8" else _recode(head[len(mark) :], encoding, is_whole=is_whole)
    if head.translate(None, _PRINTABLE):
        return None
    if head.isascii() or _is_utf8(head, is_whole=is_whole):
        return head
    return head if _is_plausible(head) else None


def _recode(data: bytes, encoding: str, *, is_whole: bool) -> bytes | None:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=is_whole)
    except UnicodeDecodeError:
        return None
    recoded = text.encode()
    return None if recoded.translate(None, _PRINTABLE) else recoded


def _is_utf8(head: bytes, *, is_whole: bool) -> bool:
    try:
        codecs.utf_8_decode(head, "strict", is_whole)  # the cut may split the last character
    except UnicodeDecodeError:
        return False
    return True


def _is_plausible(head: bytes) -> bool:
    """Tell whether bytes of an unknown 8-bit encoding are text: with words, not compressed data by chance without zeros."""
    blanks = head.count(b" ") + head.count(b"\n") + head.count(b"\t") + head.count(b",") + head.count(b";")
    return len(head) < 40 * (blanks + 1)


def text_type(text: bytes, *, is_whole: bool) -> str:
    """Return the content type of text by its content: text/plain if it has none of the formats that are known here."""
    text = text.lstrip(b" \t\r\n\f")
    if text.startswith(_ANY_BEGINNING):
        return next(kind for beginning, kind in _BEGINNINGS if text.startswith(beginning))
    if text.startswith(b"#!"):
        return _script_type(text)
    found = None
    if text.startswith(b"<"):
        found = markup_type(text)
    elif text.startswith((b"{", b"[")):
        found = json_type(text, is_whole=is_whole)
    return found or _type_by_lines(text, is_whole=is_whole)


def _type_by_lines(text: bytes, *, is_whole: bool) -> str:
    for pattern, kind in _PATTERNS:
        if pattern.match(text):
            return kind
    if is_mail(text):
        return MAIL
    return table_type(text, is_whole=is_whole) or TEXT


def _script_type(text: bytes) -> str:
    interpreter = _INTERPRETER.match(text)
    name = interpreter.group(1).lower() if interpreter else b""
    if name.endswith(b"sh") and name not in _BY_INTERPRETER:
        return SHELL
    return _BY_INTERPRETER.get(name, TEXT)
