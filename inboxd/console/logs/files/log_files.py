"""Log files: which belong together, rotated and compressed ones too, and their lines in order of time."""

import heapq
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path

from inboxd.console.logs.files.blocks import READ_ERRORS, Block, is_compressed, open_log, whole_lines, whole_lines_backwards
from inboxd.console.logs.files.follow import FileId, Tail, follow
from inboxd.console.logs.files.rotation import current_files, rotated_files
from inboxd.console.logs.files.search import KeyedSearch, TextSearch
from inboxd.console.logs.records import (
    FILE_TIME_SLACK_SECONDS,
    LINE_START,
    LogFilter,
    Record,
    latest_line_start,
    oldest_line_start,
    parse,
)
from inboxd.logs.text import escape


class FileSource:
    """Some programs' log files. ``tell`` gets a sentence for each file that can't be read, once; the others are read."""

    def __init__(self, paths: Iterable[Path], tell: Callable[[str], None]) -> None:
        self._notice = tell
        self._reported: set[Path] = set()
        self.current = current_files(paths)

    @cached_property
    def _series(self) -> list[list[Path]]:
        """Each program's files, the oldest first."""
        return [sorted(rotated_files(path), key=self._first_time) for path in self.current]

    @property
    def where(self) -> str:
        """Say in words where it looks."""
        older = sum(map(len, self._series)) - len(self.current)
        rotated = f" and {older} rotated {'file' if older == 1 else 'files'}" if older > 0 else ""
        return ", ".join(escape(str(path)) for path in self.current) + rotated

    def records(self, wanted: LogFilter) -> Iterator[Record]:
        """Yield, in order of time, at least the records that are wanted; what is surely not wanted is not looked into."""
        look = _BlockReader(wanted)
        return heapq.merge(*(self._read_series(files, look) for files in self._series), key=lambda record: record.at)

    def last(self, wanted: LogFilter, count: int, ends: Mapping[FileId, int] | None = None) -> list[Record]:
        """Return the last so many wanted records, in order of time. The files are read from their ends.

        ``ends`` says for open files up to where; files that a program writes to and that are not among them are left out then.
        """
        look = _BlockReader(wanted)
        found = heapq.merge(
            *(self._read_series_backwards(files, look, count, ends) for files in self._series), key=lambda r: r.at, reverse=True
        )
        return list(islice(found, count))[::-1]

    def search(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; on request only those that name no file."""
        search = KeyedSearch(keys, values, with_files=with_files)
        found = (
            record
            for files in self._series
            for record in self._read_series(files, _BlockReader(LogFilter(), search))
            if search.matches(record)
        )
        return sorted(found, key=lambda record: record.at)

    def follow(self, wanted: LogFilter, last: int, show: Callable[[Record], None]) -> None:
        """Show the last few wanted records, or all since the wished moment, then each one as it comes. Does not return."""
        if wanted.since is None:
            tails = [Tail(path, at_end=True) for path in self.current]
            before: Iterable[Record] = self.last(wanted, last, dict(filter(None, (tail.position for tail in tails))))
        else:
            tails = [Tail(path, at_end=False) for path in self.current]
            older = [[path for path in files if path not in self.current] for files in self._series]
            before = heapq.merge(
                *(self._read_series(files, _BlockReader(wanted)) for files in older), key=lambda record: record.at
            )
        for record in before:
            if wanted.matches(record):
                show(record)
        follow(tails, wanted, show)

    def _read_series(self, files: list[Path], look: "_BlockReader") -> Iterator[Record]:
        """Yield the records of one program's files. A file, or a line, that is older than it need be is not looked into."""
        for path in files:
            if not look.is_too_old(path):
                for block in self._read_blocks(path):
                    yield from look.records(block)

    def _read_series_backwards(
        self, files: list[Path], look: "_BlockReader", count: int, ends: Mapping[FileId, int] | None
    ) -> Iterator[Record]:
        """Yield the wanted records of one program's files, the last first, of a compressed file no more than asked for."""
        for path in reversed(files):
            if look.is_too_old(path):
                continue
            if _is_compressed(path):
                there = (record for block in self._read_blocks(path) for record in look.matching_records(block))
                yield from reversed(deque(there, maxlen=count))
            else:
                for block in self._read_blocks_backwards(path, ends):
                    yield from reversed(list(look.matching_records(block)))

    def _first_time(self, path: Path) -> float:
        """Return when a file begins: the time of its first record; where it has none, that of its last change."""
        for data, begin, end in self._read_blocks(path):
            for line in data[begin:end].split(b"\n"):
                if (record := parse(line)) is not None:
                    return record.at
        return _modified_at(path)

    def _read_blocks(self, path: Path) -> Iterator[Block]:
        try:
            with open_log(path) as file:
                yield from whole_lines(file)
        except READ_ERRORS as error:
            self._report_unreadable(path, error)

    def _read_blocks_backwards(self, path: Path, ends: Mapping[FileId, int] | None) -> Iterator[Block]:
        try:
            with path.open("rb", buffering=0) as file:
                look = os.fstat(file.fileno())
                unknown = look.st_size if ends is None or path not in self.current else 0
                yield from whole_lines_backwards(file, (ends or {}).get((look.st_dev, look.st_ino), unknown))
        except OSError as error:
            self._report_unreadable(path, error)

    def _report_unreadable(self, path: Path, error: BaseException) -> None:
        if path not in self._reported:
            self._reported.add(path)
            self._notice(escape(f"{path}: can't be read to its end: {getattr(error, 'strerror', None) or error}"))


class _BlockReader:
    """Finds records in blocks of lines: with as little reading as the wishes allow."""

    def __init__(self, wanted: LogFilter, search: KeyedSearch | None = None) -> None:
        self._wanted = wanted
        self._search = search or _choose_search(wanted)
        self._oldest, self._latest = oldest_line_start(wanted.since), latest_line_start(wanted.until)

    def is_too_old(self, path: Path) -> bool:
        """Tell whether a file was last written to before the first wanted moment."""
        return self._wanted.since is not None and _modified_at(path) < self._wanted.since - FILE_TIME_SLACK_SECONDS

    def records(self, block: Block) -> Iterator[Record]:
        """Yield at least the wanted records."""
        data, begin, end = block
        for line in self._search.lines(data, begin, end) if self._search else data[begin:end].split(b"\n"):
            if line.startswith(LINE_START) and (line < self._oldest or (self._latest and line > self._latest)):
                continue
            if (record := parse(line)) is not None:
                yield record

    def matching_records(self, block: Block) -> Iterator[Record]:
        """Yield the wanted records, and no others."""
        return filter(self._wanted.matches, self.records(block))


def _choose_search(wanted: LogFilter) -> KeyedSearch | TextSearch | None:
    """Return what the bytes of the wished lines can be told by, the rarest first; None if nothing tells them."""
    if wanted.parcel is not None:
        return KeyedSearch(("parcel", "out_of"), {wanted.parcel})
    if part := wanted.literal_part:
        return TextSearch(part)
    if wanted.events:
        return KeyedSearch(("event",), wanted.events)
    return None if wanted.inbox is None else KeyedSearch(("inbox",), {wanted.inbox})


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_compressed(path: Path) -> bool:
    try:
        return is_compressed(path)
    except OSError:  # whoever reads it next will tell
        return False
