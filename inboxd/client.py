"""For the tasks of other Celery apps: opens the file that their argument ``file``, a dictionary, is about."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inboxd.fs.syscalls import Disk, closing
from inboxd.messaging.file_stream import open_stream
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.payload import FilePart, Parcel


def open(file: Mapping[str, Any]) -> InboxFile:  # noqa: A001 - called as inboxd.client.open
    """Return the file that a task was sent, as the InboxFile that a handler of inboxd's own gets; close it, or use ``with``.

    Raises OSError if the dictionary has no content, and the file at ``path`` can't be opened: on another host, or as a user who
    may not read claimed/. Outputs can't be made of it.
    """
    path = os.fsencode(file["path"])
    stream = _open_path(path) if file["stream"] is None else io.BytesIO(file["stream"])
    folder, parcel, shown = path.partition(f"/{file['parcel']}/".encode())
    headers = {key: value for key, value in file["headers"].items() if key not in ("Content-Type", "Content-Length")}
    part = FilePart(shown, file["content_type"], file["content_length"], headers, None)
    message = Parcel(file["parcel"], file["inbox"], "", b"/", (part,))
    return InboxFile(part, message, stream, Path(os.fsdecode(folder + parcel)), file["attempt"])


def _open_path(path: bytes) -> io.BufferedIOBase:
    disk, folder, name = Disk(), *os.path.split(path)
    with closing(disk, disk.open_root(Path(os.fsdecode(folder)))) as opened:
        return open_stream(disk, disk.open_file(opened, name))[1]
