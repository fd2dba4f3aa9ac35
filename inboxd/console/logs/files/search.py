"""Finding the lines that have a value at a key, without looking into the others: bytes are searched, only hits are parsed."""

import json
import re
from collections.abc import Collection, Iterable, Iterator

from inboxd.console.logs.records import Record

SEPARATE_SEARCHES_MAX = 16
"""So many values are searched for one after the other, at some gigabytes a second; more than that all at once, by their key."""

KEY_BYTES_MAX = 40
"""A key, and the space behind it, are no longer than this."""

_FILE_KEY = re.compile(rb'"file": ?"')


class KeyedSearch:
    """Looks for lines that have one of some values at one of some keys."""

    def __init__(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> None:
        """``with_files`` set to False passes over lines that name a file."""
        self._keys = keys
        self._values = frozenset(values)
        self._with_files = with_files
        self._encodings = {form for value in values for form in _encode_as_json(value)}
        self._key_ends = tuple(f'"{key}":'.encode() for key in keys)
        names = "|".join(map(re.escape, keys)).encode()
        self._any = re.compile(rb'"(?:' + names + rb')": ?("(?:[^"\\\n]|\\.)*")')

    def lines(self, data: bytes, begin: int, end: int) -> Iterator[bytes]:
        """Yield of the whole lines between two places, in order, those that may be wanted: a value is at one of the keys."""
        hits = (
            sorted(self._find_each(data, begin, end))
            if len(self._encodings) <= SEPARATE_SEARCHES_MAX
            else self._find_by_key(data, begin, end)
        )
        for line, after in _enclosing_lines(hits, data, begin, end):
            if self._with_files or _FILE_KEY.search(data, line, after) is None:
                yield data[line:after]

    def matches(self, record: Record) -> bool:
        """Tell whether a line, now that it is read, is one of those."""
        if not self._with_files and record.text("file") is not None:
            return False
        return any(value in self._values for key in self._keys for value in (record.text(key), _result_value(record, key)))

    def _find_each(self, data: bytes, begin: int, end: int) -> Iterator[int]:
        for spelt in self._encodings:
            for at in _find_all(spelt, data, begin, end):
                if data[max(at - KEY_BYTES_MAX, 0) : at].rstrip(b" ").endswith(self._key_ends):
                    yield at

    def _find_by_key(self, data: bytes, begin: int, end: int) -> Iterator[int]:
        return (found.start(1) for found in self._any.finditer(data, begin, end) if found[1] in self._encodings)


class TextSearch:
    """Looks for lines that have some text in any of their values."""

    def __init__(self, text: str) -> None:
        """``text`` must not be empty."""
        self._encodings = {form[1:-1] for form in _encode_as_json(text)}

    def lines(self, data: bytes, begin: int, end: int) -> Iterator[bytes]:
        """Yield of the whole lines between two places, in order, those that have the text."""
        hits = sorted(at for spelt in self._encodings for at in _find_all(spelt, data, begin, end))
        for line, after in _enclosing_lines(hits, data, begin, end):
            yield data[line:after]


def _find_all(spelt: bytes, data: bytes, begin: int, end: int) -> Iterator[int]:
    at = data.find(spelt, begin, end)
    while at >= 0:
        yield at
        at = data.find(spelt, at + 1, end)


def _enclosing_lines(hits: Iterable[int], data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where the lines go that have these places, given in order; each line once."""
    after = begin
    for hit in hits:
        if hit >= after:
            line = max(data.rfind(b"\n", after, hit) + 1, after)
            after = data.find(b"\n", hit, end)
            after = end if after < 0 else after
            yield line, after


def _result_value(record: Record, key: str) -> str | None:
    """Return the SHA-256 that a handler has answered: of files that went by reference no other line knows it."""
    result = record.fields.get("result")
    value = result.get(key) if key == "sha256" and isinstance(result, dict) else None
    return value if isinstance(value, str) else None


def _encode_as_json(value: str) -> set[bytes]:
    """Return how JSON spells a text: as we write it, in ASCII, and as other programs that pass our lines on may do."""
    return {json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")}
