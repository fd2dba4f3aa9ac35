"""What the steps of a chain have made so far: kept in the parcel, so that a later attempt begins at the step that failed.

A checkpoint is a run with the name ``<key>.<label>``, see outputs.py. It is never changed: the next step works on a copy.
"""

from collections.abc import Sequence

from inboxd.fs.folders import DirHandle, open_path
from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.fs.walk import Entry, walk
from inboxd.spool.layout import CLAIMED_MODE, split_path
from inboxd.spool.outputs import (
    FILES,
    OUTPUTS,
    begin_run,
    ignoring_what_is_gone,
    is_output,
    keep_run,
    key_of,
    read_mark,
    version_of,
)

_CHUNK_BYTES = 1024 * 1024


def save_checkpoint(disk: Disk, parcel_folder: Fd, run: bytes, path: bytes, label: bytes) -> bytes:
    """Keep a run as what a step has made of a file; return a new run with copies of it. Raises OSError."""
    name = key_of(path) + b"." + label
    # If we die here, or below: the step has made a checkpoint, or it is repeated.
    with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        keep_run(disk, parcel_folder, outputs, run.split(b"/")[1], name)
    return _copy_run(disk, parcel_folder, name, path)


def resume(disk: Disk, parcel_folder: Fd, path: bytes, labels: Sequence[bytes]) -> tuple[int, bytes | None]:
    """Return how many steps need not be repeated, and a run with copies of what they have made; 0 and None if all do.

    ``labels`` are those of the steps in order. A checkpoint of another version of the file does not count. Raises OSError.
    """
    with ignoring_what_is_gone(), closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        for number in range(len(labels), 0, -1):
            name = key_of(path) + b"." + labels[number - 1]
            mark = read_mark(disk, outputs, name)
            if mark and mark.version == version_of(disk, parcel_folder, path):
                return number, _copy_run(disk, parcel_folder, name, path)
    return 0, None


def _copy_run(disk: Disk, parcel_folder: Fd, name: bytes, path: bytes) -> bytes:
    run = begin_run(disk, parcel_folder, path)
    source_parts, target_parts = (OUTPUTS, name, FILES), tuple(run.split(b"/"))
    with (
        closing(disk, open_path(disk, parcel_folder, source_parts)) as source,
        closing(disk, open_path(disk, parcel_folder, target_parts)) as top,
        DirHandle(disk, top, CLAIMED_MODE) as target,
    ):
        for entry in walk(disk, source):
            if is_output(disk, entry):
                _copy(disk, entry, target)
    return run


def _copy(disk: Disk, entry: Entry, target: DirHandle) -> None:
    parts, name = split_path(entry.path)
    at, _ = target.open(parts)
    mode = disk.stat(entry.at, entry.name).mode & 0o777
    with (
        closing(disk, disk.open_file(entry.at, entry.name)) as file,
        closing(disk, disk.create(at, name, mode)) as copy,
    ):
        while chunk := disk.read(file, _CHUNK_BYTES):
            disk.write(copy, chunk)
