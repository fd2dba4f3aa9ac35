"""Reading inboxd's JSON log lines back from files, plain or compressed; other lines in them are passed over."""

import gzip
import json
import lzma
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

LogLine = dict[str, Any]


def of_parcels(files: Iterable[str]) -> Iterator[LogLine]:
    """Yield every log line that names a parcel, file by file; "-" is standard input. Raises OSError."""
    for file in files:
        with nullcontext(sys.stdin.buffer) if file == "-" else _opened(Path(file)) as lines:
            for raw in lines:
                if raw.startswith(b"{") and b'"parcel"' in raw:
                    yield from _parsed(raw)


def _opened(file: Path) -> BinaryIO | gzip.GzipFile | lzma.LZMAFile:
    match file.suffix:
        case ".gz":
            return gzip.GzipFile(file)
        case ".xz":
            return lzma.LZMAFile(file)
        case _:
            return file.open("rb")


def _parsed(raw: bytes) -> Iterator[LogLine]:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):  # torn by a crash, or none of ours
        return
    if isinstance(line, dict):
        yield line
