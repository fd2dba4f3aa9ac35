"""Log files: which belong together, rotated and compressed ones too, and their lines in order of time."""

import bz2
import contextlib
import gzip
import heapq
import importlib
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from console.following import follow
from console.grep import Search
from console.records import BEGIN, SLACK_SECONDS, Record, Wanted, oldest, parse
from spool.notes import plain

BLOCK_BYTES = 256 * 1024
Block = tuple[bytes, int, int]
"""Bytes, and from where to where whole lines lie in them."""

LINE_BYTES_MAX = 8 * 1024 * 1024
"""What goes on for longer without a line feed is no line of ours, and is passed over."""

_ROTATED = re.compile(r"(?:[.-]\d[\dT:-]*)?(?:\.(?:gz|xz|bz2|zst))?")
_zstd: Any = importlib.import_module("compression.zstd") if sys.version_info >= (3, 14) else None
_BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error, *((_zstd.ZstdError,) if _zstd else ()))


class Files:
    """Some programs' log files. ``tell`` gets a sentence for each file that can't be read, once; the others are read."""

    def __init__(self, paths: Iterable[Path], tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: set[Path] = set()
        self.current = _current(paths)

    @cached_property
    def _series(self) -> list[list[Path]]:
        """Each program's files, the oldest first."""
        return [sorted(generations(path), key=self._begins) for path in self.current]

    @property
    def where(self) -> str:
        """Say in words where it looks."""
        older = sum(map(len, self._series)) - len(self.current)
        return ", ".join(plain(str(path)) for path in self.current) + (f" and {older} rotated files" if older > 0 else "")

    def records(self, wanted: Wanted) -> Iterator[Record]:
        """Yield, in order of time, the records since the wished moment: those of the wished parcel or outcomes, else all."""
        search = _search(wanted)
        return heapq.merge(*(self._chain(files, wanted.since, search) for files in self._series), key=lambda record: record.at)

    def holding(self, keys: tuple[str, ...], values: Collection[str], *, with_files: bool = True) -> list[Record]:
        """Return the records that have one of the values at one of the keys; on request only those that name no file."""
        search = Search(keys, values, with_files=with_files)
        found = (record for files in self._series for record in self._chain(files, None, search) if search.fits(record))
        return sorted(found, key=lambda record: record.at)

    def follow(self, wanted: Wanted, last: int, show: Callable[[Record], None]) -> None:
        """Show the last few wanted records, or all since the wished moment, then each one as it comes. Does not return."""
        older = (path for files in self._series for path in files if path not in self.current)
        before = heapq.merge(*(self._chain([path], wanted.since) for path in older), key=lambda r: r.at) if wanted.since else ()
        for record in before:
            if wanted.admits(record):
                show(record)
        follow(self.current, wanted, last, show)

    def _chain(self, files: list[Path], since: float | None, search: Search | None = None) -> Iterator[Record]:
        """Yield the records of one program's files. A file, or a line, that is older than it need be is not looked into."""
        least = oldest(since)
        for path in files:
            if since is not None and _changed(path) < since - SLACK_SECONDS:
                continue
            for data, begin, end in self._blocks(path):
                for line in search.lines(data, begin, end) if search else data[begin:end].split(b"\n"):
                    if line.startswith(BEGIN) and line < least:
                        continue
                    if (record := parse(line)) is not None:
                        yield record

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
        except _BROKEN as error:
            if path not in self._told:
                self._told.add(path)
                self._tell(plain(f"{path}: can't be read to its end: {getattr(error, 'strerror', None) or error}"))


def _search(wanted: Wanted) -> Search | None:
    """Return what the bytes of the wished lines can be told by; None if nothing tells them."""
    if wanted.parcel is not None:
        return Search(("parcel", "out_of"), {wanted.parcel})
    return Search(("event",), wanted.events) if wanted.events else None


def whole_lines(file: IO[bytes]) -> Iterator[Block]:
    """Yield a file's whole lines, many at a time, uncopied; the last may be torn, and a line that is too long is left out."""
    rest, skipping = b"", False
    while data := file.read(BLOCK_BYTES):
        first = data.find(b"\n") + 1
        if not first:
            rest, skipping = (b"", True) if skipping or len(rest) > LINE_BYTES_MAX else (rest + data, False)
            continue
        if not skipping and (joined := rest + data[:first]):
            yield joined, 0, len(joined)
        last = data.rfind(b"\n") + 1
        yield data, first, last
        rest, skipping = data[last:], False
    if rest:
        yield rest, 0, len(rest)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a log file, by what its first bytes say of its compression. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        magic = file.read(6)
        file.seek(0)
        yield next((how(file) for begin, how in _COMPRESSED.items() if magic.startswith(begin)), file)


def _unzstd(file: IO[bytes]) -> IO[bytes]:
    if _zstd is None:
        raise OSError("it is compressed by zstd, which Python reads from 3.14 on: unpack it with `zstd -d`")
    return cast("IO[bytes]", _zstd.ZstdFile(file))


_COMPRESSED: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": _unzstd,
}


def generations(path: Path) -> list[Path]:
    """Return a log file and those that were rotated away from it (NAME.1, NAME.2.gz, NAME-20261122.xz …).

    Of one that is just being compressed both copies are there: the uncompressed one is whole.
    """
    try:
        names = {entry.name for entry in path.parent.iterdir() if _is_generation(path.name, entry.name)}
    except OSError:
        return [path]
    whole = {name for name in names if not (name.endswith((".gz", ".xz", ".bz2", ".zst")) and name.rpartition(".")[0] in names)}
    return [path.parent / name for name in sorted(whole)]


def _is_generation(base: str, name: str) -> bool:
    return name.startswith(base) and _ROTATED.fullmatch(name, len(base)) is not None


def _current(paths: Iterable[Path]) -> list[Path]:
    """Return the files that are named, or lie in a folder that is; those rotated away from another of them belong to it."""
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(entry for entry in path.iterdir() if ".log" in entry.name) if path.is_dir() else [path]
        found |= dict.fromkeys(entry.absolute() for entry in inside)
    return [path for path in found if not any(_descends(path, other) for other in found)]


def _descends(path: Path, other: Path) -> bool:
    return path != other and path.parent == other.parent and _is_generation(other.name, path.name)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
