"""The layout of an inbox: its four folders, their names and modes, parcel ids, and relative paths."""

import contextlib
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import OUT_OF_RESOURCES, Disk, Fd

INBOX, CLAIMED, DONE, FAILED = b"inbox", b"claimed", b"done", b"failed"
OUT = b"out"
"""The folder beside the four to which outputs are delivered; it is made with the first one."""
FOLDER_NAMES = (INBOX, CLAIMED, DONE, FAILED)
CLAIMED_MODE = 0o700
"""Mode of claimed/ and of the parcels in it: only inboxd may access files in flight."""
FOLDER_MODE = 0o777
"""Mode of new folders for users' files: the umask and the parent's default ACL decide who may access them."""

_INVALID_NAMES = (b"", b".", b"..")
_PARCEL_ID = re.compile(r"[0-9a-f]{28}")


@dataclass(frozen=True, slots=True)
class Folders:
    """The descriptors of an inbox's folders, valid inside the ``open_folders`` block that returned them."""

    inbox: Fd
    claimed: Fd
    done: Fd
    failed: Fd


@contextlib.contextmanager
def open_folders(disk: Disk, root: PurePath) -> Iterator[Folders]:
    """Open the four folders below ``root`` for a with block. Raises FolderUnavailable if one can't be opened.

    Raises OSError if that is not the folder's fault: no descriptor or memory is left.
    """
    with contextlib.ExitStack() as stack:
        fds: list[Fd] = []
        name = b""
        try:
            top = disk.open_root(root)
            stack.callback(disk.close, top)
            for name in FOLDER_NAMES:
                fds.append(disk.open_folder(top, name))
                stack.callback(disk.close, fds[-1])
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                raise
            raise FolderUnavailable(f"{root / name.decode()}: {error.strerror}") from error
        yield Folders(*fds)


def new_parcel_id(now: float | None = None) -> str:
    """Return a new parcel id: 28 hex digits. The first 12 are its creation time in milliseconds, so that ids sort by age."""
    millis = int((time.time() if now is None else now) * 1000)
    return f"{millis:012x}{secrets.token_hex(8)}"


def is_parcel_id(name: str) -> bool:
    """Return whether a name has the form of a parcel id. Check each name from a message or a folder with it before use."""
    return _PARCEL_ID.fullmatch(name) is not None


def created_at(parcel: str) -> float:
    """Return a parcel's creation time from its id, in Unix seconds."""
    return int(parcel[:12], 16) / 1000


def split_path(path: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Split a relative path into its folders and its name. Raises ValueError for a path that could lead out of the inbox."""
    if b"/" not in path and b"\0" not in path and path not in _INVALID_NAMES:  # the fast path: most files have no folders
        return (), path
    *parts, name = path.split(b"/")
    if any(part in _INVALID_NAMES or b"\0" in part for part in (*parts, name)):
        raise ValueError(f"not a path below an inbox: {path!r}")
    return tuple(parts), name
