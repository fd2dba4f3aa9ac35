"""Log files: which belong together, rotated and compressed ones too, and their lines in order of time."""

import heapq
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path

from inboxd.console.logs.files.blocks import BROKEN, Block, is_packed, opened, whole_lines, whole_lines_backwards
from inboxd.console.logs.files.follow import FileId, Tail, follow
from inboxd.console.logs.files.rotation import current, generations
from inboxd.console.logs.files.search import Part, Search
from inboxd.console.logs.records import BEGIN, SLACK_SECONDS, Record, Wanted, latest, oldest, parse
from inboxd.logs.text import escape


class Files:
    """Some programs' log files. ``tell`` gets a sentence for each file that can't be read, once; the others are read."""

    def __init__(self, paths: Iterable[Path], tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: set[Path] = set()
        self.current = current(paths)

    @cached_property
    def _series(self) -> list[list[Path]]:
        """Each program's files, the oldest first."""
        return [sorted(generations(path), key=self._begins) for path in self.current]

    @property
    def where(self) -> str:
        """Say in words where it looks."""
        older = sum(map(len, self._series)) - len(self.current)
        rotated = f" and {older} rotated {'file' if older == 1 else 'files'}" if older > 0 else ""
        return ", ".join(escape(str(path)) for path in self.current) + rotated

    def records(self, wanted: Wanted) -> Iterator[Record]:
        """Yield, in order of time, at least the records that are wanted; what is surely not wanted is not looked into."""
        look = _Look(wanted)
        return heapq.merge(*(self._chain(files, look) for files in self._series), key=lambda record: record.at)

    def last(self, wanted: Wanted, count: int, ends: Mapping[FileId, int] | None = None) -> list[Record]:
        """Return the last so many wanted records, in order of time. The files are read from their ends.

        ``ends`` says for open files up to where; files that a program writes to and that are not among them are left out then.
        """
        look = _Look(wanted)
        found = heapq.merge(
            *(self._chain_back(files, look, count, ends) for files in self._series), key=lambda r: r.at, reverse=True
        )
        return list(islice(found, count))[::-1]

    def holding(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; on request only those that name no file."""
        search = Search(keys, values, with_files=with_files)
        found = (
            record for files in self._series for record in self._chain(files, _Look(Wanted(), search)) if search.fits(record)
        )
        return sorted(found, key=lambda record: record.at)

    def follow(self, wanted: Wanted, last: int, show: Callable[[Record], None]) -> None:
        """Show the last few wanted records, or all since the wished moment, then each one as it comes. Does not return."""
        if wanted.since is None:
            tails = [Tail(path, at_end=True) for path in self.current]
            before: Iterable[Record] = self.last(wanted, last, dict(filter(None, (tail.place for tail in tails))))
        else:
            tails = [Tail(path, at_end=False) for path in self.current]
            older = [[path for path in files if path not in self.current] for files in self._series]
            before = heapq.merge(*(self._chain(files, _Look(wanted)) for files in older), key=lambda record: record.at)
        for record in before:
            if wanted.admits(record):
                show(record)
        follow(tails, wanted, show)

    def _chain(self, files: list[Path], look: "_Look") -> Iterator[Record]:
        """Yield the records of one program's files. A file, or a line, that is older than it need be is not looked into."""
        for path in files:
            if not look.is_too_old(path):
                for block in self._blocks(path):
                    yield from look.records(block)

    def _chain_back(self, files: list[Path], look: "_Look", count: int, ends: Mapping[FileId, int] | None) -> Iterator[Record]:
        """Yield the wanted records of one program's files, the last first, of a compressed file no more than asked for."""
        for path in reversed(files):
            if look.is_too_old(path):
                continue
            if _is_packed(path):
                there = (record for block in self._blocks(path) for record in look.wanted_records(block))
                yield from reversed(deque(there, maxlen=count))
            else:
                for block in self._blocks_back(path, ends):
                    yield from reversed(list(look.wanted_records(block)))

    def _begins(self, path: Path) -> float:
        """Return when a file begins: the time of its first record; where it has none, that of its last change."""
        for data, begin, end in self._blocks(path):
            for line in data[begin:end].split(b"\n"):
                if (record := parse(line)) is not None:
                    return record.at
        return _changed(path)

    def _blocks(self, path: Path) -> Iterator[Block]:
        try:
            with opened(path) as file:
                yield from whole_lines(file)
        except BROKEN as error:
            self._complain(path, error)

    def _blocks_back(self, path: Path, ends: Mapping[FileId, int] | None) -> Iterator[Block]:
        try:
            with path.open("rb", buffering=0) as file:
                look = os.fstat(file.fileno())
                unknown = look.st_size if ends is None or path not in self.current else 0
                yield from whole_lines_backwards(file, (ends or {}).get((look.st_dev, look.st_ino), unknown))
        except OSError as error:
            self._complain(path, error)

    def _complain(self, path: Path, error: BaseException) -> None:
        if path not in self._told:
            self._told.add(path)
            self._tell(escape(f"{path}: can't be read to its end: {getattr(error, 'strerror', None) or error}"))


class _Look:
    """Finds records in blocks of lines: with as little reading as the wishes allow."""

    def __init__(self, wanted: Wanted, search: Search | None = None) -> None:
        self._wanted = wanted
        self._search = search or _search(wanted)
        self._oldest, self._latest = oldest(wanted.since), latest(wanted.until)

    def is_too_old(self, path: Path) -> bool:
        """Tell whether a file was last written to before the first wanted moment."""
        return self._wanted.since is not None and _changed(path) < self._wanted.since - SLACK_SECONDS

    def records(self, block: Block) -> Iterator[Record]:
        """Yield at least the wanted records."""
        data, begin, end = block
        for line in self._search.lines(data, begin, end) if self._search else data[begin:end].split(b"\n"):
            if line.startswith(BEGIN) and (line < self._oldest or (self._latest and line > self._latest)):
                continue
            if (record := parse(line)) is not None:
                yield record

    def wanted_records(self, block: Block) -> Iterator[Record]:
        """Yield the wanted records, and no others."""
        return filter(self._wanted.admits, self.records(block))


def _search(wanted: Wanted) -> Search | Part | None:
    """Return what the bytes of the wished lines can be told by, the rarest first; None if nothing tells them."""
    if wanted.parcel is not None:
        return Search(("parcel", "out_of"), {wanted.parcel})
    if part := wanted.part_of_file:
        return Part(part)
    if wanted.events:
        return Search(("event",), wanted.events)
    return None if wanted.inbox is None else Search(("inbox",), {wanted.inbox})


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_packed(path: Path) -> bool:
    try:
        return is_packed(path)
    except OSError:  # whoever reads it next will tell
        return False
