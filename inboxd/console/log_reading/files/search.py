"""Find the log lines that have a value at a key by searching bytes; only the hits are parsed."""

import json
import re
from collections.abc import Collection, Iterable, Iterator

from inboxd.console.log_reading.records import Record

SEPARATE_SEARCHES_MAX = 16
"""Maximum number of values searched for one by one, at some gigabytes a second; more are searched for in one pass by key."""

KEY_BYTES_MAX = 40
"""Maximum length of an encoded key with its colon and space."""

_FILE_KEY = re.compile(rb'"file": ?"')


class KeyedSearch:
    """A search for lines that have one of some values at one of some keys."""

    def __init__(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> None:
        """Set ``with_files`` to False to skip lines that name a file."""
        self._keys = keys
        self._values = frozenset(values)
        self._with_files = with_files
        self._encodings = {form for value in values for form in _encode_as_json(value)}
        self._key_ends = tuple(f'"{key}":'.encode() for key in keys)
        names = "|".join(map(re.escape, keys)).encode()
        self._any = re.compile(rb'"(?:' + names + rb')": ?("(?:[^"\\\n]|\\.)*")')

    def lines(self, data: bytes, begin: int, end: int) -> Iterator[bytes]:
        """Yield, in order, the whole lines between two offsets that have one of the values at one of the keys, at any depth."""
        hits = (
            sorted(self._find_each(data, begin, end))
            if len(self._encodings) <= SEPARATE_SEARCHES_MAX
            else self._find_by_key(data, begin, end)
        )
        for line, after in _enclosing_lines(hits, data, begin, end):
            if self._with_files or _FILE_KEY.search(data, line, after) is None:
                yield data[line:after]

    def matches(self, record: Record) -> bool:
        """Return whether a parsed record has one of the values at one of the keys, or as its result's digest."""
        if not self._with_files and record.text("file") is not None:
            return False
        return any(value in self._values for key in self._keys for value in (record.text(key), _result_value(record, key)))

    def _find_each(self, data: bytes, begin: int, end: int) -> Iterator[int]:
        for encoding in self._encodings:
            for at in _find_all(encoding, data, begin, end):
                if data[max(at - KEY_BYTES_MAX, 0) : at].rstrip(b" ").endswith(self._key_ends):
                    yield at

    def _find_by_key(self, data: bytes, begin: int, end: int) -> Iterator[int]:
        return (found.start(1) for found in self._any.finditer(data, begin, end) if found[1] in self._encodings)


class TextSearch:
    """A search for lines that have some text in any of their values."""

    def __init__(self, text: str) -> None:
        """``text`` must not be empty."""
        self._encodings = {form[1:-1] for form in _encode_as_json(text)}

    def lines(self, data: bytes, begin: int, end: int) -> Iterator[bytes]:
        """Yield, in order, the whole lines between two offsets that have the text."""
        hits = sorted(at for encoding in self._encodings for at in _find_all(encoding, data, begin, end))
        for line, after in _enclosing_lines(hits, data, begin, end):
            yield data[line:after]


def _find_all(encoding: bytes, data: bytes, begin: int, end: int) -> Iterator[int]:
    at = data.find(encoding, begin, end)
    while at >= 0:
        yield at
        at = data.find(encoding, at + 1, end)


def _enclosing_lines(hits: Iterable[int], data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end offsets of the lines that contain the hits, which must be in ascending order; each line once."""
    after = begin
    for hit in hits:
        if hit >= after:
            line = max(data.rfind(b"\n", after, hit) + 1, after)
            after = data.find(b"\n", hit, end)
            after = end if after < 0 else after
            yield line, after


def _result_value(record: Record, key: str) -> str | None:
    """Return the SHA-256 from a handler's result: for a file passed by reference, no other line has the digest."""
    result = record.fields.get("result")
    value = result.get(key) if key == "sha256" and isinstance(result, dict) else None
    return value if isinstance(value, str) else None


def _encode_as_json(value: str) -> set[bytes]:
    """Return the JSON encodings of a text: in ASCII, as inboxd writes it, and in UTF-8, as log shippers may rewrite it."""
    return {json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")}
