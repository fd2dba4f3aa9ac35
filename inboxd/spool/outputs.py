"""What handlers make of files: collected in the parcel, and delivered to out/ exactly once, however often a handler ran.

Each call of a handler that makes something has a folder of its own, a *run*. When the handler returns, the run is committed by
a rename to the name of its file's key: the first one wins, and later runs are removed. A committed run belongs to its file for
as long as the file is claimed: if the file goes to done/, its outputs follow to out/; if elsewhere, they are removed first.
"""

import contextlib
import errno
import hashlib
import re
import secrets
from collections.abc import Iterator
from typing import NamedTuple

from inboxd.fs.folders import DirHandle, open_path, opened_path
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.rename import move_to_free_name
from inboxd.fs.sharing import share_as_parent
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing
from inboxd.fs.walk import Entry, walk
from inboxd.spool.layout import CLAIMED_MODE, FOLDER_MODE, Folders, split_path

OUT = b"out"
"""The folder beside done/ to which outputs are delivered; it is made with the first one."""
OUTPUTS = TEMP_PREFIX + b"out"
"""The folder in a parcel with the runs. No dropped file has this name."""
MARK = TEMP_PREFIX + b"of"
"""A file in each run with the path of the file that it is made of. It stays there, so that no committed run is empty."""

_MARK_MODE = 0o600
_PATH_BYTES_MAX = 1 << 16
_KEY = re.compile(rb"[0-9a-f]{32}")
_GONE = (errno.ENOENT, errno.ENOTDIR)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


class Delivered(NamedTuple):
    """One output: the path of the file that it was made of, its own name, and its path below out/."""

    source: bytes
    name: bytes
    filed: bytes


def begin_run(disk: Disk, parcel_folder: Fd, path: bytes) -> bytes:
    """Make a folder for what a handler makes of a file; return its name in OUTPUTS. Raises OSError."""
    # If we die in this function or in the handler: a run that is not committed, which goes with its parcel.
    with contextlib.suppress(FileExistsError):
        disk.mkdir(parcel_folder, OUTPUTS, CLAIMED_MODE)
    run = _key(path) + b"." + secrets.token_hex(8).encode()
    with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        disk.mkdir(outputs, run, CLAIMED_MODE)
        with (
            closing(disk, disk.open_folder(outputs, run)) as folder,
            closing(disk, disk.create(folder, MARK, _MARK_MODE)) as mark,
        ):
            disk.write(mark, path)
    return run


def commit_run(disk: Disk, parcel_folder: Fd, path: bytes, run: bytes) -> bool:
    """Make a run's outputs those of its file; return False if an earlier run has, or if there are none: then it is removed.

    The outputs are on the storage device before. Raises OSError.
    """
    try:
        with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
            if not _sync(disk, outputs, run):
                _remove_tree(disk, outputs, run)
                return False
            try:
                # If we die here: the outputs are committed, or the handler is called again.
                disk.rename_over(outputs, run, outputs, _key(path))
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                _remove_tree(disk, outputs, run)
                return False
    except OSError as error:
        if error.errno in _GONE:  # the parcel was closed meanwhile: another run was filed
            return False
        raise
    return True


def discard_run(disk: Disk, parcel_folder: Fd, run: bytes) -> None:
    """Remove the outputs of a call that failed. Raises OSError."""
    with _ignoring_what_is_gone(), closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        _remove_tree(disk, outputs, run)


def discard_outputs(disk: Disk, folders: Folders, parcel: str, path: bytes) -> None:
    """Remove the committed outputs of a file, before it goes anywhere but to done/. Raises OSError."""
    with _ignoring_what_is_gone(), opened_path(disk, folders.claimed, (parcel.encode(), OUTPUTS)) as outputs:
        # If we die here: outputs are left of a file that is still claimed, whose handler is called again.
        _remove_tree(disk, outputs, _key(path))


def finish_outputs(disk: Disk, folders: Folders, parcel: str) -> list[Delivered]:
    """Deliver the committed outputs of files that are no longer claimed, and remove their other runs. Raises OSError."""
    delivered: list[Delivered] = []
    with _ignoring_what_is_gone(), opened_path(disk, folders.claimed, (parcel.encode(),)) as parcel_folder:
        with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
            has_files = any(name != OUTPUTS for name, _ in disk.entries(parcel_folder))
            for name in [name for name, _ in disk.entries(outputs)]:
                source = _read_mark(disk, outputs, name)
                if (has_files and not source) or (source and _is_claimed(disk, parcel_folder, source)):
                    continue
                if source and _KEY.fullmatch(name):
                    delivered += _deliver(disk, folders, outputs, name, source)
                # If we die here: a run that is delivered or was never committed, which the next sweep removes.
                _remove_tree(disk, outputs, name)
        with contextlib.suppress(OSError):  # others are left
            disk.rmdir(parcel_folder, OUTPUTS)
    return delivered


def _is_claimed(disk: Disk, parcel_folder: Fd, path: bytes) -> bool:
    parts, name = split_path(path)
    with _ignoring_what_is_gone(), opened_path(disk, parcel_folder, parts) as at:
        disk.stat(at, name)
        return True
    return False


def _deliver(disk: Disk, folders: Folders, outputs: Fd, key: bytes, source: bytes) -> Iterator[Delivered]:
    """Move a run's outputs to out/, under their own names or the next free ones, in the sub-folder of their source."""
    folder_parts, _ = split_path(source)
    with (
        closing(disk, disk.open_folder(outputs, key)) as run,
        closing(disk, _open_out(disk, folders)) as top,
        DirHandle(disk, top, FOLDER_MODE) as out,
    ):
        for entry in walk(disk, run):
            if not _is_output(disk, entry):
                continue
            parts, name = split_path(entry.path)
            dst_at, dst_parts = out.open((*folder_parts, *parts))
            with contextlib.suppress(FileNotFoundError):  # another process delivers it
                # If we die here: the output is in the run or in out/; the next sweep delivers what is left.
                filed = move_to_free_name(disk, entry.at, entry.name, dst_at, name)
                yield Delivered(source, entry.path, b"/".join((*dst_parts, filed)))


def _is_output(disk: Disk, entry: Entry) -> bool:
    """Return whether an entry of a run is a file other than the mark: links and devices are not delivered."""
    return not entry.is_folder and entry.path != MARK and disk.stat(entry.at, entry.name).kind is FileKind.FILE


def _open_out(disk: Disk, folders: Folders) -> Fd:
    """Open out/, and make it if it is missing: whoever sees done/ sees it, too."""
    with closing(disk, disk.open_folder(folders.done, b"..")) as root:
        try:
            return disk.open_folder(root, OUT)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                disk.mkdir(root, OUT, CLAIMED_MODE)
        out = disk.open_folder(root, OUT)
        # If we die here: an out/ that the service alone sees.
        disk.set_mode(out, disk.fstat(folders.done).mode & 0o777)
        share_as_parent(disk, folders.done, out, is_folder=True)
        return out


def _sync(disk: Disk, outputs: Fd, run: bytes) -> bool:
    """Flush a run's outputs and folders to the storage device; return whether there is one."""
    has_outputs = False
    with closing(disk, disk.open_folder(outputs, run)) as folder:
        for entry in walk(disk, folder):
            if not _is_output(disk, entry):
                continue
            has_outputs = True
            with closing(disk, disk.open_file(entry.at, entry.name)) as file:
                disk.fsync(file)
        if has_outputs:
            disk.fsync(folder)
    return has_outputs


def _read_mark(disk: Disk, outputs: Fd, run: bytes) -> bytes:
    """Return the path of the file that a run belongs to; b"" for a run that is being made or removed."""
    with (
        _ignoring_what_is_gone(),
        opened_path(disk, outputs, (run,)) as folder,
        closing(disk, disk.open_file(folder, MARK)) as mark,
    ):
        return disk.read(mark, _PATH_BYTES_MAX)
    return b""


def _remove_tree(disk: Disk, at: Fd, name: bytes) -> None:
    """Remove a run: the mark last, so that a committed run without one has nothing to deliver."""
    with _ignoring_what_is_gone(), closing(disk, open_path(disk, at, (name,))) as run:
        for entry in walk(disk, run):
            if entry.is_folder:
                disk.rmdir(entry.at, entry.name)
            elif entry.path != MARK:
                disk.unlink(entry.at, entry.name)
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(run, MARK)
        disk.rmdir(at, name)


@contextlib.contextmanager
def _ignoring_what_is_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _key(path: bytes) -> bytes:
    return hashlib.blake2b(path, digest_size=16).hexdigest().encode()
