"""What one call of a handler makes of a file: in a folder that is made when it is first asked for, and committed at the end."""

import errno
import io
import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from inboxd.fs.syscalls import Disk, Fd
from inboxd.spool.checkpoints import resume, save_checkpoint
from inboxd.spool.layout import split_path
from inboxd.spool.outputs import Namer, begin_run, commit_run, discard_run

SENT_BYTES_MAX, SENT_FILES_MAX = 256 * 1024, 100
"""Maximum size and number of one file's outputs that a worker on another host sends back."""


class Output(io.BufferedRandom):
    """An open binary file that a handler makes; ``path`` is where it is until the handler returns."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x+"))
        self.path = path


class OutputRun(ABC):
    """The outputs of one call."""

    def __init__(self) -> None:
        self._open: list[Output] = []
        self.made: list[bytes] = []
        """The paths of committed outputs below their folder."""
        self.sent: tuple[tuple[bytes, bytes], ...] = ()
        """The path and the content of those that are sent back to the folders' host."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder of the outputs. Raises OSError if it can't be made."""

    def open(self, name: str) -> Output:
        """Create an output and open it. Raises ValueError for a name that leads out of the folder, and OSError."""
        try:
            parts, _ = split_path(os.fsencode(name))
        except ValueError:
            raise ValueError(f"{name!r}: the name of an output is a path within the folder of the outputs") from None
        path = self.folder / name
        if parts:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._open.append(Output(path))
        return self._open[-1]

    def close(self) -> None:
        """Close the outputs that are still open. Raises OSError if what was written can't be stored."""
        for output in self._open:
            output.close()
        self._open.clear()

    def checkpoint(self, label: bytes) -> None:
        """Keep what a step of a chain has made, and go on with it, or with copies of it. Raises OSError."""
        del label
        self.close()

    def resume(self, labels: Sequence[bytes]) -> int:
        """Return how many steps of a chain, of these labels, an earlier attempt has done; go on with what they have made."""
        del labels
        return 0

    @abstractmethod
    def commit(self, namer: Namer) -> None:
        """Have the outputs delivered with the file, under the names that ``namer`` gives them. Raises OSError."""

    @abstractmethod
    def discard(self) -> None:
        """Remove the outputs. Raises OSError."""


class ParcelRun(OutputRun):
    """The outputs of a claimed file, in its parcel."""

    def __init__(self, disk: Disk, open_parcel: Callable[[], Fd], parcel_path: Path, path: bytes) -> None:
        """``open_parcel`` returns the descriptor of the parcel's folder, whose path is ``parcel_path``, and keeps it open."""
        super().__init__()
        self._disk = disk
        self._open_parcel = open_parcel
        self._parcel_path = parcel_path
        self._path = path
        self._run: bytes | None = None

    @property
    def folder(self) -> Path:
        """The folder of the outputs. Raises OSError if it can't be made."""
        if self._run is None:
            self._run = begin_run(self._disk, self._open_parcel(), self._path)
        return self._parcel_path / os.fsdecode(self._run)

    def checkpoint(self, label: bytes) -> None:
        """Keep what a step of a chain has made, and go on with copies of it. Raises OSError."""
        self.close()
        parcel = self._open_parcel()
        run = self._run or begin_run(self._disk, parcel, self._path)
        self._run = save_checkpoint(self._disk, parcel, run, self._path, label)

    def resume(self, labels: Sequence[bytes]) -> int:
        """Return how many steps of a chain, of these labels, an earlier attempt has done; go on with what they have made."""
        done, self._run = resume(self._disk, self._open_parcel(), self._path, labels)
        return done

    def commit(self, namer: Namer) -> None:
        """Have the outputs delivered with the file, under the names that ``namer`` gives them. Raises OSError."""
        if self._run is not None:
            self.made = commit_run(self._disk, self._open_parcel(), self._run, namer)

    def discard(self) -> None:
        """Remove the outputs. Raises OSError."""
        if self._run is not None:
            discard_run(self._disk, self._open_parcel(), self._run)


class TemporaryRun(OutputRun):
    """The outputs of a file in a unit test, which last as long as the file object."""

    @cached_property
    def folder(self) -> Path:
        """The folder of the outputs. Raises OSError if it can't be made."""
        folder = tempfile.mkdtemp(prefix="inboxd-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def commit(self, namer: Namer) -> None:
        """Leave the outputs where they are, for the test to look at."""

    def discard(self) -> None:
        """Leave the outputs where they are, for the test to look at."""


class SentRun(TemporaryRun):
    """The outputs of a file on a worker that does not see the folders: ``sent`` has each one's path below out/ and content."""

    def __init__(self, source: bytes) -> None:
        """``source`` is the path of the file below inbox/."""
        super().__init__()
        self._source = source

    def commit(self, namer: Namer) -> None:
        """Keep the outputs for the message. Raises OSError if they are too large for it."""
        if "folder" not in vars(self):  # nobody has asked for it
            return
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        size = sum(path.stat().st_size for path in paths)
        if size > SENT_BYTES_MAX or len(paths) > SENT_FILES_MAX:
            raise OSError(
                errno.EFBIG,
                f"{len(paths)} outputs of {size} bytes: from a worker that does not see the folders at most {SENT_FILES_MAX} "
                f"with {SENT_BYTES_MAX} bytes can be sent back; have the file worked on where the folders are",
            )
        contents = {os.fsencode(path.relative_to(self.folder)): path.read_bytes() for path in paths}
        names = namer([*contents])
        prefix = b"".join(self._source.rpartition(b"/")[:2])
        self.made = [names.get(name, prefix + name) for name in contents]
        self.sent = tuple((names.get(name, prefix + name), content) for name, content in contents.items())
