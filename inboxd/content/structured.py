"""Text with a structure: JSON, mail, tables of comma-separated values."""

import json
import re

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
MAIL = "message/rfc822"

_TOKENS = re.compile(
    rb'(?:[\s{}\[\],:]++|"(?:[^"\\\n]|\\.)*+"|-?\d++(?:\.\d++)?(?:[eE][+-]?\d++)?|true|false|null)*+',
)
_OPEN_TOKEN = re.compile(rb'(?:"(?:[^"\\\n]|\\.)*+\\?|[-+.\deE]{1,30}|t(?:r(?:u)?)?|f(?:a(?:l(?:s)?)?)?|n(?:u(?:l)?)?)?\Z')
_HEADER = re.compile(rb"([A-Za-z][A-Za-z-]{1,40}):[ \t]")
_MAIL_HEADERS = frozenset(
    b"from to subject date received message-id return-path mime-version delivered-to reply-to cc sender x-mailer".split()
)
_CERTAIN_HEADERS = frozenset(b"received message-id return-path mime-version delivered-to".split())
_QUOTED = re.compile(rb'"[^"]*"')
_DELIMITERS = ((b",", "text/csv"), (b";", "text/csv"), (b"\t", "text/tab-separated-values"))
_LINES = 30
_ROWS_MIN = 3
_VALUE_CHARS = 60


def json_type(text: bytes, *, is_whole: bool) -> str | None:
    """Return the content type of JSON text or lines of it; None for other text. ``text`` begins with ``{`` or ``[``."""
    if is_whole:
        try:
            json.loads(text)
        except RecursionError:
            return JSON
        except ValueError:
            pass
        else:
            return JSON
    first, _, second = text.partition(b"\n")
    if second[:1] in (b"{", b"[") and first.rstrip()[-1:] in (b"}", b"]") and _is_json(first):
        return JSON_LINES
    if is_whole:
        return None
    lexed = _TOKENS.match(text)
    return JSON if lexed is not None and _OPEN_TOKEN.match(text, lexed.end()) and b'"' in text else None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def is_mail(text: bytes) -> bool:
    """Tell whether text begins with a mail's headers: two that mails have, one of which other texts hardly have."""
    lines = text.split(b"\n", _LINES)[:_LINES]
    if lines[0].startswith((b"From ", b">From ")):  # the line that separates mails in a mailbox
        lines = lines[1:]
    found: set[bytes] = set()
    for line in lines:
        if line[:1] in (b" ", b"\t") and found:
            continue
        header = _HEADER.match(line)
        if header is None:
            break
        found.add(header.group(1).lower())
    return len(found & _MAIL_HEADERS) >= 2 and bool(found & _CERTAIN_HEADERS or len(found & _MAIL_HEADERS) > 3)  # noqa: PLR2004


def table_type(text: bytes, *, is_whole: bool) -> str | None:
    """Return the content type of a table whose rows all have as many delimiters; None for other text."""
    lines = (_QUOTED.sub(b"", text) if b'"' in text else text).split(b"\n", _LINES)
    if len(lines) > _LINES or not is_whole or not lines[-1]:
        lines.pop()  # the rest, a row that the cut may split, or what follows the last line end
    if len(lines) < _ROWS_MIN:
        return None
    for delimiter, kind in _DELIMITERS:
        columns = lines[0].count(delimiter)
        if columns and lines[1].count(delimiter) == columns and _is_table(lines, delimiter, columns):
            return kind
    return None


def _is_table(lines: list[bytes], delimiter: bytes, columns: int) -> bool:
    """Tell whether each line has as many delimiters, and none looks like a sentence or a statement."""
    if {line.count(delimiter) for line in lines} != {columns}:
        return False
    width_max = _VALUE_CHARS * (columns + 1)
    if any(len(line) > width_max or line.rstrip(b"\r").endswith(delimiter) for line in lines):
        return False
    return columns > 1 or delimiter == b"\t" or not any(delimiter + b" " in line for line in lines)
