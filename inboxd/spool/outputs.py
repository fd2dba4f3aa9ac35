"""What handlers make of files: collected in the parcel, and delivered to out/ exactly once, however often a handler ran.

Each call of a handler that makes something has a folder of its own, a *run*. When the handler returns, the run is committed by
a rename to the name of its file's key: the first one wins, and later runs are removed. A committed run belongs to its file for
as long as the file is claimed: if the file goes to done/, its outputs follow to out/; if elsewhere, they are removed first.

A run is ``.inboxd-out/<key>.<token>``, or ``.inboxd-out/<key>`` once it is committed. In it ``files`` is what the handler sees,
and ``of`` says of which file it is, and of which version. A delivered run stays until its parcel is closed, so that a call that
ends later can't be committed.
"""

import contextlib
import errno
import hashlib
import re
import secrets
from collections.abc import Iterator
from typing import NamedTuple

import msgpack

from inboxd.fs.folders import DirHandle, open_path, opened_path
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.remove import OWNER_FILE, OWNER_FOLDER, open_up, remove_tree
from inboxd.fs.rename import exists, move_to_free_name
from inboxd.fs.sharing import own_mode, share_as_parent
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing
from inboxd.fs.walk import Entry, walk
from inboxd.spool.layout import CLAIMED_MODE, FOLDER_MODE, OUT, Folders, split_path

OUTPUTS, CLOSING = TEMP_PREFIX + b"out", TEMP_PREFIX + b"out-closing"
"""The folder in a parcel with the runs; its name while they are removed. No dropped file has these names."""
FILES = b"files"

_MARK, _MARK_MODE, _MARK_BYTES_MAX = b"of", 0o600, 1 << 16
_KEY = re.compile(rb"[0-9a-f]{32}")
_GONE = (errno.ENOENT, errno.ENOTDIR)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_ATTEMPTS = 5


class Delivered(NamedTuple):
    """One output: the path of the file that it was made of, its own name, and its path below out/.

    ``filed`` is None for what is no file, such as a link or a pipe: it is removed.
    """

    source: bytes
    name: bytes
    filed: bytes | None


class _Mark(NamedTuple):
    """Of which file a run is: its path, and its size and mtime when the run began; None if it was not there."""

    path: bytes
    version: tuple[int, int] | None


def begin_run(disk: Disk, parcel_folder: Fd, path: bytes) -> bytes:
    """Make a folder for what a handler makes of a file; return its path in the parcel. Raises OSError."""
    mark = _Mark(path, _version(disk, parcel_folder, path))
    # If we die in this function or in the handler: a run that is not committed, which goes with its parcel.
    with contextlib.suppress(FileExistsError):
        disk.mkdir(parcel_folder, OUTPUTS, CLAIMED_MODE)
    run = _key(path) + b"." + secrets.token_hex(8).encode()
    with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        disk.mkdir(outputs, run, CLAIMED_MODE)
        with closing(disk, disk.open_folder(outputs, run)) as folder:
            disk.mkdir(folder, FILES, CLAIMED_MODE)
            with closing(disk, disk.create(folder, _MARK, _MARK_MODE)) as file:
                disk.write(file, msgpack.packb(mark))
    return b"/".join((OUTPUTS, run, FILES))


def commit_run(disk: Disk, parcel_folder: Fd, run: bytes) -> bool:
    """Make a run's outputs those of its file; return False if an earlier run has, or if there are none: then it is removed.

    Outputs of an older version of the file give way to those of the present one. The outputs are on the storage device before.
    ``run`` is what ``begin_run`` returned. Raises OSError.
    """
    name = run.split(b"/")[1]
    try:
        with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
            mark = _read_mark(disk, outputs, name)
            if mark and _sync(disk, outputs, name):
                present = _version(disk, parcel_folder, mark.path)
                if _rename_to_key(disk, outputs, name, mark, present):
                    return True
            remove_tree(disk, outputs, name)
    except OSError as error:
        # without the folder of all runs, the parcel was closed meanwhile: another run was filed
        if error.errno not in _GONE or exists(disk, parcel_folder, OUTPUTS):
            raise
    return False


def _rename_to_key(disk: Disk, outputs: Fd, run: bytes, mark: _Mark, present: tuple[int, int] | None) -> bool:
    """Commit a run, unless another one of the same version, or of the ``present`` one, is committed."""
    key = _key(mark.path)
    for _ in range(_ATTEMPTS):
        try:
            # If we die here: the outputs are committed, or the handler is called again.
            disk.rename_over(outputs, run, outputs, key)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            other = _read_mark(disk, outputs, key)
            if other is None or present is None or other.version in (mark.version, present):
                return False
            # of an older version of the file, which was written to after its worker was killed
            remove_tree(disk, outputs, key)
        else:
            return True
    return False


def discard_run(disk: Disk, parcel_folder: Fd, run: bytes) -> None:
    """Remove the outputs of a call that failed. Raises OSError."""
    with _ignoring_what_is_gone(), closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        remove_tree(disk, outputs, run.split(b"/")[1])


def discard_outputs(disk: Disk, folders: Folders, parcel: str, path: bytes) -> None:
    """Remove the committed outputs of a claimed file, before it goes anywhere but to done/. Raises OSError.

    If the file is not claimed any more, another process has filed it, and delivers them.
    """
    with (
        _ignoring_what_is_gone(),
        opened_path(disk, folders.claimed, (parcel.encode(),)) as parcel_folder,
        closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs,
    ):
        if _version(disk, parcel_folder, path):
            # If we die here: outputs are left of a file that is still claimed, whose handler is called again.
            remove_tree(disk, outputs, _key(path))


def finish_outputs(disk: Disk, folders: Folders, parcel: str) -> Iterator[Delivered]:
    """Deliver the committed outputs of files that are no longer claimed, and yield each; close the outputs of an empty parcel.

    Raises OSError, with what is not delivered still in the parcel.
    """
    with _ignoring_what_is_gone(), opened_path(disk, folders.claimed, (parcel.encode(),)) as parcel_folder:
        yield from _deliver_all(disk, folders, parcel_folder, OUTPUTS)
        if any(name not in (OUTPUTS, CLOSING) for name, _ in disk.entries(parcel_folder)):
            return
        yield from _close(disk, folders, parcel_folder)  # what an earlier sweep has left
        with contextlib.suppress(FileNotFoundError):
            # If we die here: outputs under the other name, of which the next sweep delivers what is left.
            disk.rename_over(parcel_folder, OUTPUTS, parcel_folder, CLOSING)
        yield from _close(disk, folders, parcel_folder)


def _close(disk: Disk, folders: Folders, parcel_folder: Fd) -> Iterator[Delivered]:
    """Deliver what was committed at the last moment, and remove all runs."""
    yield from _deliver_all(disk, folders, parcel_folder, CLOSING)
    remove_tree(disk, parcel_folder, CLOSING)


def _deliver_all(disk: Disk, folders: Folders, parcel_folder: Fd, name: bytes) -> Iterator[Delivered]:
    try:
        outputs = disk.open_folder(parcel_folder, name)
    except FileNotFoundError:
        return
    with closing(disk, outputs):
        for key in [run for run, _ in disk.entries(outputs) if _KEY.fullmatch(run)]:
            mark = _read_mark(disk, outputs, key)
            if mark is None or _key(mark.path) != key:
                if _has_outputs(disk, outputs, key):
                    raise OSError(errno.EBADMSG, f"{OUTPUTS.decode()}/{key.decode()} does not say of which file it is")
            elif not _version(disk, parcel_folder, mark.path):
                yield from _deliver(disk, folders, outputs, key, mark.path)


def _deliver(disk: Disk, folders: Folders, outputs: Fd, key: bytes, source: bytes) -> Iterator[Delivered]:
    """Move a run's outputs to out/, under their own names or the next free ones, in the sub-folder of their source."""
    folder_parts, _ = split_path(source)
    if not _has_outputs(disk, outputs, key):
        return
    with (
        closing(disk, open_path(disk, outputs, (key, FILES))) as files,
        closing(disk, open_out(disk, folders)) as top,
        DirHandle(disk, top, FOLDER_MODE) as out,
    ):
        for entry in walk(disk, files):
            if _is_output(disk, entry):
                parts, _ = split_path(entry.path)
                # If we die here: the output is in the run or in out/; the next sweep delivers what is left.
                if filed := _move(disk, entry, out, (*folder_parts, *parts)):
                    yield Delivered(source, entry.path, filed)
            elif not entry.is_folder:
                with contextlib.suppress(FileNotFoundError):
                    disk.unlink(entry.at, entry.name)
                    yield Delivered(source, entry.path, None)
    if _has_outputs(disk, outputs, key):
        raise OSError(errno.EAGAIN, "outputs are left that could not be read or moved")


def _move(disk: Disk, entry: Entry, out: DirHandle, parts: tuple[bytes, ...]) -> bytes | None:
    """Move one output, and make its folder in out/ again if it is removed; return None if another process has moved it."""
    for _ in range(_ATTEMPTS):
        dst_at, dst_parts = out.open(parts)
        try:
            return b"/".join((*dst_parts, move_to_free_name(disk, entry.at, entry.name, dst_at, entry.name)))
        except FileNotFoundError:
            if not exists(disk, entry.at, entry.name):
                return None
            out.close()
    raise OSError(errno.EAGAIN, f"the folder in out/ was removed at each of {_ATTEMPTS} attempts")


def open_out(disk: Disk, folders: Folders) -> Fd:
    """Open out/, and make it if it is missing: whoever sees done/ sees it, too. Raises OSError, which names it."""
    with closing(disk, disk.open_folder(folders.done, b"..")) as root:
        try:
            return disk.open_folder(root, OUT)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OSError(errno.EIO, f"out/ can't be opened ({error.strerror}): it must be a folder, and no link") from error
        try:
            with contextlib.suppress(FileExistsError):
                disk.mkdir(root, OUT, CLAIMED_MODE)
        except OSError as error:
            raise OSError(
                error.errno, f"out/ can't be made ({error.strerror}): make it, for the service to write to"
            ) from error
        out = disk.open_folder(root, OUT)
        # If we die here: an out/ that the service alone sees.
        disk.set_mode(out, own_mode(disk, folders.done) & 0o777)
        share_as_parent(disk, folders.done, out, is_folder=True)
        return out


def _sync(disk: Disk, outputs: Fd, run: bytes) -> bool:
    """Make a run's outputs readable, and flush them to the storage device; return whether there is one."""

    def enter(folder: Entry) -> bool:
        open_up(disk, folder, OWNER_FOLDER)
        return True

    has_outputs = False
    with closing(disk, open_path(disk, outputs, (run,))) as folder:
        open_up(disk, Entry(folder, b"", FILES, is_folder=True), OWNER_FOLDER)
        for entry in walk(disk, folder, enter):
            if entry.path == _MARK or not _is_output(disk, entry):
                continue
            has_outputs = True
            open_up(disk, entry, OWNER_FILE)
            with closing(disk, disk.open_file(entry.at, entry.name)) as file:
                disk.fsync(file)
        if has_outputs:
            disk.fsync(folder)
    return has_outputs


def _has_outputs(disk: Disk, outputs: Fd, run: bytes) -> bool:
    with _ignoring_what_is_gone(), opened_path(disk, outputs, (run, FILES)) as files:
        return any(_is_output(disk, entry) for entry in walk(disk, files))
    return False


def _is_output(disk: Disk, entry: Entry) -> bool:
    """Return whether an entry of a run is a file: links and devices are not delivered."""
    try:
        return not entry.is_folder and disk.stat(entry.at, entry.name).kind is FileKind.FILE
    except FileNotFoundError:  # another process has moved it
        return False


def _read_mark(disk: Disk, outputs: Fd, run: bytes) -> _Mark | None:
    """Return of which file a run is; None for one that is being made or removed, or that a handler has damaged."""
    with (
        _ignoring_what_is_gone(),
        opened_path(disk, outputs, (run,)) as folder,
        closing(disk, disk.open_file(folder, _MARK)) as mark,
    ):
        try:
            path, version = msgpack.unpackb(disk.read(mark, _MARK_BYTES_MAX))
            split_path(path)
            return _Mark(path, None if version is None else (int(version[0]), int(version[1])))
        except (ValueError, TypeError, IndexError, msgpack.UnpackException):
            return None
    return None


def _version(disk: Disk, parcel_folder: Fd, path: bytes) -> tuple[int, int] | None:
    """Return size and mtime of a claimed file, None if it is not there."""
    parts, name = split_path(path)
    with _ignoring_what_is_gone(), opened_path(disk, parcel_folder, parts) as at:
        stat = disk.stat(at, name)
        return stat.size, stat.mtime_ns
    return None


@contextlib.contextmanager
def _ignoring_what_is_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _key(path: bytes) -> bytes:
    return hashlib.blake2b(path, digest_size=16).hexdigest().encode()
