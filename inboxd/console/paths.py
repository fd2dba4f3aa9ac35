"""From what a person types to a place in a spool: which inbox, which of its folders, which path there."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inboxd.config.settings import Settings
from inboxd.spool import layout

FOLDERS = tuple(name.decode() for name in layout.FOLDER_NAMES)


@dataclass(frozen=True, slots=True)
class SpoolPath:
    """A path below one folder of an inbox; ``top`` is inbox, claimed, done or failed, or "" where the path does not say it."""

    inbox: str
    folder: str
    path: bytes


def find_spool_paths(settings: Settings, typed: str) -> list[SpoolPath]:
    """Return what a typed path can mean: one place, if it leads into an inbox's folder; else that path in every inbox.

    It counts from the current folder, or from an inbox's own. [] for one that leads nowhere in a spool.
    """
    here = os.path.normpath(Path.cwd() / typed)
    real = os.path.join(os.path.realpath(os.path.dirname(here)), os.path.basename(here))  # noqa: PTH118, PTH119, PTH120
    for path in dict.fromkeys((here, real)):
        if found := list(_match_inboxes(settings, os.fsencode(path))):
            return found
    below = os.path.normpath(typed)
    if os.path.isabs(below) or below.split("/")[0] in (".", ".."):  # noqa: PTH117
        return []
    top, _, rest = below.partition("/")
    if top in FOLDERS and rest:
        return [SpoolPath(inbox, top, os.fsencode(rest)) for inbox in settings.inbox]
    return [SpoolPath(inbox, "", os.fsencode(below)) for inbox in settings.inbox]


def quote_for_shell(path: bytes) -> str:
    """Return how a path is typed in a shell, printable: what people are told to run, they paste, whatever the name holds."""
    text = os.fsdecode(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(c if c.isprintable() and c not in "\\'" else _escape_bytes(c) for c in text) + "'"


def _escape_bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _match_inboxes(settings: Settings, path: bytes) -> Iterator[SpoolPath]:
    for name, inbox in settings.inbox.items():
        for root in dict.fromkeys((bytes(inbox.root), os.fsencode(os.path.realpath(inbox.root)))):
            if path.startswith(root + b"/"):
                top, _, rest = path[len(root) + 1 :].partition(b"/")
                if top in layout.FOLDER_NAMES and rest:
                    yield SpoolPath(name, top.decode(), rest)
                    return
