"""The file object that a handler gets, with the interface of a web framework's uploaded file."""

import contextlib
import errno
import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self, cast

from inboxd.config.output_rules import DEFAULT_OUTPUTS
from inboxd.content.detect import EMPTY, detect
from inboxd.fs.owners import find_owner_name
from inboxd.fs.syscalls import Disk, closing
from inboxd.messaging.content_type import guess_content_type
from inboxd.messaging.file_stream import file_id, open_stream
from inboxd.messaging.output_names import name_outputs
from inboxd.messaging.output_run import Output, OutputRun, TemporaryRun
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.messaging.stream_reader import StreamReader
from inboxd.messaging.temporary_copy import make_temporary_copy, remove_temporary_copy
from inboxd.messaging.upload_headers import UploadHeaders, Value, parse_content_type
from inboxd.messaging.upload_views import AsyncInboxFile, NamedInboxFile

if TYPE_CHECKING:
    from _typeshed import StrPath

_CHUNK_BYTES = 1024 * 1024
_NO_PARCEL = "0" * 28


class Owner(NamedTuple):
    """Who dropped a file: the ``uid`` and, if the folders' host knows the user, the ``name``."""

    uid: int
    name: str | None


class InboxFile(StreamReader):
    """One dropped file, open for reading in binary mode.

    A binary file object, which ``io.TextIOWrapper``, ``zipfile`` and ``email`` accept. Code for Werkzeug's FileStorage works
    with it unchanged, as does code for Django's UploadedFile, except for its ``name``: that is in ``as_django()``. For
    ``async def`` handlers, ``as_starlette()`` has the coroutines of Starlette's UploadFile. inboxd closes the file when the
    handler returns.

    Attributes, str unless noted:

    - ``filename``: the name without folders. ``relative_path``: the path below inbox/, with ``/``. In both, a byte that is not
      UTF-8 is a surrogate (os.fsencode returns the bytes). ``raw_filename``: the name as bytes.
    - ``id``: the same at every attempt; ``sha256``: hex; ``size`` and ``content_length``: bytes (int).
    - ``content_type``, ``mimetype``, ``mimetype_params`` (dict), ``charset`` (str or None), ``headers`` (a mapping without
      regard to case: Content-Type, Content-Length, id, mtime and claimed-at in Unix seconds).
    - ``inbox`` (and ``name``, as a form's field), ``parcel``, ``attempt`` (int: 1, 2 …).
    - ``owner``: an Owner, or None if unknown. ``path``: a Path, None on another host.
    - ``stream``: the open binary file, for code that needs a real one.

    Reading raises ValueError after ``close``, and OSError if the disk fails.
    """

    def __init__(
        self, part: FilePart, parcel: Parcel, stream: io.BufferedIOBase, folder: Path | None, attempt: int,
        outputs: OutputRun | None = None, output_template: str = DEFAULT_OUTPUTS,
    ) -> None:  # fmt: skip
        """``folder`` is the parcel's folder in claimed/, None on another host; ``outputs`` is what is made of the file.

        ``output_template`` names it: the setting ``outputs``.
        """
        super().__init__(stream)
        self._outputs = outputs
        self._output_template = output_template
        self.name = parcel.inbox
        self.raw_filename = part.filename.rpartition(b"/")[2]
        self.filename = self.raw_filename.decode("utf-8", "surrogateescape")
        self.relative_path = part.filename.decode("utf-8", "surrogateescape")
        self._type_by_name = part.content_type
        self.content_length = part.content_length
        self.id = str(part.headers["id"])
        self.inbox = parcel.inbox
        self.parcel = parcel.id
        self._folder = folder
        self.attempt = attempt
        self._own_headers = part.headers
        self._sha256 = str(part.headers["sha256"]) if "sha256" in part.headers else None
        self._temporary_copy: Path | None = None
        self._is_kept_open = False

    @classmethod
    def of(
        cls,
        path: "StrPath",
        *,
        id: str | None = None,  # noqa: A002 - the attribute's name
        inbox: str = "test",
        parcel: str = _NO_PARCEL,
        attempt: int = 1,
        relative_path: str | None = None,
        sha256: str | None = None,
        owner: Owner | None = None,
    ) -> Self:
        """Return an InboxFile of any file, for unit tests of handlers: ``book(InboxFile.of("tests/a.pdf", attempt=2))``.

        What is not given is what inboxd would say of the file. Raises OSError if it is no file, or can't be read.
        """
        disk = Disk()
        real_path = Path(disk.real_path(Path(path)))
        with closing(disk, disk.open_root(real_path.parent)) as folder:
            stat, stream = open_stream(disk, disk.open_file(folder, bytes(Path(real_path.name))))
        shown = bytes(Path(relative_path if relative_path is not None else Path(path).name))
        uid, name = owner or Owner(stat.uid, find_owner_name(stat.uid))
        headers: dict[str, Value] = {
            "id": id or file_id(inbox, shown, stat),
            "mtime": stat.mtime_ns / 1e9,
            "claimed-at": stat.mtime_ns / 1e9,
            "uid": uid,
        }
        headers |= {"sha256": sha256} if sha256 else {}
        headers |= {"owner": name} if name else {}
        part = FilePart(shown, guess_content_type(shown), stat.size, headers, None)
        file = cls(part, Parcel(parcel, inbox, "", b"/", (part,)), stream, None, attempt, TemporaryRun())
        file.path = real_path
        return file

    @cached_property
    def path(self) -> Path | None:
        """The file's path, None on another host. For reading only: inboxd moves the file to done/ or failed/."""
        return None if self._folder is None else self._folder / self.relative_path

    @cached_property
    def headers(self) -> UploadHeaders:
        """The headers of an upload, and inboxd's own."""
        upload: dict[str, Value] = {"Content-Type": self.content_type, "Content-Length": str(self.content_length)}
        return UploadHeaders({**upload, **self._own_headers})

    @property
    def owner(self) -> Owner | None:
        """To whom the file belonged when it was claimed; None if that is not known."""
        headers: Mapping[str, Any] = self._own_headers
        uid, name = headers.get("uid"), headers.get("owner")
        return Owner(uid, name if isinstance(name, str) else None) if isinstance(uid, int) else None

    @cached_property
    def content_type(self) -> str:
        """The content type, detected from the content on first use; the position of ``stream`` does not change.

        Of a closed file that has content, it is a guess by the name.
        """
        if self.closed:
            return self._type_by_name if self.size else EMPTY
        return detect(self.stream, self.filename)

    @property
    def mimetype(self) -> str:
        """The content type without parameters, in lower case."""
        return parse_content_type(self.content_type)[0]

    @property
    def mimetype_params(self) -> dict[str, str]:
        """The content type's parameters, as {"charset": "utf-8"}."""
        return parse_content_type(self.content_type)[1]

    @property
    def content_type_extra(self) -> dict[str, str]:
        """The content type's parameters, by Django's name."""
        return self.mimetype_params

    @property
    def charset(self) -> str | None:
        """The charset that the content type names, or None."""
        return self.mimetype_params.get("charset")

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.content_length

    @property
    def file(self) -> IO[bytes]:
        """The open binary file, by Django's name."""
        return cast("IO[bytes]", self.stream)

    @property
    def sha256(self) -> str:
        """The content's SHA-256 in hex, computed on first use; the position of ``stream`` does not change."""
        if self._sha256 is None:
            position = self.tell()
            digest = hashlib.sha256()
            for chunk in self.chunks():
                digest.update(chunk)
            self.seek(position)
            self._sha256 = digest.hexdigest()
        return self._sha256

    # the interface of Werkzeug's FileStorage and Django's UploadedFile

    def save(self, dst: "StrPath | IO[bytes]", buffer_size: int = 16_384) -> None:
        """Copy the file, from its position on, to a path or into an open binary file."""
        if hasattr(dst, "write"):
            shutil.copyfileobj(self.stream, cast("IO[bytes]", dst), buffer_size)
            return
        with open(cast("str", dst), "wb") as target:  # noqa: PTH123 - the handler chooses the path
            shutil.copyfileobj(self.stream, target, buffer_size)

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the whole content in chunks of ``chunk_size`` bytes (1 MiB), from the beginning."""
        self.seek(0)
        while chunk := self.read(chunk_size or _CHUNK_BYTES):
            yield chunk

    def multiple_chunks(self, chunk_size: int | None = None) -> bool:
        """Return whether ``chunks`` yields more than one chunk."""
        return self.size > (chunk_size or _CHUNK_BYTES)

    def open(self, mode: str | None = None) -> Self:
        """Return this file, at its beginning. Raises ValueError if it is closed, or for a mode that writes."""
        if mode not in (None, "r", "rb"):
            raise ValueError(f"{self.filename}: mode {mode!r}: a dropped file is only read, in binary mode")
        if self.closed:
            raise ValueError(f"{self.filename} is closed, and can't be opened again: read it before it is closed")
        self.seek(0)
        return self

    def temporary_file_path(self) -> str:
        """Return the path of a copy, made at the first call, that may be changed and moved; it is removed after the handler.

        Raises OSError if there is no room for it. To only read the file where it is, use ``path``.
        """
        if self._temporary_copy is None:
            position = self.tell()
            self.seek(0)
            self._temporary_copy = make_temporary_copy(self.file, self.filename)
            self.seek(position)
        return str(self._temporary_copy)

    @property
    def can_have_outputs(self) -> bool:
        """Whether outputs can be made of the file: not by the task of another Celery app."""
        return self._outputs is not None

    @property
    def outputs_folder(self) -> Path:
        """A folder for what the handler makes of the file: what is in it when it returns goes to out/, with the file to done/.

        Raises OSError if there is no room for it. A worker that does not see the folders sends back at most 256 KiB.
        """
        return self._outputs_run.folder

    @property
    def _outputs_run(self) -> OutputRun:
        if self._outputs is None:
            raise OSError(errno.EOPNOTSUPP, "the task of another Celery app can't deliver outputs")
        return self._outputs

    def output(self, name: str) -> Output:
        """Return a new open binary file, whose ``path`` others may use; it goes to out/ when the handler returns.

        Whatever was made is removed if the handler raises. Raises ValueError for a name with "..", FileExistsError for one that
        was used before, and OSError as ``outputs_folder``.
        """
        return self._outputs_run.open(name)

    def close_outputs(self, *, is_done: bool) -> None:
        """Have the outputs delivered, or removed; inboxd calls this after the handler. Raises OSError."""
        if self._outputs is not None:
            self._outputs.close()
            if is_done:
                claimed_at = float(self._own_headers.get("claimed-at", 0.0))
                self._outputs.commit(partial(name_outputs, self._output_template, self, claimed_at))
            else:
                self._outputs.discard()

    def as_django(self) -> NamedInboxFile:
        """Return this file with Django's meaning of ``name``: the file's, not the form field's."""
        return NamedInboxFile(self)

    def as_starlette(self) -> AsyncInboxFile:
        """Return this file with the interface of Starlette's UploadFile, for ``async def`` handlers."""
        return AsyncInboxFile(self)

    @contextlib.contextmanager
    def _kept_open(self) -> Iterator[None]:
        """Let ``close`` leave the stream open for a with block: the next step of a chain reads it, too."""
        self._is_kept_open = True
        try:
            yield
        finally:
            self._is_kept_open = False

    def close(self) -> None:
        """Close the stream; the file is neither moved nor deleted. A temporary copy is removed."""
        if self._temporary_copy is not None:
            remove_temporary_copy(self._temporary_copy)
            self._temporary_copy = None
        if not self._is_kept_open:
            super().close()

    def __len__(self) -> int:
        """Return the size, as Django's files do."""
        return self.size

    def __bool__(self) -> bool:
        """Return True, for an empty file, too: it has a name."""
        return True

    def __repr__(self) -> str:
        return f"<InboxFile {self.relative_path!r}, {self.size} bytes>"


def outputs_of(file: InboxFile) -> OutputRun | None:
    """Return what a handler has made of a file; None if nothing can be."""
    return file._outputs  # noqa: SLF001 - inboxd's own, and no attribute for handlers
