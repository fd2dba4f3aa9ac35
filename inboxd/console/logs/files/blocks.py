"""A log file's bytes, compressed or not: whole lines, many at a time, from its beginning or from its end."""

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
"""Bytes, and from where to where whole lines lie in them."""

LINE_BYTES_MAX = 8 * 1024 * 1024
"""What goes on for longer without a line feed is no line of ours, and is passed over."""

_MAGIC_BYTES = 6
_zstd: Any = importlib.import_module("compression.zstd") if sys.version_info >= (3, 14) else None
READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error, *((_zstd.ZstdError,) if _zstd else ()))
"""What reading a file may raise."""


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
def open_log(path: Path) -> Iterator[IO[bytes]]:
    """Open a log file, by what its first bytes say of its compression. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        magic = file.read(_MAGIC_BYTES)
        file.seek(0)
        yield next((how(file) for begin, how in _OPENERS.items() if magic.startswith(begin)), file)


def _open_zstd(file: IO[bytes]) -> IO[bytes]:
    if _zstd is None:
        raise OSError("it is compressed by zstd, which Python reads from 3.14 on: unpack it with `zstd -d`")
    return cast("IO[bytes]", _zstd.ZstdFile(file))


_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}


def is_compressed(path: Path) -> bool:
    """Tell whether a file is compressed, so that it can only be read from its beginning. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return file.read(_MAGIC_BYTES).startswith(tuple(_OPENERS))


def whole_lines_backwards(file: IO[bytes], end: int) -> Iterator[Block]:
    """Yield the lines of an uncompressed file before a place, the last ones first; within a block in their order.

    Of a line that is too long a part may be yielded: it can't pass for a line of ours, since its end is missing.
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
