"""Delivers the outputs of files that are filed to out/ beside done/, another folder, or the next inbox, each exactly once."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import NamedTuple

from inboxd.fs.folders import DirHandle, opened_path
from inboxd.fs.remove import remove_tree
from inboxd.fs.rename import exists, move_over, move_to_free_name
from inboxd.fs.sharing import own_mode, share_as_parent
from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.fs.walk import Entry
from inboxd.spool.layout import CLAIMED_MODE, FOLDER_MODE, OUT, Folders
from inboxd.spool.outputs import (
    CLOSING,
    KEY_PATTERN,
    OUTPUTS,
    has_outputs,
    ignoring_what_is_gone,
    is_output,
    key_of,
    list_outputs,
    list_paths,
    read_mark,
    version_of,
)

_ATTEMPTS = 5


class Destination(NamedTuple):
    """Where outputs go: a folder, or None for out/ beside done/; and what happens if a name is taken: see ``on_conflict``.

    ``rename`` returns the path that an output gets in place of one that nobody would notice there.
    """

    folder: PurePath | None = None
    on_conflict: str = "number"
    rename: Callable[[tuple[bytes, ...]], tuple[bytes, ...]] = tuple


BESIDE_DONE = Destination()


class Delivered(NamedTuple):
    """One output: the path of the file that it was made of, its own name, and its path below out/.

    ``filed`` is None for what is no file, such as a link or a pipe: it is removed.
    """

    source: bytes
    name: bytes
    filed: bytes | None


def find_taken(disk: Disk, folders: Folders, parcel: str, path: bytes, destination: Destination) -> bytes | None:
    """Return the first path below the destination that an output of a claimed file would have, and that is taken.

    Raises OSError.
    """
    with (
        ignoring_what_is_gone(),
        opened_path(disk, folders.claimed, (parcel.encode(), OUTPUTS)) as outputs,
        closing(disk, open_destination(disk, folders, destination)) as top,
    ):
        for wanted in sorted(list_paths(disk, outputs, key_of(path), path)):
            *parts, name = destination.rename(tuple(wanted.split(b"/")))
            with ignoring_what_is_gone(), opened_path(disk, top, tuple(parts)) as at:
                if exists(disk, at, name):
                    return wanted
    return None


def finish_outputs(disk: Disk, folders: Folders, parcel: str, destination: Destination = BESIDE_DONE) -> Iterator[Delivered]:
    """Deliver the committed outputs of files that are no longer claimed, and yield each; close the outputs of an empty parcel.

    Raises OSError, with what is not delivered still in the parcel.
    """
    with ignoring_what_is_gone(), opened_path(disk, folders.claimed, (parcel.encode(),)) as parcel_folder:
        yield from _deliver_all(disk, folders, parcel_folder, OUTPUTS, destination)
        if any(name not in (OUTPUTS, CLOSING) for name, _ in disk.entries(parcel_folder)):
            return
        yield from _close(disk, folders, parcel_folder, destination)  # what an earlier sweep has left
        with contextlib.suppress(FileNotFoundError):
            # If we die here: outputs under the other name, of which the next sweep delivers what is left.
            disk.rename_over(parcel_folder, OUTPUTS, parcel_folder, CLOSING)
        yield from _close(disk, folders, parcel_folder, destination)


def _close(disk: Disk, folders: Folders, parcel_folder: Fd, destination: Destination) -> Iterator[Delivered]:
    """Deliver what was committed at the last moment, and remove all runs."""
    yield from _deliver_all(disk, folders, parcel_folder, CLOSING, destination)
    remove_tree(disk, parcel_folder, CLOSING)


def _deliver_all(disk: Disk, folders: Folders, parcel_folder: Fd, name: bytes, destination: Destination) -> Iterator[Delivered]:
    try:
        outputs = disk.open_folder(parcel_folder, name)
    except FileNotFoundError:
        return
    with closing(disk, outputs):
        for key in [run for run, _ in disk.entries(outputs) if KEY_PATTERN.fullmatch(run)]:
            mark = read_mark(disk, outputs, key)
            if mark is None or key_of(mark.path) != key:
                if has_outputs(disk, outputs, key):
                    raise OSError(errno.EBADMSG, f"{OUTPUTS.decode()}/{key.decode()} does not say of which file it is")
            elif not version_of(disk, parcel_folder, mark.path):
                yield from _deliver(disk, folders, outputs, key, mark.path, destination)


def _deliver(
    disk: Disk, folders: Folders, outputs: Fd, key: bytes, source: bytes, destination: Destination
) -> Iterator[Delivered]:
    """Move a run's outputs to their folder; what is no file is removed."""
    if not has_outputs(disk, outputs, key):
        return
    with (
        closing(disk, open_destination(disk, folders, destination)) as top,
        DirHandle(disk, top, FOLDER_MODE) as out,
    ):
        for entry, parts in list_outputs(disk, outputs, key, source):
            if is_output(disk, entry):
                # If we die here: the output is in the run or in its folder; the next sweep delivers what is left.
                if filed := _move(disk, entry, out, destination.rename(parts), destination.on_conflict):
                    yield Delivered(source, entry.path, filed)
            else:
                with contextlib.suppress(FileNotFoundError):
                    disk.unlink(entry.at, entry.name)
                    yield Delivered(source, entry.path, None)
    if has_outputs(disk, outputs, key):
        raise OSError(errno.EAGAIN, "outputs are left that could not be read or moved")


def _move(disk: Disk, entry: Entry, out: DirHandle, parts: tuple[bytes, ...], on_conflict: str) -> bytes | None:
    """Move one output, and make its folder in out/ again if it is removed; return None if another process has moved it."""
    for _ in range(_ATTEMPTS):
        dst_at, dst_parts = out.open(parts[:-1])
        try:
            if on_conflict == "replace" and move_over(disk, entry.at, entry.name, dst_at, parts[-1]):
                return b"/".join((*dst_parts, parts[-1]))
            return b"/".join((*dst_parts, move_to_free_name(disk, entry.at, entry.name, dst_at, parts[-1])))
        except FileNotFoundError:
            if not exists(disk, entry.at, entry.name):
                return None
            out.close()
    raise OSError(errno.EAGAIN, f"the folder in out/ was removed at each of {_ATTEMPTS} attempts")


def open_destination(disk: Disk, folders: Folders, destination: Destination) -> Fd:
    """Open the folder of the outputs. Raises OSError, which names it."""
    if destination.folder is None:
        return open_out(disk, folders)
    try:
        return disk.open_root(destination.folder)
    except OSError as error:
        # not ENOENT, which would say that another process has delivered the outputs
        raise OSError(errno.EIO, f"out, {destination.folder}: {error.strerror}") from error


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
