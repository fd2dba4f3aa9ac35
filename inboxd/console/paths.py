"""Convert typed paths to paths in a spool: the inbox, the folder, and the path below it."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inboxd.config.settings import Settings
from inboxd.spool import layout

FOLDERS = tuple(name.decode() for name in (*layout.FOLDER_NAMES, layout.OUT))


@dataclass(frozen=True, slots=True)
class SpoolPath:
    """A path below one folder of an inbox; ``folder`` is one of FOLDERS, or "" if the typed path names none."""

    inbox: str
    folder: str
    path: bytes


def find_spool_paths(settings: Settings, typed_path: str) -> list[SpoolPath]:
    """Return what a typed path can mean: one path if it leads into an inbox's folder, else the same path in every inbox.

    The path is taken relative to the current folder, then to each inbox. [] if it leads to no spool.
    """
    absolute = os.path.normpath(Path.cwd() / typed_path)
    resolved = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))  # noqa: PTH118, PTH119, PTH120
    for path in dict.fromkeys((absolute, resolved)):
        if found := list(_match_inboxes(settings, os.fsencode(path))):
            return found
    relative = os.path.normpath(typed_path)
    if os.path.isabs(relative) or relative.split("/")[0] in (".", ".."):  # noqa: PTH117
        return []
    folder, _, rest = relative.partition("/")
    if folder in FOLDERS and rest:
        return [SpoolPath(inbox, folder, os.fsencode(rest)) for inbox in settings.inbox]
    return [SpoolPath(inbox, "", os.fsencode(relative)) for inbox in settings.inbox]


def quote_for_shell(path: bytes) -> str:
    """Return a path quoted for a shell, in printable characters, so that a printed command can be pasted whatever the name."""
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
                folder, _, rest = path[len(root) + 1 :].partition(b"/")
                if folder.decode("ascii", "replace") in FOLDERS and rest:
                    yield SpoolPath(name, folder.decode(), rest)
                    return
