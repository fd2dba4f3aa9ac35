"""Opens a parcel's files for handlers."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Self

from inboxd.config.output_rules import DEFAULT_OUTPUTS
from inboxd.errors import StageUnavailable, TransientError
from inboxd.fs.folders import open_path, opened_path
from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.messaging.file_stream import open_stream
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.output_run import OutputRun, ParcelRun, SentRun
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import CLAIMED, split_path
from inboxd.stage.staged_copy import StagedCopy
from inboxd.stage.staged_stream import StagedStream
from inboxd.stage.store import Store


class ParcelReader:
    """Opens the files of one parcel; keeps its folder in claimed/ open after the first file by reference."""

    def __init__(
        self, disk: Disk, parcel: Parcel, *, on_this_host: bool, attempt: int, output_template: str = DEFAULT_OUTPUTS,
        store: Store | None = None,
    ) -> None:  # fmt: skip
        """Prepare reading. ``on_this_host`` tells whether claimed/ is local; ``attempt`` is 1, 2 …, for the handlers.

        ``output_template`` names what they make. From the ``store`` other hosts read large files.
        """
        self._disk = disk
        self._parcel = parcel
        self._attempt = attempt
        self._output_template = output_template
        self._root = Path(parcel.root.decode("utf-8", "surrogateescape"))
        self._folder = self._root / CLAIMED.decode() / parcel.id if on_this_host else None
        self._folder_fd: Fd | None = None
        self._store = store
        self._staged: StagedStream | None = None
        self._open_fault: StageUnavailable | None = None

    @property
    def store_fault(self) -> StageUnavailable | None:
        """Why the file that was opened last could not be read from the store; None if it could, or came from elsewhere."""
        return self._staged.fault if self._staged else self._open_fault

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._folder_fd is not None:
            self._disk.close(self._folder_fd)
            self._folder_fd = None

    def open(self, part: FilePart) -> InboxFile:
        """Open one file: from the message, from the store, or from claimed/ without following links.

        Raise FileNotFoundError if the file is missing in claimed/, TransientError if the inbox can't be reached from this host.
        """
        self._staged, self._open_fault = None, None
        if part.stream is not None:
            return self._make(part, io.BytesIO(part.stream))
        if part.staged and not self._folder:
            if self._store:
                return self._make(part, self._open_staged(self._store, part.staged, part.content_length))
            return self._open_without_store(part)
        return self._open_claimed_file(part)

    def _open_without_store(self, part: FilePart) -> InboxFile:
        """Open a file where it is claimed, if this host has the folders mounted. Raises StageUnavailable."""
        try:
            return self._open_claimed_file(part)
        except (OSError, TransientError):
            self._open_fault = StageUnavailable("the settings of this worker have no [stage], and it does not see the folders")
            raise self._open_fault from None

    def _open_claimed_file(self, part: FilePart) -> InboxFile:
        parts, name = split_path(part.filename)
        with opened_path(self._disk, self._open_folder(), parts) as at:
            file = self._disk.open_file(at, name)
        stat, stream = open_stream(self._disk, file)
        if (stat.size, stat.mtime_ns / 1e9) != (part.content_length, part.headers.get("mtime")):
            # the file was written to after it was packed, so that its SHA-256 is outdated
            headers = {key: value for key, value in part.headers.items() if key != "sha256"}
            part = replace(part, content_length=stat.size, headers=headers)
        return self._make(part, stream)

    def _open_staged(self, store: Store, copy: StagedCopy, size: int) -> io.BufferedReader:
        self._staged, reader = store.open(self._parcel.host, self._parcel.id, copy, size)
        return reader

    def _make(self, part: FilePart, stream: io.BufferedIOBase) -> InboxFile:
        run: OutputRun = SentRun(part.filename)
        if self._folder:
            run = ParcelRun(self._disk, self._open_folder, self._folder, part.filename)
        return InboxFile(part, self._parcel, stream, self._folder, self._attempt, run, self._output_template)

    def _open_folder(self) -> Fd:
        """Return the descriptor of the parcel's folder, open until the end. Raises TransientError, OSError."""
        if self._folder_fd is None:
            self._folder_fd = self._open_claimed()
        return self._folder_fd

    def _open_claimed(self) -> Fd:
        try:
            root = self._disk.open_root(self._root)
        except OSError as error:
            raise TransientError(f"{self._root} can't be reached from this host: {error.strerror}") from error
        with closing(self._disk, root):
            return open_path(self._disk, root, (CLAIMED, self._parcel.id.encode()))
