"""What one call of a handler makes of a file: in a folder that is made when it is first asked for, and committed at the end."""

import io
import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from inboxd.fs.syscalls import Disk, Fd
from inboxd.spool.layout import split_path
from inboxd.spool.outputs import begin_run, commit_run, discard_run


class Output(io.BufferedRandom):
    """An open binary file that a handler makes; ``path`` is where it is until the handler returns."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x+"))
        self.path = path


class OutputRun(ABC):
    """The outputs of one call."""

    def __init__(self) -> None:
        self._open: list[Output] = []

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

    @abstractmethod
    def commit(self) -> None:
        """Have the outputs delivered with the file. Raises OSError."""

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

    def commit(self) -> None:
        """Have the outputs delivered with the file. Raises OSError."""
        if self._run is not None:
            commit_run(self._disk, self._open_parcel(), self._run)

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

    def commit(self) -> None:
        """Leave the outputs where they are, for the test to look at."""

    def discard(self) -> None:
        """Leave the outputs where they are, for the test to look at."""
