"""The four folders of an inbox: their names, and one open look at all of them."""

import contextlib
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk, Fd

INBOX, CLAIMED, DONE, FAILED = b"inbox", b"claimed", b"done", b"failed"
FOLDER_NAMES = (INBOX, CLAIMED, DONE, FAILED)
CLAIMED_MODE = 0o700
"""What is in flight is nobody else's business; the droppers' folders keep the modes they are given."""

_INVALID_NAMES = (b"", b".", b"..")
_PARCEL_ID = re.compile(r"[0-9a-f]{28}")


@dataclass(frozen=True, slots=True)
class Folders:
    """An inbox's folders, open. The descriptors are valid inside the ``opened`` block that made them."""

    inbox: Fd
    claimed: Fd
    done: Fd
    failed: Fd


@contextlib.contextmanager
def open_folders(disk: Disk, root: PurePath) -> Iterator[Folders]:
    """Open the four folders below ``root``. Raises FolderAway if one is missing: unknown is not empty."""
    with contextlib.ExitStack() as stack:
        fds = []
        top = None
        for name in FOLDER_NAMES:
            try:
                if top is None:
                    top = disk.open_root(root)
                    stack.callback(disk.close, top)
                fds.append(disk.open_folder(top, name))
            except OSError as error:
                where = root / name.decode() if top is not None else root
                raise FolderUnavailable(f"{where}: {error.strerror}") from error
            stack.callback(disk.close, fds[-1])
        yield Folders(*fds)


def new_parcel_id(now: float | None = None) -> str:
    """Make a parcel's id: 28 hex digits, the first 12 its birth in milliseconds, so that names sort by age."""
    millis = int((time.time() if now is None else now) * 1000)
    return f"{millis:012x}{secrets.token_hex(8)}"


def is_parcel_id(name: str) -> bool:
    """Tell whether a name, from a message or found on the disk, can be a parcel's."""
    return _PARCEL_ID.fullmatch(name) is not None


def created_at(parcel: str) -> float:
    """Return when a parcel was made, in unix seconds."""
    return int(parcel[:12], 16) / 1000


def split_path(path: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Split a relative path into its folders and its name. Raises ValueError for one that could lead outside."""
    if b"/" not in path and b"\0" not in path and path not in _INVALID_NAMES:  # most are
        return (), path
    *parts, name = path.split(b"/")
    if any(part in _INVALID_NAMES or b"\0" in part for part in (*parts, name)):
        raise ValueError(f"not a path below an inbox: {path!r}")
    return tuple(parts), name
