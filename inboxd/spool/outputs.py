"""What handlers make of files: collected in the parcel until their file is filed; delivery.py takes it from there.

Each call of a handler that makes something has a folder of its own, a *run*. When the handler returns, the run is committed by
a rename to the name of its file's key: the first one wins, and later runs are removed. A committed run belongs to its file for
as long as the file is claimed: if the file goes to done/, its outputs follow to out/; if elsewhere, they are removed first.

A run is ``.inboxd-out/<key>.<token>``, or ``.inboxd-out/<key>`` once it is committed. In it ``files`` is what the handler sees,
``named`` what has got another name by a template, and ``of`` says of which file it is, and of which version. A delivered run
stays until its parcel is closed, so that a call that ends later can't be committed.
"""

import contextlib
import errno
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgpack

from inboxd.fs.folders import DirHandle, open_path, opened_path
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.remove import OWNER_FILE, OWNER_FOLDER, open_up, remove_tree
from inboxd.fs.rename import exists, move_to_free_name
from inboxd.fs.syscalls import Disk, Fd, FileKind, closing
from inboxd.fs.walk import Entry, walk
from inboxd.spool.layout import CLAIMED_MODE, Folders, split_path

OUTPUTS, CLOSING = TEMP_PREFIX + b"out", TEMP_PREFIX + b"out-closing"
"""The folder in a parcel with the runs; its name while they are removed. No dropped file has these names."""
FILES, NAMED = b"files", b"named"
Namer = Callable[[list[bytes]], Mapping[bytes, bytes]]
"""Returns the paths below the folder of the outputs, by the paths that the handler has given; those it leaves out stay."""

_OUTPUT_MODE = 0o666
_MARK, _MARK_MODE, _MARK_BYTES_MAX = b"of", 0o600, 1 << 16
KEY_PATTERN = re.compile(rb"[0-9a-f]{32}")
_GONE = (errno.ENOENT, errno.ENOTDIR)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_ATTEMPTS = 5


class _Mark(NamedTuple):
    """Of which file a run is: its path, and its size and mtime when the run began; None if it was not there."""

    path: bytes
    version: tuple[int, int] | None


def begin_run(disk: Disk, parcel_folder: Fd, path: bytes) -> bytes:
    """Make a folder for what a handler makes of a file; return its path in the parcel. Raises OSError."""
    mark = _Mark(path, version_of(disk, parcel_folder, path))
    # If we die in this function or in the handler: a run that is not committed, which goes with its parcel.
    with contextlib.suppress(FileExistsError):
        disk.mkdir(parcel_folder, OUTPUTS, CLAIMED_MODE)
    run = key_of(path) + b"." + secrets.token_hex(8).encode()
    with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        disk.mkdir(outputs, run, CLAIMED_MODE)
        with closing(disk, disk.open_folder(outputs, run)) as folder:
            disk.mkdir(folder, FILES, CLAIMED_MODE)
            with closing(disk, disk.create(folder, _MARK, _MARK_MODE)) as file:
                disk.write(file, msgpack.packb(mark))
    return b"/".join((OUTPUTS, run, FILES))


def commit_run(disk: Disk, parcel_folder: Fd, run: bytes, namer: Namer | None = None) -> list[bytes]:
    """Make a run's outputs those of its file, and return their paths below the folder of the outputs.

    [] if an earlier run was committed, or if there are none: then this one is removed.

    Outputs of an older version of the file give way to those of the present one. The outputs are on the storage device before.
    ``run`` is what ``begin_run`` returned, and ``namer`` gives the outputs other names. Raises OSError.
    """
    name = run.split(b"/")[1]
    try:
        with closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
            mark = read_mark(disk, outputs, name)
            if mark and _sync(disk, outputs, name, namer):
                present = version_of(disk, parcel_folder, mark.path)
                made = sorted(list_paths(disk, outputs, name, mark.path))
                if _rename_run(disk, outputs, name, key_of(mark.path), mark, present):
                    return made
            remove_tree(disk, outputs, name)
    except OSError as error:
        # without the folder of all runs, the parcel was closed meanwhile: another run was filed
        if error.errno not in _GONE or exists(disk, parcel_folder, OUTPUTS):
            raise
    return []


def keep_run(disk: Disk, parcel_folder: Fd, outputs: Fd, run: bytes, name: bytes) -> bool:
    """Give a run a name under which it is found again; return False if another one of the present version has it, and is left.

    Then, and if its mark is damaged, the run is removed. Raises OSError.
    """
    if mark := read_mark(disk, outputs, run):
        _sync(disk, outputs, run, None)
        if _rename_run(disk, outputs, run, name, mark, version_of(disk, parcel_folder, mark.path)):
            return True
    remove_tree(disk, outputs, run)
    return False


def _rename_run(disk: Disk, outputs: Fd, run: bytes, name: bytes, mark: _Mark, present: tuple[int, int] | None) -> bool:
    """Give a run a name, unless another one of the same version of the file, or of the ``present`` one, has it."""
    for _ in range(_ATTEMPTS):
        try:
            # If we die here: the outputs are committed, or the handler is called again.
            disk.rename_over(outputs, run, outputs, name)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            other = read_mark(disk, outputs, name)
            if other is None or present is None or other.version in (mark.version, present):
                return False
            # of an older version of the file, which was written to after its worker was killed
            remove_tree(disk, outputs, name)
        else:
            return True
    return False


def store_outputs(disk: Disk, folders: Folders, parcel: str, path: bytes, outputs: Iterable[tuple[bytes, bytes]]) -> None:
    """Commit what a worker elsewhere has made of a claimed file: paths below out/, and contents. Raises OSError."""
    with ignoring_what_is_gone(), opened_path(disk, folders.claimed, (parcel.encode(),)) as parcel_folder:
        run = begin_run(disk, parcel_folder, path)
        with closing(disk, open_path(disk, parcel_folder, tuple(run.split(b"/")))) as files:
            numbered = {}
            for number, (wanted, content) in enumerate(outputs):
                numbered[b"%d" % number] = wanted
                with closing(disk, disk.create(files, b"%d" % number, _OUTPUT_MODE)) as file:
                    disk.write(file, content)
        commit_run(disk, parcel_folder, run, lambda _: numbered)


def discard_run(disk: Disk, parcel_folder: Fd, run: bytes) -> None:
    """Remove the outputs of a call that failed. Raises OSError."""
    with ignoring_what_is_gone(), closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs:
        remove_tree(disk, outputs, run.split(b"/")[1])


def discard_outputs(disk: Disk, folders: Folders, parcel: str, path: bytes) -> None:
    """Remove the committed outputs of a claimed file, before it goes anywhere but to done/. Raises OSError.

    If the file is not claimed any more, another process has filed it, and delivers them.
    """
    with (
        ignoring_what_is_gone(),
        opened_path(disk, folders.claimed, (parcel.encode(),)) as parcel_folder,
        closing(disk, disk.open_folder(parcel_folder, OUTPUTS)) as outputs,
    ):
        if version_of(disk, parcel_folder, path):
            # If we die here: outputs are left of a file that is still claimed, whose handler is called again.
            remove_tree(disk, outputs, key_of(path))


def _sync(disk: Disk, outputs: Fd, run: bytes, namer: Namer | None) -> bool:
    """Make a run's outputs readable, name them, and flush them to the storage device; return whether there is one."""

    def enter(folder: Entry) -> bool:
        open_up(disk, folder, OWNER_FOLDER)
        return True

    has_outputs = False
    with closing(disk, open_path(disk, outputs, (run,))) as folder:
        open_up(disk, Entry(folder, b"", FILES, is_folder=True), OWNER_FOLDER)
        for entry in walk(disk, folder, enter):
            if entry.path == _MARK or not is_output(disk, entry):
                continue
            has_outputs = True
            open_up(disk, entry, OWNER_FILE)
            with closing(disk, disk.open_file(entry.at, entry.name)) as file:
                disk.fsync(file)
        if has_outputs and namer:
            _give_names(disk, folder, namer)
        if has_outputs:
            disk.fsync(folder)
    return has_outputs


def _give_names(disk: Disk, run: Fd, namer: Namer) -> None:
    """Move a run's outputs to the names that a template gives them; those that get the same name are numbered."""
    with closing(disk, disk.open_folder(run, FILES)) as files:
        paths = namer([entry.path for entry in walk(disk, files) if is_output(disk, entry)])
        if not paths:
            return
        disk.mkdir(run, NAMED, CLAIMED_MODE)
        with closing(disk, disk.open_folder(run, NAMED)) as top, DirHandle(disk, top, CLAIMED_MODE) as named:
            for entry in walk(disk, files):
                if entry.path in paths:
                    parts, name = split_path(paths[entry.path])
                    dst_at, _ = named.open(parts)
                    move_to_free_name(disk, entry.at, entry.name, dst_at, name)


def list_outputs(disk: Disk, outputs: Fd, run: bytes, source: bytes) -> Iterator[tuple[Entry, tuple[bytes, ...]]]:
    """Yield what is in a run, and its path below the destination: as named, or in the sub-folder of its source."""
    folder_parts, _ = split_path(source)
    for folder, prefix in ((NAMED, ()), (FILES, folder_parts)):
        with ignoring_what_is_gone(), opened_path(disk, outputs, (run, folder)) as files:
            for entry in walk(disk, files):
                if not entry.is_folder:
                    parts, name = split_path(entry.path)
                    yield entry, (*prefix, *parts, name)


def list_paths(disk: Disk, outputs: Fd, run: bytes, source: bytes) -> Iterator[bytes]:
    """Yield the paths that a run's files are to have below their destination."""
    return (b"/".join(parts) for entry, parts in list_outputs(disk, outputs, run, source) if is_output(disk, entry))


def has_outputs(disk: Disk, outputs: Fd, run: bytes) -> bool:
    """Return whether a run has a file."""
    return any(is_output(disk, entry) for entry, _ in list_outputs(disk, outputs, run, b"x"))


def is_output(disk: Disk, entry: Entry) -> bool:
    """Return whether an entry of a run is a file: links and devices are not delivered."""
    try:
        return not entry.is_folder and disk.stat(entry.at, entry.name).kind is FileKind.FILE
    except FileNotFoundError:  # another process has moved it
        return False


def read_mark(disk: Disk, outputs: Fd, run: bytes) -> _Mark | None:
    """Return of which file a run is; None for one that is being made or removed, or that a handler has damaged."""
    with (
        ignoring_what_is_gone(),
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


def version_of(disk: Disk, parcel_folder: Fd, path: bytes) -> tuple[int, int] | None:
    """Return size and mtime of a claimed file, None if it is not there."""
    parts, name = split_path(path)
    with ignoring_what_is_gone(), opened_path(disk, parcel_folder, parts) as at:
        stat = disk.stat(at, name)
        return stat.size, stat.mtime_ns
    return None


@contextlib.contextmanager
def ignoring_what_is_gone() -> Iterator[None]:
    """End a with block quietly when an entry is missing: another process has moved or removed it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def key_of(path: bytes) -> bytes:
    """Return the name of a file's committed run."""
    return hashlib.blake2b(path, digest_size=16).hexdigest().encode()
