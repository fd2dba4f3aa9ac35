"""Read a log file's bytes, compressed or not, in blocks of whole lines, forwards or backwards."""

import bz2
import contextlib
import gzip
import importlib
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

BLOCK_BYTES = 256 * 1024
Block = tuple[bytes, int, int]
"""Bytes, and the offsets at which their whole lines begin and end."""

LINE_BYTES_MAX = 8 * 1024 * 1024
"""Maximum length of a line of inboxd's log. Longer runs without a line feed are skipped."""

_MAGIC_BYTES = 6
_zstd: Any = importlib.import_module("compression.zstd") if sys.version_info >= (3, 14) else None
READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error, *((_zstd.ZstdError,) if _zstd else ()))
"""The exceptions that reading a log file may raise."""


def whole_lines(file: IO[bytes]) -> Iterator[Block]:
    """Yield a file's lines in blocks, mostly uncopied. Overlong lines are omitted; the last line may lack its line feed."""
    rest, is_skipping = b"", False
    while data := file.read(BLOCK_BYTES):
        first = data.find(b"\n") + 1
        if not first:
            rest, is_skipping = (b"", True) if is_skipping or len(rest) > LINE_BYTES_MAX else (rest + data, False)
            continue
        if not is_skipping and (joined := rest + data[:first]):
            yield joined, 0, len(joined)
        last = data.rfind(b"\n") + 1
        yield data, first, last
        rest, is_skipping = data[last:], False
    if rest:
        yield rest, 0, len(rest)


@contextlib.contextmanager
def open_log(path: Path) -> Iterator[IO[bytes]]:
    """Open a log file for reading, decompressed as its magic number requires. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        magic = file.read(_MAGIC_BYTES)
        file.seek(0)
        yield next((opener(file) for prefix, opener in _OPENERS.items() if magic.startswith(prefix)), file)


def _open_zstd(file: IO[bytes]) -> IO[bytes]:
    if _zstd is None:
        raise OSError("reading zstd needs Python 3.14 or later; decompress the file with `zstd -d`")
    return cast("IO[bytes]", _zstd.ZstdFile(file))


_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed, so that it can only be read from its beginning. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return file.read(_MAGIC_BYTES).startswith(tuple(_OPENERS))


def whole_lines_backwards(file: IO[bytes], end: int) -> Iterator[Block]:
    """Yield the lines of an uncompressed file before an offset: the last block first, within a block in file order.

    Part of an overlong line may be yielded; its end is missing, so it is never parsed as a record.
    """
    rest = b""
    while end > 0:
        begin = max(end - BLOCK_BYTES, 0)
        file.seek(begin)
        data = file.read(end - begin) + (rest if len(rest) <= LINE_BYTES_MAX else b"")
        first = data.find(b"\n") + 1 if begin else 0
        if first or not begin:
            yield data, first, len(data)
            rest = data[:first]
        else:
            rest = data
        end = begin
