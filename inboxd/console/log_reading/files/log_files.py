"""Read groups of log files, rotated and compressed ones included, in order of time."""

import heapq
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path

from inboxd.console.log_reading.files.blocks import (
    READ_ERRORS,
    Block,
    is_compressed,
    open_log,
    whole_lines,
    whole_lines_backwards,
)
from inboxd.console.log_reading.files.follow import FileId, Tail, follow
from inboxd.console.log_reading.files.rotation import current_files, rotated_files
from inboxd.console.log_reading.files.search import KeyedSearch, TextSearch
from inboxd.console.log_reading.records import (
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
    """The log files of one or more programs. Each unreadable file is reported to ``notify`` once; the others are read."""

    def __init__(self, paths: Iterable[Path], notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._reported: set[Path] = set()
        self.current = current_files(paths)

    @cached_property
    def _series(self) -> list[list[Path]]:
        """Each program's files, the oldest first."""
        return [sorted(rotated_files(path), key=self._first_time) for path in self.current]

    @property
    def where(self) -> str:
        """The log files' paths and the number of rotated ones, for messages."""
        older = sum(map(len, self._series)) - len(self.current)
        rotated = f" and {older} rotated {'file' if older == 1 else 'files'}" if older > 0 else ""
        return ", ".join(escape(str(path)) for path in self.current) + rotated

    def records(self, log_filter: LogFilter) -> Iterator[Record]:
        """Yield, in order of time, the records that match, and possibly others."""
        reader = _BlockReader(log_filter)
        return heapq.merge(*(self._read_series(files, reader) for files in self._series), key=lambda record: record.at)

    def last(self, log_filter: LogFilter, count: int, ends: Mapping[FileId, int] | None = None) -> list[Record]:
        """Return the last ``count`` matching records, in order of time. The files are read from their ends.

        ``ends`` gives, for open files, the offset to stop at; current files that are not in the mapping are then omitted.
        """
        reader = _BlockReader(log_filter)
        series = (self._read_series_backwards(files, reader, count, ends) for files in self._series)
        newest = heapq.merge(*series, key=lambda record: record.at, reverse=True)
        return list(islice(newest, count))[::-1]

    def search(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; optionally only those that name no file."""
        search = KeyedSearch(keys, values, with_files=with_files)
        found = (
            record
            for files in self._series
            for record in self._read_series(files, _BlockReader(LogFilter(), search))
            if search.matches(record)
        )
        return sorted(found, key=lambda record: record.at)

    def follow(self, log_filter: LogFilter, last: int, show: Callable[[Record], None]) -> None:
        """Show the last matching records, or all after the filter's start, then each new one. Does not return."""
        if log_filter.since is None:
            tails = [Tail(path, at_end=True) for path in self.current]
            before: Iterable[Record] = self.last(log_filter, last, dict(filter(None, (tail.position for tail in tails))))
        else:
            tails = [Tail(path, at_end=False) for path in self.current]
            older = [[path for path in files if path not in self.current] for files in self._series]
            before = heapq.merge(
                *(self._read_series(files, _BlockReader(log_filter)) for files in older), key=lambda record: record.at
            )
        for record in before:
            if log_filter.matches(record):
                show(record)
        follow(tails, log_filter, show)

    def _read_series(self, files: list[Path], reader: "_BlockReader") -> Iterator[Record]:
        """Yield the records of one program's files, skipping files that are too old."""
        for path in files:
            if not reader.is_too_old(path):
                for block in self._read_blocks(path):
                    yield from reader.records(block)

    def _read_series_backwards(
        self, files: list[Path], reader: "_BlockReader", count: int, ends: Mapping[FileId, int] | None
    ) -> Iterator[Record]:
        """Yield the matching records of one program's files, the last first; at most ``count`` of each compressed file."""
        for path in reversed(files):
            if reader.is_too_old(path):
                continue
            if _is_compressed(path):
                matching = (record for block in self._read_blocks(path) for record in reader.matching_records(block))
                yield from reversed(deque(matching, maxlen=count))
            else:
                for block in self._read_blocks_backwards(path, ends):
                    yield from reversed(list(reader.matching_records(block)))

    def _first_time(self, path: Path) -> float:
        """Return the time of a file's first record, or its modification time if it has none."""
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
                status = os.fstat(file.fileno())
                default_end = status.st_size if ends is None or path not in self.current else 0
                yield from whole_lines_backwards(file, (ends or {}).get((status.st_dev, status.st_ino), default_end))
        except OSError as error:
            self._report_unreadable(path, error)

    def _report_unreadable(self, path: Path, error: BaseException) -> None:
        if path not in self._reported:
            self._reported.add(path)
            self._notify(escape(f"{path}: can't be read to its end: {getattr(error, 'strerror', None) or error}"))


class _BlockReader:
    """Finds records in blocks of lines, parsing as few lines as the filter allows."""

    def __init__(self, log_filter: LogFilter, search: KeyedSearch | None = None) -> None:
        self._filter = log_filter
        self._search = search or _choose_search(log_filter)
        self._oldest, self._latest = oldest_line_start(log_filter.since), latest_line_start(log_filter.until)

    def is_too_old(self, path: Path) -> bool:
        """Return whether a file was last modified before the filter's start."""
        return self._filter.since is not None and _modified_at(path) < self._filter.since - FILE_TIME_SLACK_SECONDS

    def records(self, block: Block) -> Iterator[Record]:
        """Yield the matching records, and possibly others."""
        data, begin, end = block
        for line in self._search.lines(data, begin, end) if self._search else data[begin:end].split(b"\n"):
            if line.startswith(LINE_START) and (line < self._oldest or (self._latest and line > self._latest)):
                continue
            if (record := parse(line)) is not None:
                yield record

    def matching_records(self, block: Block) -> Iterator[Record]:
        """Yield only the matching records."""
        return filter(self._filter.matches, self.records(block))


def _choose_search(log_filter: LogFilter) -> KeyedSearch | TextSearch | None:
    """Return the byte search for the filter's rarest criterion; None if no criterion can be searched for."""
    if log_filter.parcel is not None:
        return KeyedSearch(("parcel", "out_of"), {log_filter.parcel})
    if part := log_filter.literal_part:
        return TextSearch(part)
    if log_filter.events:
        return KeyedSearch(("event",), log_filter.events)
    return None if log_filter.inbox is None else KeyedSearch(("inbox",), {log_filter.inbox})


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_compressed(path: Path) -> bool:
    try:
        return is_compressed(path)
    except OSError:  # reading the file reports the error
        return False
