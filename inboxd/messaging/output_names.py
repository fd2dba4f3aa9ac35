"""The names of outputs by a template: the setting ``outputs``, filled in with what is known of the file."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Protocol

from inboxd.config.output_rules import DEFAULT_OUTPUTS
from inboxd.config.placeholders import fill_in
from inboxd.fs.names import TEMP_PREFIX


class Source(Protocol):
    """What a template needs of a file; see InboxFile."""

    filename: str
    relative_path: str
    id: str
    inbox: str

    @property
    def sha256(self) -> str:
        """The content's SHA-256 in hex."""


def name_outputs(template: str, source: Source, claimed_at: float, outputs: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the path of each output below out/, by the path that its handler has given it.

    {} for the default template, by which outputs keep their names, in the sub-folder of their file: nothing is to be renamed.
    """
    if template == DEFAULT_OUTPUTS:
        return {}
    return {
        output: _clean(fill_in(template, _values(source, claimed_at, os.fsdecode(output), number)), output)
        for number, output in enumerate(sorted(outputs), start=1)
    }


def _values(source: Source, claimed_at: float, output: str, number: int) -> Callable[[str], str]:
    own = PurePath(output)
    values: dict[str, Callable[[], str]] = {
        "counter": lambda: str(number),
        "date": lambda: time.strftime("%Y-%m-%d", time.gmtime(claimed_at)),
        "folder": lambda: source.relative_path.rpartition("/")[0],
        "id": lambda: source.id,
        "inbox": lambda: source.inbox,
        "name": lambda: source.filename,
        "output": lambda: output,
        "output_stem": lambda: own.stem,
        "output_suffix": lambda: own.suffix,
        "sha256": lambda: source.sha256,
        "stem": lambda: PurePath(source.filename).stem,
        "suffix": lambda: PurePath(source.filename).suffix,
    }
    return lambda word: values[word]()


def _clean(path: str, output: bytes) -> bytes:
    """Return a path without what leads out of the folder, and without the names of inboxd's own files.

    If nothing is left of it, as of "{suffix}" for a file without one, it is the name that the handler has given.
    """
    parts = [part for part in os.fsencode(path).split(b"/") if part] or [output.rpartition(b"/")[2]]
    return b"/".join(b"_" + part if part in (b".", b"..") or part.startswith(TEMP_PREFIX) else part for part in parts)
