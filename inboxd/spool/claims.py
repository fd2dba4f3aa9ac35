"""The parcels in an inbox's claimed/ folder: claim files, list them, split parcels, and release files.

Paths are bytes, relative to inbox/ and to claimed/<parcel>/. Results report lost races; only open_folder_of raises.
"""

import contextlib
import errno
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from inboxd.fs.copy import complete_move, move_by_copy, move_to_other_mount, temp_name
from inboxd.fs.folders import DirHandle, open_path, opened_path
from inboxd.fs.names import DELETED_NAME, TEMP_NAME
from inboxd.fs.rename import move_into_new, move_to_free_name
from inboxd.fs.syscalls import Disk, Fd, closing, is_same_file
from inboxd.fs.walk import Entry, walk
from inboxd.spool.layout import CLAIMED_MODE, FOLDER_MODE, Folders, is_parcel_id, split_path
from inboxd.spool.outputs import CLOSING, OUTPUTS, discard_outputs

MOVED_AWAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors for a path of which another process has moved or deleted a part."""


_NO_FILE = re.compile(TEMP_NAME.pattern + b"|" + DELETED_NAME.pattern)

Mover = Callable[[Disk, Fd, bytes, Fd, bytes], None]


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The result of a claim: the paths that are in the parcel now, and the paths whose rename failed, with the error."""

    claimed: list[bytes]
    denied: list[tuple[bytes, OSError]]


def claim(disk: Disk, folders: Folders, parcel: str, paths: Iterable[bytes], by_copy: Collection[bytes] = ()) -> ClaimResult:
    """Rename files from inbox/ into a new parcel, or copy those in ``by_copy``: then other names and descriptors stay outside.

    Raises OSError if the parcel's folder can't be created.
    """
    name = parcel.encode()
    # If we die here: nothing has happened.
    disk.mkdir(folders.claimed, name, CLAIMED_MODE)
    result = ClaimResult([], [])
    with (
        closing(disk, disk.open_folder(folders.claimed, name)) as parcel_folder,
        DirHandle(disk, folders.inbox) as src,
        DirHandle(disk, parcel_folder, CLAIMED_MODE) as dst,
    ):
        copies = _InterruptedCopies(disk, folders)
        for path in paths:
            try:
                # If we die here: the renamed files are in a parcel without a lease, which recovery publishes.
                claimed_path = _rename(disk, src, dst, path, copies.copy if path in by_copy else copies.move)
                if claimed_path is not None:
                    result.claimed.append(claimed_path)
            except OSError as error:
                result.denied.append((path, error))
    if not result.claimed:
        remove_if_empty(disk, folders, parcel)
    return result


class _InterruptedCopies:
    """Claims by a copy: one that another process began is completed, so that the file is not claimed twice."""

    def __init__(self, disk: Disk, folders: Folders) -> None:
        self._disk = disk
        self._folders = folders
        self._found: dict[bytes, tuple[bytes, ...]] | None = None

    def move(self, disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Rename a file; copy one from another mount."""
        try:
            # If we die here: the file is in inbox/ or in the parcel.
            disk.rename_over(src_at, src, dst_at, dst)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._complete_earlier(src_at, src)
            move_to_other_mount(disk, src_at, src, dst_at, dst)

    def copy(self, disk: Disk, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        """Copy a file, and remove its name."""
        self._complete_earlier(src_at, src)
        move_by_copy(disk, src_at, src, dst_at, dst)

    def _complete_earlier(self, src_at: Fd, src: bytes) -> None:
        """Complete an earlier claim of this file; then raise FileNotFoundError, as for any file that another process moved."""
        if self._found is None:
            self._found = {entry.name: split_path(entry.path)[0] for entry in _unfinished(self._disk, self._folders)}
        folder = self._found.get(temp_name(self._disk.stat(src_at, src)))
        is_completed = False
        if folder is not None:
            with contextlib.suppress(FileNotFoundError), opened_path(self._disk, self._folders.claimed, folder) as at:
                is_completed = complete_move(self._disk, src_at, src, at)
        if is_completed:
            raise FileNotFoundError(errno.ENOENT, "an earlier claim of this file was completed", src)


def _unfinished(disk: Disk, folders: Folders) -> Iterator[Entry]:
    """Yield the temporary names of copies in all parcels; their paths are relative to claimed/."""
    return (entry for entry in walk(disk, folders.claimed) if not entry.is_folder and TEMP_NAME.fullmatch(entry.name))


def complete_copies(disk: Disk, folders: Folders, parcel: str) -> None:
    """Complete the claims by copy into a parcel whose claimer died before it removed the source. Raises OSError."""
    entries = _walk_parcel(disk, folders, parcel)
    for path in [entry.path for entry in entries if not entry.is_folder and TEMP_NAME.fullmatch(entry.name)]:
        parts, temp = split_path(path)
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            opened_path(disk, folders.claimed, (parcel.encode(), *parts)) as at,
            opened_path(disk, folders.inbox, parts) as src_at,
        ):
            _complete_copy(disk, src_at, at, temp)


def _complete_copy(disk: Disk, src_at: Fd, at: Fd, temp: bytes) -> None:
    """Remove the source of one copy, if it is there."""
    copy = disk.stat(at, temp)
    others = [name for name, is_folder in disk.entries(at) if not is_folder and name != temp]
    for name in others:
        if is_same_file(disk.stat(at, name), copy) and temp_name(disk.stat(src_at, name)) == temp:
            complete_move(disk, src_at, name, at)


def _rename(disk: Disk, src: DirHandle, dst: DirHandle, path: bytes, mover: Mover = move_into_new) -> bytes | None:
    """Move one file from ``src`` to ``dst``, under its own relative path if its folders' names are free there.

    Returns its path below ``dst``, or None if another process has moved the file.
    """
    parts, name = split_path(path)
    try:
        src_at, _ = src.open(parts)
        if parts:
            disk.stat(src_at, name)  # raises for a missing file before any folder is created for it
        dst_at, dst_parts = dst.open(parts)
        mover(disk, src_at, name, dst_at, name)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return None
        raise
    return b"/".join((*dst_parts, name))


def list_parcels(disk: Disk, folders: Folders) -> list[str]:
    """Return the ids of the parcels in claimed/, oldest first. Other names are ignored."""
    return sorted(
        name.decode()
        for name, is_folder in disk.entries(folders.claimed)
        if is_folder and is_parcel_id(name.decode("ascii", "replace"))
    )


def list_files(disk: Disk, folders: Folders, parcel: str) -> list[bytes]:
    """Return the paths of the files in a parcel, sorted; [] if there is no such parcel.

    Deleted files that a program still has open on a network mount are none.
    """
    entries = _walk_parcel(disk, folders, parcel)
    return sorted(entry.path for entry in entries if not entry.is_folder and not _NO_FILE.fullmatch(entry.name))


def _walk_parcel(disk: Disk, folders: Folders, parcel: str) -> Iterator[Entry]:
    """Yield every entry in a parcel but outputs, each folder after its contents; nothing if there is no such parcel."""
    try:
        parcel_folder = disk.open_folder(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return
        raise
    with closing(disk, parcel_folder):
        for entry in walk(disk, parcel_folder, lambda folder: folder.path not in (OUTPUTS, CLOSING)):
            if entry.path not in (OUTPUTS, CLOSING):
                yield entry


def open_folder_of(disk: Disk, folders: Folders, parcel: str, path: bytes) -> tuple[Fd, bytes]:
    """Open the folder of one file in a parcel; return its descriptor, which the caller closes, and the file's name.

    Raises OSError with an errno of MOVED_AWAY if the parcel or the folder is missing.
    """
    parts, name = split_path(path)
    return open_path(disk, folders.claimed, (parcel.encode(), *parts)), name


def split_off(disk: Disk, folders: Folders, parcel: str, path: bytes, new_parcel: str) -> bool:
    """Move one file into a new parcel without a lease, and without outputs; return False if the file is missing."""
    discard_outputs(disk, folders, parcel, path)
    disk.mkdir(folders.claimed, new_parcel.encode(), CLAIMED_MODE)
    # If we die here: an empty parcel, which the next sweep removes; the file is in its old parcel.
    is_moved = False
    with (
        closing(disk, disk.open_folder(folders.claimed, new_parcel.encode())) as new_folder,
        contextlib.suppress(FileNotFoundError),
        closing(disk, disk.open_folder(folders.claimed, parcel.encode())) as old_folder,
        DirHandle(disk, old_folder) as src,
        DirHandle(disk, new_folder, CLAIMED_MODE) as dst,
    ):
        is_moved = _rename(disk, src, dst, path) is not None
    # If we die here: the file is in a parcel without a lease, which recovery publishes.
    remove_if_empty(disk, folders, parcel)
    if not is_moved:
        remove_if_empty(disk, folders, new_parcel)
    return is_moved


def reclaim(disk: Disk, folders: Folders, filed: bytes, path: bytes, new_parcel: str) -> bool:
    """Move a file from done/ into a new parcel without a lease, under its path below inbox/; return False if it is missing."""
    parts, name = split_path(path)
    filed_parts, filed_name = split_path(filed)
    try:
        with opened_path(disk, folders.done, filed_parts) as done_at:
            disk.stat(done_at, filed_name)
            # If we die here, or below: an empty parcel, which the next sweep removes; the file is in done/.
            disk.mkdir(folders.claimed, new_parcel.encode(), CLAIMED_MODE)
            with (
                closing(disk, disk.open_folder(folders.claimed, new_parcel.encode())) as new_folder,
                DirHandle(disk, new_folder, CLAIMED_MODE) as dst,
            ):
                dst_at, _ = dst.open(parts)
                # If we die here: the file is in a parcel without a lease, which recovery publishes.
                move_into_new(disk, done_at, filed_name, dst_at, name)
    except OSError as error:
        remove_if_empty(disk, folders, new_parcel)
        if error.errno in MOVED_AWAY:
            return False
        raise
    return True


def release_file(disk: Disk, folders: Folders, parcel: str, path: bytes) -> bool:
    """Move a claimed file back to inbox/, under its own path or the next free name; return False if the file is missing.

    Its outputs are removed.
    """
    parts, _ = split_path(path)
    discard_outputs(disk, folders, parcel, path)
    try:
        at, name = open_folder_of(disk, folders, parcel, path)
        with closing(disk, at):
            disk.stat(at, name)
            with DirHandle(disk, folders.inbox, FOLDER_MODE) as inbox:
                dst_at, _ = inbox.open(parts)
                # If we die here: the file is still claimed, or back in inbox/.
                move_to_free_name(disk, at, name, dst_at, name)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return False
        raise
    remove_if_empty(disk, folders, parcel)
    return True


def remove_if_empty(disk: Disk, folders: Folders, parcel: str) -> bool:
    """Remove a parcel's empty folders and temporary files, and the parcel itself.

    Return False if a file or an output is left in it.
    """
    try:
        for entry in _walk_parcel(disk, folders, parcel):
            # If we die here: an empty folder (or an incomplete copy) in claimed/, which the next sweep removes.
            if entry.is_folder:
                disk.rmdir(entry.at, entry.name)
            elif TEMP_NAME.fullmatch(entry.name):
                disk.unlink(entry.at, entry.name)
        disk.rmdir(folders.claimed, parcel.encode())
    except OSError as error:
        if error.errno not in (*MOVED_AWAY, errno.ENOTEMPTY, errno.EEXIST):
            raise
        return error.errno in MOVED_AWAY
    return True
